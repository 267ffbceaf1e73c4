"""Models of the Hugging Face hub: weights and settings, no code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mgstudy.errors import MgstudyError


def from_hub(name: str, files: Sequence[str], revision: str | None = None) -> Path:
    """The folder of a model of the Hugging Face hub, fetched if it is not there yet.

    Args:
        name: Owner and name.
        files: Patterns of the files that are wanted.
        revision: Commit, tag or branch.

    Raises:
        MgstudyError: If it is neither on this machine nor to be fetched.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    wanted: dict[str, Any] = {
        "repo_id": name,
        "revision": revision,
        "allow_patterns": list(files),
        "ignore_patterns": ["onnx/*", "openvino/*", "original/*", "*.bin", "*.h5", "*.ot"],
    }
    try:
        return Path(snapshot_download(**wanted, local_files_only=True))
    except Exception:  # Whatever the copy on this machine lacks, the hub may have.
        try:
            return Path(snapshot_download(**wanted))
        except Exception as error:  # Network, authentication and naming each have their own.
            raise MgstudyError(
                f"model {name!r}: cannot be fetched from the Hugging Face hub: "
                f"{str(error).splitlines()[0]}; give the folder of a downloaded model instead"
            ) from error
