"""Text by a Sentence-Transformers model (Reimers & Gurevych, EMNLP 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mgstudy.config.parameters import parameter
from mgstudy.config.pipeline import Template
from mgstudy.data.encoder import Encoded, Encoder, EncoderParameters, Items
from mgstudy.data.sentences import read_sentences
from mgstudy.data.sources.base import Recipe
from mgstudy.errors import InputError
from mgstudy.features.hub import from_hub
from mgstudy.features.packaged import PACKAGE, not_carried, package_folders
from mgstudy.files import absolute
from mgstudy.urls import first_line

_SENTENCES_AT_ONCE = 1024
_FILES = ["*.json", "*.txt", "*.safetensors", "*.model"]


class SentenceTransformer(Encoder):
    """Text, joined from fields by a template, by a Sentence-Transformers model.

    The published pipelines use all-MiniLM-L6-v2 with its default settings (384 columns). The model
    is a local folder, a name on the Hugging Face hub, which is fetched once, or `package:NAME` for
    a Python package that carries a model in its folder `model`. What counts for the cache is the
    content of the model's files. Runs on a GPU where there is one.
    """

    name: ClassVar[str] = "sentence_transformer"
    packages = ("sentence-transformers", "transformers", "torch")

    class Parameters(EncoderParameters):
        template: Template = parameter(..., "text with an item's fields in braces")
        model: str = parameter(
            "sentence-transformers/all-MiniLM-L6-v2",
            "folder, name on the Hugging Face hub, or `package:NAME`",
            min_length=1,
        )
        revision: str | None = parameter(None, "commit, tag or branch of a model on the hub")
        batch_size: int = parameter(64, "texts that are encoded at once", ge=1)
        maximum_tokens: int | None = parameter(
            None, "longer texts are cut; by default what the model was made for", ge=1
        )
        device: str | None = parameter(None, "cpu, cuda, ...; by default a GPU if there is one")

    parameters: Parameters

    def __init__(self, parameters: EncoderParameters, folder: Path | None = None) -> None:
        super().__init__(parameters)
        self.folder = folder

    def resolved(self) -> SentenceTransformer:
        folder, parameters = self._find_folder(), self.parameters
        if folder == absolute(parameters.model):
            # A manifest is read from other folders, too.
            parameters = parameters.model_copy(update={"model": str(folder)})
        return SentenceTransformer(parameters, folder)

    def recipe(self) -> Recipe:
        assert self.folder is not None, "the encoder is resolved first"
        settings = self.parameters.model_dump(include={"template", "maximum_tokens"})
        files = {
            str(path.relative_to(self.folder)): path
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and any(path.match(pattern) for pattern in _FILES)
        }
        return Recipe(settings, files)

    def encode(self, items: Items) -> Encoded:
        sentences, known = read_sentences(items, self.parameters.template)
        if not known.any():
            raise InputError(f"{items.source.item_origin()}: no item has a text to encode")
        model = self._load()

        def encode(batch: Sequence[int]) -> Any:
            return model.encode(
                [sentences[item] for item in batch],
                batch_size=self.parameters.batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
            )

        # Texts of like length are encoded together, so that little is padded.
        order = sorted(np.flatnonzero(known).tolist(), key=lambda item: -len(sentences[item]))
        values = items.encoded_table("encode text", order, _SENTENCES_AT_ONCE, encode)
        return Encoded(values, known, lambda row, _: f"text of item {items.name(row)!r}")

    def _load(self) -> Any:
        library = _library()
        try:
            model = library.SentenceTransformer(
                str(self.folder),
                device=self.parameters.device,
                local_files_only=True,
                trust_remote_code=False,
            )
        except Exception as error:  # Each kind of damaged model has an error of its own.
            raise InputError(
                f"{self.folder}: cannot be loaded as a model: {first_line(error)}"
            ) from error
        if self.parameters.maximum_tokens is not None:
            model.max_seq_length = self.parameters.maximum_tokens
        return model

    def _find_folder(self) -> Path:
        name = self.parameters.model
        if name.startswith(PACKAGE):
            for folder in package_folders(name):
                if (folder / "model" / "modules.json").exists():
                    return folder / "model"
            raise not_carried(name, "a model")
        local = absolute(name)
        if local.is_dir():
            return local
        if name.startswith((".", "/", "~")):
            raise InputError(f"{local}: no such folder of a model")
        _library()
        full = name if "/" in name else f"sentence-transformers/{name}"
        return from_hub(full, [*_FILES, "*/*"], self.parameters.revision)


def _library() -> Any:
    try:
        import sentence_transformers  # noqa: PLC0415
    except ImportError as error:
        raise InputError(
            "the encoder 'sentence_transformer' needs sentence-transformers; install it with "
            "`pip install 'mgstudy[text]'`, or use 'tfidf_svd'"
        ) from error
    return sentence_transformers
