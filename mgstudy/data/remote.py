"""Raw files that lie elsewhere: fetched once into the workspace, and recognised there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fsspec

from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import Progress, locked, written_whole
from mgstudy.fingerprint import fingerprint

_URL = re.compile(r"[a-z][a-z0-9+.-]+://")
_BLOCK = 1 << 22
_VERSION_KEYS = ("size", "etag", "ETag", "mtime", "LastModified", "last_modified", "updated")


class Downloads:
    """Files fetched through fsspec: ``s3://``, ``gs://``, ``https://`` and whatever it knows.

    Args:
        folder: Where they lie.
        progress: Told of the bytes fetched.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder = folder
        self.progress = progress
        self.urls: dict[str, str] = {}
        """Local path to the URL it was fetched from."""

    def localised(self, value: Any) -> Any:
        """A value of a pipeline file in which every URL is the path of what was fetched.

        Raises:
            InputError: If there is nothing at a URL, or what reads it is not installed.
            MgstudyError: If it cannot be reached.
        """
        if isinstance(value, dict):
            return {name: self.localised(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.localised(inner) for inner in value]
        if isinstance(value, str) and _URL.match(value):
            path = str(self.fetch(value))
            self.urls[path] = value
            return path
        return value

    def restored(self, value: Any) -> Any:
        """The reverse of ``localised``."""
        if isinstance(value, dict):
            return {name: self.restored(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.restored(inner) for inner in value]
        return self.urls.get(value, value) if isinstance(value, str) else value

    def fetch(self, url: str) -> Path:
        """Fetch a file, or the files of a folder, unless what lies there is what was fetched."""
        try:
            system, remote = fsspec.core.url_to_fs(url)
            target = self.folder / fingerprint({"url": url})[:16] / Path(remote.rstrip("/")).name
            if system.isdir(remote):
                for entry in system.ls(remote, detail=True):
                    if entry["type"] == "file":
                        self._fetch_file(system, entry["name"], target / Path(entry["name"]).name)
            else:
                self._fetch_file(system, remote, target)
        except FileNotFoundError as error:
            raise InputError(f"{url}: no such file") from error
        except (ImportError, ValueError) as error:
            raise InputError(f"{url}: cannot be read: {error}") from error
        except MgstudyError:
            raise
        except Exception as error:  # Every file system has errors of its own.
            raise MgstudyError(f"{url}: cannot be reached: {error}") from error
        return target

    def _fetch_file(self, system: Any, remote: str, target: Path) -> None:
        info = system.info(remote)
        version = {key: str(info[key]) for key in _VERSION_KEYS if info.get(key) is not None}
        record = target.with_name(f".{target.name}.version")
        with locked(target):
            if target.exists() and record.exists() and json.loads(record.read_text()) == version:
                return
            done, total = 0, int(info.get("size") or 0)
            with system.open(remote, "rb") as source, written_whole(target) as file:
                while block := source.read(_BLOCK):
                    file.write(block)
                    done += len(block)
                    self.progress(f"fetch {target.name}", done, max(total, done))
            with written_whole(record) as file:
                file.write(json.dumps(version).encode())
