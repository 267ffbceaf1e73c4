"""Find the parts of one kind: models, gradient strategies, robust methods, sources.

Adding a part is adding one file to its package: nothing lists the files. The file bears the part's
name in lower case, so that one part can be had without importing all; parts that share a file
begin with its name (``amazon_2014`` is in ``amazon.py``). A third-party package adds a part through
an entry point, and a configuration may name one as ``package.module:Class``.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Container, Iterable, Iterator
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from mgstudy.errors import InputError, UnknownNameError, own_line

Part = TypeVar("Part")

_looked_through: list[str] = []
_used: list[str] = []


def look_in(folders: Iterable[Path | str]) -> None:
    """Find the modules of these folders too, those beside a study file for example, where Python
    itself finds none of that name."""
    for folder in map(str, folders):
        if folder not in _looked_through:
            _looked_through.append(folder)


def used_folders() -> tuple[str, ...]:
    """Those in which modules were found, for other processes to look in."""
    return tuple(_used)


def import_named(kind: str, path: str) -> Any:
    """The class that a file names as ``package.module:Class``.

    Args:
        kind: What it is called in messages.
        path: The name.

    Raises:
        InputError: If it cannot be imported; with the line of its code that is wrong.
    """
    module_name, _, class_name = path.partition(":")
    first = module_name.partition(".")[0]
    try:
        if first and first not in sys.modules and importlib.util.find_spec(first) is None:
            _use_folder_of(first)
        return getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        if error.name != first:
            raise _not_imported(kind, path, error) from error
        places = f" or in {' or '.join(_looked_through)}" if _looked_through else ""
        raise InputError(
            f"cannot import {kind} {path!r}: there is no {first}.py on Python's path{places}; put "
            "it beside the file that names it, set PYTHONPATH to its folder, or install its "
            "package (`pip install -e FOLDER`)"
        ) from error
    except Exception as error:  # A module may do anything while it is imported.
        raise _not_imported(kind, path, error) from error


def _not_imported(kind: str, path: str, error: Exception) -> InputError:
    return InputError(f"cannot import {kind} {path!r}: {own_line(error)}{error}")


def _use_folder_of(module: str) -> None:
    for folder in _looked_through:
        if (Path(folder) / f"{module}.py").is_file() or (Path(folder) / module).is_dir():
            # Last: what else lies there stands in for no other module.
            sys.path.append(folder)
            _used.append(folder)
            importlib.invalidate_caches()
            return


class Registry(Generic[Part]):
    """All concrete subclasses of ``base`` found in a package, by their ``name`` attribute.

    Args:
        kind: What a part is called in messages, for example ``"model"``.
        base: The abstract class; a part is a concrete subclass with its own ``name``.
        package: Dotted name of the package whose modules are searched.
        entry_point_group: Entry-point group through which other packages add parts.
    """

    def __init__(self, kind: str, base: type[Part], package: str, entry_point_group: str) -> None:
        self.kind = kind
        self.base = base
        self.package = package
        self.entry_point_group = entry_point_group

    def __iter__(self) -> Iterator[type[Part]]:
        return iter(self._parts.values())

    def names(self) -> list[str]:
        """The names of all parts, sorted without regard to case."""
        return list(self._parts)

    def get(self, name: str) -> type[Part]:
        """Return the part called ``name``, or the class named as ``package.module:Class``.

        Raises:
            UnknownNameError: If no part has that name.
            InputError: If ``package.module:Class`` cannot be imported or is not a part.
        """
        if ":" in name:
            return self._import(name)
        found = self.near(name)
        if name not in found:
            found = self._parts
        if name not in found:
            raise UnknownNameError(self.kind, name, found)
        return found[name]

    def near(self, label: str) -> dict[str, type[Part]]:
        """The parts, by name, in the file that a label is named after (``bpr.py`` for ``BPR`` and
        ``BPR_small``), and those of other packages; no other file is imported."""
        module = _named_after(label, self._modules)
        return self._found([module] if module else [])

    @cached_property
    def _parts(self) -> dict[str, type[Part]]:
        found = self._found(self._modules)
        return dict(sorted(found.items(), key=lambda item: item[0].lower()))

    @cached_property
    def _modules(self) -> list[str]:
        return _modules(self.package)

    @cached_property
    def _foreign(self) -> list[type[Part]]:
        points = entry_points(group=self.entry_point_group)
        return [self._import(entry_point.value) for entry_point in points]

    def _found(self, modules: Iterable[str]) -> dict[str, type[Part]]:
        """The parts in some modules of the package, and in other packages."""
        found: dict[str, type[Part]] = {}
        for name in modules:
            module = importlib.import_module(f"{self.package}.{name}")
            for _, member in inspect.getmembers(module, inspect.isclass):
                if member.__module__ == module.__name__ and self._is_part(member):
                    self._add(found, cast("type[Part]", member))
        for part in self._foreign:
            self._add(found, part)
        return found

    def _add(self, found: dict[str, type[Part]], part: type[Part]) -> None:
        name = cast(str, part.name)  # type: ignore[attr-defined]
        if name in found and found[name] is not part:
            raise InputError(
                f"two {self.kind}s are called {name!r}: "
                f"{found[name].__module__} and {part.__module__}; rename one"
            )
        found[name] = part

    def _is_part(self, member: object) -> bool:
        return (
            inspect.isclass(member)
            and issubclass(member, self.base)
            and not inspect.isabstract(member)
            and "name" in vars(member)
        )

    def _import(self, path: str) -> type[Part]:
        member = import_named(self.kind, path)
        if not self._is_part(member):
            raise InputError(
                f"{path!r} is not a {self.kind}: it must be a concrete subclass of "
                f"{self.base.__module__}.{self.base.__name__} with a `name`"
            )
        return cast("type[Part]", member)


def may_state(package: str, entry_point_group: str, label: str, attribute: str) -> bool:
    """Whether the part that a label is named after may set an attribute of its class, by the text
    of its file; so nothing is imported to know that it does not.

    Args:
        package: As of ``Registry``.
        entry_point_group: As of ``Registry``; parts of other packages are not looked into.
        label: The label.
        attribute: The attribute.
    """
    module = _named_after(label, _modules(package))
    text = pkgutil.get_data(package, f"{module}.py") if module else None
    states = text is not None and f"{attribute} = ".encode() in text
    return states or bool(entry_points(group=entry_point_group))


def _modules(package: str) -> list[str]:
    found = importlib.import_module(package)
    return [module.name for module in pkgutil.iter_modules(found.__path__)]


def _named_after(label: str, modules: Container[str]) -> str:
    """The module that a label is named after; empty if none is."""
    module = label.lower()
    while module and module not in modules:
        module = module.rpartition("_")[0]
    return module
