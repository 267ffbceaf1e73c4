"""Everything that study and pipeline files can name, as text and as JSON."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

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
OPTUNA = {"sampler": "optuna.samplers", "pruner": "optuna.pruners"}
KINDS = (*REGISTRIES, *OPTUNA)
_NEEDED = "needed"
_OWNERS = {
    **{kind: f"{kind}.{{}}." for kind in ("model", "gradient", "robust", "completion")},
    "optimizer": "optimizer.",
}
"""What a study file calls parameters by, before their own names."""
_PUBLISHED_WITH = "as published with the model"


def part_names(kind: str) -> list[str]:
    """The names of the parts of a kind.

    Raises:
        UnknownNameError: If there is no such kind.
    """
    return list(_parts(kind))


def parts_content(kind: str | None = None) -> list[dict[str, Any]]:
    """Every part, or those of one kind, as JSON-like data.

    Raises:
        UnknownNameError: If there is no such kind.
    """
    kinds = KINDS if kind is None else (kind,)
    return [_content(of, name, part) for of in kinds for name, part in _parts(of).items()]


def part_content(kind: str, name: str) -> dict[str, Any]:
    """One part as JSON-like data: what it is, its paper, its parameters, and the models that it
    acts on, ``None`` of what does not act on models.

    Raises:
        UnknownNameError: If there is no such kind, or no such part of it.
    """
    parts = {} if ":" in name and kind in REGISTRIES else _parts(kind)
    if kind in REGISTRIES:
        part = _registry(kind).get(name)
    elif name in parts:
        part = parts[name]
    else:
        raise UnknownNameError(kind, name, parts)
    return {**_content(kind, name, part), "acts_on": _acted_on(kind, part)}


def print_parts(kind: str | None, console: Console) -> None:
    """List every part, or those of one kind with their parameters, for a person.

    Raises:
        UnknownNameError: If there is no such kind.
    """
    rows = []
    for part in parts_content(kind):
        paper = part.get("paper")
        row = {
            "kind": part["kind"] if kind is None else "",
            # Of this title, a table marks what is only a reconstruction.
            "model" if kind == "model" else "name": part["name"],
            "published": f"{paper['venue']} {paper['year']}" if paper and kind else "",
            "modalities": part["modalities"].partition(":")[0] if kind == "model" else "",
            "parameters": ", ".join(part["parameters"]) if kind else "",
            "what it is": part["summary"].replace("``", "`"),
        }
        rows.append(row)
    titles = [title for title in rows[0] if any(row[title] for row in rows)]
    cells = [[row[title] for title in titles] for row in rows]
    console.print(Table(titles, cells, notes=("parameters", "what it is")))
    console.print(f"`mgstudy parts {kind or 'KIND'} NAME` explains one", highlight=False)


def print_part(kind: str, name: str, console: Console) -> None:
    """Explain one part for a person: what it computes, its paper, its parameters, as a study file
    calls them, and the models that it acts on.

    Raises:
        UnknownNameError: If there is no such kind, or no such part of it.
    """
    content = part_content(kind, name)
    titled = f": {content['paper']['title']}" if "paper" in content else ""
    console.print(f"{kind} {content['name']}{titled}", highlight=False, markup=False)
    print_origin(content, console)
    for line in reach_lines(content):
        console.print(line, highlight=False, markup=False)
    console.print()
    print_prose(content["description"], console)
    owner = _OWNERS.get(kind, "").format(content["name"])
    parameters = {f"{owner}{key}": of for key, of in content["parameters"].items()}
    parameters |= {
        f"optimizer.{key}": {"default": "", "space": space, "description": _PUBLISHED_WITH}
        for key, space in content.get("optimizer", {}).items()
    }
    if parameters:
        console.print(parameter_table(parameters))


def reach_lines(content: Mapping[str, Any]) -> Iterator[str]:
    """What a part works with, as ``part_content`` gives it: modalities and models."""
    if "modalities" in content:
        yield f"modalities: {content['modalities']}"
    found = content["acts_on"]
    if found is not None:
        every = len(_registry("model").names())
        whole = found == _trained_models()
        said = "every model that is trained" if whole else ", ".join(found) or "none"
        yield f"acts on {said}" if whole else f"acts on {len(found)} of {every} models: {said}"


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


def _trained_models() -> list[str]:
    return [model.name for model in _registry("model") if model.trainable]


def _acted_on(kind: str, part: Any) -> list[str] | None:
    """Names of the models that a part can be combined with, found by asking it or them."""
    if kind == "robust":
        return [model.name for model in _registry("model") if part.refusal(model) is None]
    if kind in ("gradient", "optimizer"):
        return _trained_models()
    if kind in ("completion", "risk"):
        return [model.name for model in _registry("model") if model.modality_need.minimum()]
    return None


def _parts(kind: str) -> dict[str, Any]:
    if kind not in KINDS:
        raise UnknownNameError("kind of part", kind, KINDS)
    if kind in REGISTRIES:
        return {part.name: part for part in _registry(kind)}
    module = importlib.import_module(OPTUNA[kind])
    named = (name for name in module.__all__ if name.lower().endswith(kind))
    return {name: getattr(module, name) for name in named if not name.startswith("Base")}


def _content(kind: str, name: str, part: Any) -> dict[str, Any]:
    text = inspect.getdoc(part) or ""
    if kind in OPTUNA:
        parameters = dict(_arguments(part, text))
        text = _without_roles(text.partition("\nArgs:")[0].strip())
    else:
        known = getattr(part, "Parameters", None)
        parameters = {} if known is None else parameters_content(known)
    paper = getattr(part, "paper", None)
    content = {
        "kind": kind,
        "name": getattr(part, "name", name),
        "summary": " ".join(text.partition("\n\n")[0].split()),
        "description": text,
        **({} if paper is None else {"paper": asdict(paper)}),
        "reconstructed_from": getattr(part, "reconstructed_from", None),
        "parameters": parameters,
    }
    if kind == "model":
        content |= {
            "modalities": part.modality_need.value,
            "trainable": part.trainable,
            "samples_negatives": part.samples_negatives,
            "optimizer": {key: space.to_yaml() for key, space in part.optimizer_spaces.items()},
        }
    return content


def _arguments(part: type[Any], docstring: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Arguments of one of Optuna's own parts, each with the first paragraph that its docstring has
    of it."""
    said = re.search(r"^Args:\n((?: .*\n|\n)*)", f"{docstring}\n", re.MULTILINE)
    found = re.split(r"^    (\w+)[^:\n]*:", said[1] if said else "", flags=re.MULTILINE)
    meanings = dict(zip(found[1::2], found[2::2], strict=True))
    for argument in inspect.signature(part).parameters.values():
        default = argument.default
        needed = default is inspect.Parameter.empty
        shown = _NEEDED if needed else default if _is_plain(default) else repr(default)
        meaning = meanings.get(argument.name, "").strip().partition("\n\n")[0]
        description = " ".join(_without_roles(meaning).split()) or None
        yield argument.name, {"default": shown, "space": None, "description": description}


def _without_roles(docstring: str) -> str:
    """Text of Sphinx in which what it links to is named alone."""
    return re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)(?:\(\))?`", r"`\1`", docstring)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
