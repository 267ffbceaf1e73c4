"""Everything that study and pipeline files can name, as text and as JSON."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import optuna
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python
from rich.console import Console

from mgstudy.config.parameters import ParameterSet
from mgstudy.errors import UnknownNameError
from mgstudy.registry import Registry
from mgstudy.report.table import Table

REGISTRIES = {
    "model": "mgstudy.models.base:models",
    "gradient": "mgstudy.training.gradient.base:gradient_strategies",
    "robust": "mgstudy.training.robust.base:robust_methods",
    "optimizer": "mgstudy.training.optimizers.base:optimizers",
    "completion": "mgstudy.features.completions.base:completions",
    "metric": "mgstudy.config.metrics:ranking_metrics",
    "risk": "mgstudy.robustness.risks.base:risks",
    "source": "mgstudy.data.sources.base:sources",
    "step": "mgstudy.data.steps.base:steps",
    "encoder": "mgstudy.data.encoder:encoders",
    "feature_step": "mgstudy.data.encoder:feature_steps",
}
"""By the word that stands for a kind in study and pipeline files, or nearly."""
OPTUNA = {"sampler": optuna.samplers, "pruner": optuna.pruners}
KINDS = (*REGISTRIES, *OPTUNA)
_NEEDED = "needed"


def parts_content(kind: str | None = None) -> list[dict[str, Any]]:
    """Every part, or those of one kind, as JSON-like data.

    Raises:
        UnknownNameError: If there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise UnknownNameError("kind of part", kind, KINDS)
    kinds = KINDS if kind is None else (kind,)
    return [_content(of, name, part) for of in kinds for name, part in _parts(of).items()]


def part_content(kind: str, name: str) -> dict[str, Any]:
    """One part as JSON-like data: what it is, its paper and its parameters.

    Raises:
        UnknownNameError: If there is no such kind, or no such part of it.
    """
    if kind not in KINDS:
        raise UnknownNameError("kind of part", kind, KINDS)
    if kind in REGISTRIES:
        return _content(kind, name, _registry(kind).get(name))
    parts = _parts(kind)
    if name not in parts:
        raise UnknownNameError(kind, name, parts)
    return _content(kind, name, parts[name])


def print_parts(kind: str | None, console: Console) -> None:
    """List every part, or those of one kind, for a person.

    Raises:
        UnknownNameError: If there is no such kind.
    """
    rows = [[part["kind"], part["name"], part["summary"]] for part in parts_content(kind)]
    console.print(Table(["kind", "name", "what it is"], rows, notes=("what it is",)))
    console.print("`mgstudy parts KIND NAME` explains one", highlight=False)


def print_part(kind: str, name: str, console: Console) -> None:
    """Explain one part for a person.

    Raises:
        UnknownNameError: If there is no such kind, or no such part of it.
    """
    content = part_content(kind, name)
    titled = f": {content['paper']['title']}" if "paper" in content else ""
    console.print(f"{kind} {content['name']}{titled}", highlight=False, markup=False)
    print_origin(content, console)
    console.print()
    print_prose(content["description"], console)
    console.print(parameter_table(content["parameters"]))


def print_origin(content: Mapping[str, Any], console: Console) -> None:
    """Who published a part, and that it is a reconstruction if it is one."""
    if (paper := content.get("paper")) is not None:
        cited = f"{paper['authors']}. {paper['venue']} {paper['year']}. {paper['url']}".rstrip()
        console.print(cited, highlight=False, markup=False)
    if (origin := content.get("reconstructed_from")) is not None:
        said = f"A reconstruction from {origin}, not the authors' model."
        console.print(said, highlight=False, markup=False, style="yellow")


def print_prose(text: str, console: Console) -> None:
    """A docstring, with paragraphs as wide as the terminal; what is set off in it stays so."""
    for paragraph in text.split("\n\n"):
        is_prose = not any(line.startswith((" ", "-")) for line in paragraph.splitlines())
        said = " ".join(paragraph.split()) if is_prose else paragraph
        console.print(said, highlight=False, markup=False, end="\n\n")


def parameter_table(parameters: Mapping[str, Mapping[str, Any]]) -> Table:
    """Parameters as ``part_content`` gives them."""
    rows = [
        [
            name,
            str(entry["default"]),
            "" if entry["space"] is None else str(entry["space"]),
            entry["description"] or "",
        ]
        for name, entry in parameters.items()
    ]
    titles = ["parameter", "default", "default space", "meaning"]
    return Table(titles, rows, notes=("meaning",))


def parameters_content(parameters: type[ParameterSet]) -> dict[str, dict[str, Any]]:
    """What a part's parameters are: default, default space and meaning of each."""
    return {
        name: {
            "default": _default(field),
            "space": _space(field),
            "description": field.description,
        }
        for name, field in parameters.model_fields.items()
    }


def _default(field: FieldInfo) -> Any:
    if field.is_required():
        return _NEEDED
    return to_jsonable_python(field.get_default(call_default_factory=True))


def _space(field: FieldInfo) -> Any:
    extra = field.json_schema_extra
    return extra.get("space") if isinstance(extra, Mapping) else None


def _registry(kind: str) -> Registry[Any]:
    module, _, attribute = REGISTRIES[kind].partition(":")
    found: Registry[Any] = getattr(importlib.import_module(module), attribute)
    return found


def _parts(kind: str) -> dict[str, Any]:
    if kind in REGISTRIES:
        return {part.name: part for part in _registry(kind)}
    module = OPTUNA[kind]
    named = (name for name in module.__all__ if name.lower().endswith(kind))
    return {name: getattr(module, name) for name in named if not name.startswith("Base")}


def _content(kind: str, name: str, part: Any) -> dict[str, Any]:
    text = inspect.getdoc(part) or ""
    if kind in OPTUNA:
        text = text.partition("\nArgs:")[0].strip()
        parameters = dict(_arguments(part))
    else:
        known = getattr(part, "Parameters", None)
        parameters = {} if known is None else parameters_content(known)
    paper = getattr(part, "paper", None)
    return {
        "kind": kind,
        "name": name,
        "summary": " ".join(text.partition("\n\n")[0].split()),
        "description": text,
        **({} if paper is None else {"paper": asdict(paper)}),
        "reconstructed_from": getattr(part, "reconstructed_from", None),
        "parameters": parameters,
    }


def _arguments(part: type[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Arguments of one of Optuna's own parts, which say what they mean in its documentation."""
    for argument in inspect.signature(part).parameters.values():
        default = argument.default
        needed = default is inspect.Parameter.empty
        shown = _NEEDED if needed else default if _is_plain(default) else repr(default)
        yield argument.name, {"default": shown, "space": None, "description": None}


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
