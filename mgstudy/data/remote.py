"""Raw files that lie elsewhere: fetched once into the workspace, and recognised there; pipeline
files whose settings name them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import fsspec

from mgstudy.config.pipeline import PipelineConfig, SourceConfig
from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import (
    Progress,
    content_of,
    listed,
    locked,
    no_progress,
    remove_all,
    written_whole,
)
from mgstudy.fingerprint import fingerprint
from mgstudy.urls import expand_url, first_line, recorded_url, redacted

_URL = re.compile(r"[a-z][a-z0-9+.-]+://")
_BLOCK = 1 << 22
_VERSION_KEYS = (
    *("etag", "ETag", "mtime", "LastModified", "last_modified", "Last-Modified", "updated"),
    *("created", "modify", "Content-MD5", "Digest"),
)
"""What file systems call what tells versions of a file apart."""


class Downloads:
    """Files fetched through fsspec: ``s3://``, ``gs://``, ``https://`` and whatever it knows.

    Args:
        folder: Where they lie.
        progress: Told of the bytes fetched.
    """

    def __init__(self, folder: Path, progress: Progress = no_progress) -> None:
        self.folder = folder
        self.progress = progress
        self.urls: dict[str, str] = {}
        """Local path to the URL it was fetched from, as it may be kept."""

    def localised(self, config: PipelineConfig) -> PipelineConfig:
        """A pipeline file in which every URL is the path of what was fetched.

        Raises:
            InputError: If there is nothing at a URL, or what reads it is not installed.
            MgstudyError: If it cannot be reached.
        """
        return with_settings(
            config,
            self._each(self._local, config.source.parameters),
            {
                modality: self._each(self._local, declared.parameters)
                for modality, declared in config.features.items()
            },
        )

    def folders(self, config: PipelineConfig) -> set[Path]:
        """Where what was fetched from the URLs in a pipeline file lies."""
        found = set()

        def note(text: str) -> str:
            if _URL.match(text):
                found.add(self._folder_of(text))
            return text

        declared = [features.parameters for features in config.features.values()]
        self._each(note, [config.source.parameters, *declared])
        return found

    def restored(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A part's settings with URLs again, without secrets, in place of what was fetched from
        them."""
        return {
            name: self._each(lambda text: self.urls.get(text, text), value)
            for name, value in settings.items()
        }

    def _local(self, text: str) -> str:
        if not _URL.match(text):
            return text
        path = str(self.fetch(text))
        self.urls[path] = recorded_url(text)
        return path

    def _folder_of(self, url: str) -> Path:
        return self.folder / fingerprint({"url": recorded_url(url)})[:16]

    def _each(self, change: Callable[[str], str], value: Any) -> Any:
        """A value with a change made to every text in it."""
        if isinstance(value, Mapping):
            return {name: self._each(change, inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._each(change, inner) for inner in value]
        return change(value) if isinstance(value, str) else value

    def fetch(self, url: str) -> Path:
        """Fetch a file, or the files of a folder, unless what lies there is what was fetched; what
        is no longer in the folder is removed here, too."""
        shown = redacted(url)
        try:
            system, remote = fsspec.core.url_to_fs(expand_url(url))
            system.invalidate_cache()  # It may have changed since this process last looked.
            target = self._folder_of(url) / Path(recorded_url(remote.rstrip("/"))).name
            if system.isdir(remote):
                entries = system.ls(remote, detail=True)
                there = [entry["name"] for entry in entries if entry["type"] == "file"]
                for name in there:
                    self._fetch_file(system, name, target / Path(name).name)
                _remove_others(target, {Path(name).name for name in there})
            else:
                self._fetch_file(system, remote, target)
        except FileNotFoundError as error:
            raise InputError(f"{shown}: no such file") from error
        except (ImportError, ValueError) as error:
            raise InputError(f"{shown}: cannot be read: {first_line(error)}") from error
        except MgstudyError:
            raise
        except Exception as error:  # Every file system has errors of its own.
            raise MgstudyError(f"{shown}: cannot be reached: {first_line(error)}") from error
        return target

    def _fetch_file(self, system: Any, remote: str, target: Path) -> None:
        info = system.info(remote)
        told = {key: str(info[key]) for key in _VERSION_KEYS if info.get(key) is not None}
        version = json.dumps({"size": str(info.get("size")), **told}).encode()
        record = version_record(target)
        with locked(target):
            # Of a file of which only the size is known nobody knows whether it has changed.
            if told and target.exists() and content_of(record) == version:
                return
            done, total = 0, int(info.get("size") or 0)
            with system.open(remote, "rb") as source, written_whole(target) as file:
                while block := source.read(_BLOCK):
                    file.write(block)
                    done += len(block)
                    self.progress(f"fetch {target.name}", done, max(total, done))
            with written_whole(record) as file:
                file.write(version)


def version_record(path: Path) -> Path:
    """Where it is noted which version of a file was fetched to ``path``."""
    return path.with_name(f".{path.name}.version")


def _remove_others(folder: Path, names: Collection[str]) -> None:
    """Remove what was fetched from a folder that has these files now."""
    for path in listed(folder):
        if path.name not in names and not path.name.startswith("."):
            with locked(path):
                remove_all([version_record(path), path])


def with_settings(
    config: PipelineConfig, source: Mapping[str, Any], features: Mapping[str, Mapping[str, Any]]
) -> PipelineConfig:
    """A pipeline file with these settings of its source, and of each modality's encoder."""
    return config.model_copy(
        update={
            "source": SourceConfig(kind=config.source.kind, **source),
            "features": {
                modality: declared.model_copy(update=features[modality])
                for modality, declared in config.features.items()
            },
        }
    )
