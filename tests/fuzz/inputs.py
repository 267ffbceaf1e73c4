"""Malformed inputs by number: the same seed and number give the same input."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from commands import command_line
from odd_arrays import odd_array
from raw_files import RAW
from schemas import Place, example, leaves
from values import (
    MARK,
    RAW_YAML,
    TEXTS,
    damaged_bytes,
    damaged_json,
    damaged_text,
    replaced,
    something_else,
    value,
)
from workspace import PIPELINE as WORKSPACE_PIPELINE
from workspace import damaged_workspace

STUDY: dict[str, Any] = {
    "name": "new",
    "question": "why?",
    "factors": {
        "dataset": ["tiny", {"name": "tiny", "label": "noisy",
                             "features": {"gaussian_noise": {"severity": 0.5}}}],
        "model": ["VBPR", {"name": "BPR", "parameters": {"regularization": 0.1}}],
        "gradient": ["plain", "mirror_gradient"],
        "robust": ["none", ["feature_noise"]],
        "optimizer": ["adam"],
        "seed": [1],
    },
    "space": {"optimizer": {"learning_rate": {"log_float": [1e-4, 1e-2]}}},
    "trials": 3,
    "training": {"epochs": 2, "objective": "recall@2", "cutoffs": [2, 5]},
    "sampler": {"name": "TPESampler", "arguments": {"n_startup_trials": 3}},
    "pruner": "MedianPruner",
    "confirmation": {"seeds": 2},
    "robustness": {"risks": ["swap", {"name": "gaussian_noise", "label": "noise"}]},
    "resources": {"cpu": 1},
    "tracking": {"experiment": "e"},
}  # fmt: skip
PIPELINES = {"synthetic": {"name": "d", "source": {"kind": "synthetic", "users": 60, "items": 40,
             "interactions_per_user": 6, "modalities": {"image": {"width": 3}}},
             "features": {"image": {"encoder": "source", "steps": ["normalize"]}}}}  # fmt: skip
PIPELINES |= {name: raw.pipeline for name, raw in RAW.items()}


@dataclass
class Input:
    """Something to give to a command.

    Attributes:
        words: The command.
        lay_out: Writes its files into a folder; called in the process of the command. The
            workspace is ``home`` in that folder.
        refused: Whether it must be refused: exit code 2.
    """

    words: list[str]
    lay_out: Callable[[Path], None]
    refused: bool = False
    note: str = ""


@cache
def schemas() -> dict[str, Any]:
    """The JSON Schemas of study and pipeline files."""
    from mgstudy.api import file_schema

    return {kind: file_schema(kind) for kind in ("study", "pipeline")}


@cache
def study_places() -> list[tuple[Place, Mapping[str, Any]]]:
    return leaves(schemas()["study"])


@cache
def pipeline_places(name: str) -> list[tuple[Place, Mapping[str, Any]]]:
    """The places of a pipeline file, with the settings of the parts that it names."""
    schema, pipeline = schemas()["pipeline"], PIPELINES[name]
    found = [(place, inner) for place, inner in leaves(schema) if len(place) == 1]

    def settings(branches: Any, key: str, part: str, place: Place) -> None:
        for branch in branches:
            named = schema["$defs"][branch["$ref"].rpartition("/")[2]]
            if named["properties"][key].get("const") == part:
                inside = leaves({**named, "$defs": schema["$defs"]})
                found.extend(((*place, *inner), kind) for inner, kind in inside)

    properties = schema["properties"]
    settings(properties["source"]["oneOf"], "kind", pipeline["source"]["kind"], ("source",))
    (features,) = properties["features"]["patternProperties"].values()
    for modality, declared in pipeline.get("features", {}).items():
        settings(features["oneOf"], "encoder", declared["encoder"], ("features", modality))
    for branch in properties["steps"]["items"]["oneOf"]:
        if "$ref" in branch:
            named = schema["$defs"][branch["$ref"].rpartition("/")[2]]
            inside = leaves({**named, "$defs": schema["$defs"]})
            end = len(pipeline.get("steps", ()))
            found.extend((("steps", end, *inner), kind) for inner, kind in inside if inner)
    return found


def written(data: Any, draw: random.Random) -> str:
    """Data as YAML on one line, with values that only YAML has."""
    text = json.dumps(data, ensure_ascii=draw.random() < 0.5)
    return text.replace(f'"{MARK}"', draw.choice(RAW_YAML)) + "\n"


def changed(
    data: Any, places: list[tuple[Place, Mapping[str, Any]]], kind: str, number: int,
    draw: random.Random,
) -> tuple[Any, Place, Any]:  # fmt: skip
    """A file in which the value at a place is another; the place follows from the number."""
    place, schema = places[number % len(places)]
    new = draw.choice([value(draw), value(draw), MARK, example(schemas()[kind], schema, draw)])
    return replaced(data, place, new), place, new


def study_file(number: int, draw: random.Random) -> Input:
    """A field of a study file has another value, in the file or by ``--set``."""
    place, _ = study_places()[number % len(study_places())]
    study = STUDY if (model := _model_of(place)) is None else of_model(model)
    data, place, new = changed(study, study_places(), "study", number, draw)
    words = ["plan", "s.yaml", *(["--json"] if draw.random() < 0.3 else [])]
    if place and draw.random() < 0.3:
        words += ["--set", f"{'.'.join(map(str, place))}={written(new, draw)[:-1]}"]
        words = [word.replace("\0", "\\0").encode(errors="replace").decode() for word in words]
        data = study
    return Input(words, files_of({"s.yaml": written(data, draw)}), note=f"{place} = {new!r:.60}")


def of_model(model: str) -> dict[str, Any]:
    """The study of another model, whose parameters it may name."""
    study: dict[str, Any] = replaced(STUDY, ("factors", "model"), [model])
    return study


def _model_of(place: Place) -> str | None:
    """A model that has the parameter at a place, or is named there."""
    if place[:2] != ("space", "model") or len(place) < 3:
        return None
    inside = [p[2:4] for p, _ in study_places() if p[:2] == place[:2] and len(p) > 3]
    models = [str(model) for model, parameter in inside if place[2] in (model, parameter)]
    return next(iter(models), None)


def study_text(number: int, draw: random.Random) -> Input:
    """A study file as text is damaged."""
    text = damaged_text(json.dumps(STUDY, indent=1) if number % 2 else _block(STUDY), draw)
    return Input(["plan", "s.yaml"], files_of({"s.yaml": text}))


def pipeline_file(number: int, draw: random.Random) -> Input:
    """A field of a pipeline file has another value."""
    name = list(PIPELINES)[number % len(PIPELINES)]
    places = pipeline_places(name)
    data, place, new = changed(PIPELINES[name], places, "pipeline", number // len(PIPELINES), draw)
    files = {"p.yaml": written(data, draw)}
    note = f"{name}: {place} = {new!r:.60}"
    return Input(["prepare", "p.yaml"], files_of(files, name), note=note)


def pipeline_text(number: int, draw: random.Random) -> Input:
    """A pipeline file as text is damaged."""
    name = list(PIPELINES)[number % len(PIPELINES)]
    files = {"p.yaml": damaged_text(_block(PIPELINES[name]), draw)}
    return Input(["prepare", "p.yaml"], files_of(files, name), note=name)


def raw_file(number: int, draw: random.Random) -> Input:
    """A raw file is damaged."""
    name = list(RAW)[number % len(RAW)]
    pipeline = dict(PIPELINES[name])
    if "malformed_share" in str(pipeline_places(name)) and draw.random() < 0.2:
        pipeline = replaced(pipeline, ("source", "malformed_share"), 0.5)

    def lay_out(folder: Path) -> None:
        files_of({"p.yaml": json.dumps(pipeline)}, name)(folder)
        damage(folder / draw.choice(sorted(RAW[name].make())), draw)

    return Input(["prepare", "p.yaml"], lay_out, note=name)


def damage(path: Path, draw: random.Random) -> None:
    """Damage a file of text, JSON or binary data."""
    content = path.read_bytes()
    choice = draw.random()
    if choice < 0.15:
        something_else(path, draw)
    elif choice < 0.5 and content.startswith(b"{") and b"'" not in content:
        path.write_bytes(damaged_json(content, draw))
    elif choice < 0.8 and path.suffix not in {".parquet", ".npy", ".b", ".gz"}:
        lines = content.split(b"\n")
        position = draw.randrange(len(lines))
        separator = next((by for by in (b"\t", b"::", b"|", b",") if by in lines[position]), b" ")
        fields = lines[position].split(separator)
        new = draw.choice(
            [*TEXTS, "nan", "-inf", "0x3", "1_0", "1e999", "１", "007", "99999999999"]
        )
        fields[draw.randrange(len(fields))] = new.encode(errors="surrogatepass")
        lines[position] = separator.join(fields[: draw.choice([1, 2, 99])])
        path.write_bytes(b"\n".join(lines))
    else:
        path.write_bytes(damaged_bytes(content, draw))


def odd_data(number: int, draw: random.Random) -> Input:
    """Arrays and columns of types that nobody expects."""
    name, file, content = odd_array(number, draw)

    def lay_out(folder: Path) -> None:
        files_of({"p.yaml": json.dumps(PIPELINES[name])}, name)(folder)
        (folder / file).write_bytes(content())

    return Input(["prepare", "p.yaml"], lay_out, note=f"{name}: {file}")


def workspace(number: int, draw: random.Random) -> Input:
    """A file of a workspace is damaged."""
    words, damage_it, note = damaged_workspace(number, draw, damage)
    files = files_of({"s.yaml": json.dumps(STUDY), "p.yaml": WORKSPACE_PIPELINE})

    def lay_out(folder: Path) -> None:
        files(folder)
        damage_it(folder)

    return Input(words, lay_out, note=note)


def command(number: int, draw: random.Random) -> Input:
    """Words of a command line are others."""
    return Input(command_line(number, draw), files_of({"s.yaml": json.dumps(STUDY)}, "synthetic"))


KINDS: dict[str, tuple[Callable[[int, random.Random], Input], int]] = {
    "study-file": (study_file, 6),
    "study-text": (study_text, 1),
    "pipeline-file": (pipeline_file, 6),
    "pipeline-text": (pipeline_text, 1),
    "raw-file": (raw_file, 6),
    "odd-data": (odd_data, 3),
    "workspace": (workspace, 5),
    "command": (command, 3),
}
"""What can be malformed, and how many of that there are for each of others."""


def numbered(count: int) -> Iterator[str]:
    """Names of so many inputs, such as ``raw-file-7``, of each kind as many as it is worth."""
    total = sum(worth for _, worth in KINDS.values())
    for kind, (_, worth) in KINDS.items():
        yield from (f"{kind}-{number}" for number in range(max(1, count * worth // total)))


def named(name: str, seed: int) -> Input:
    """The input of a name."""
    kind, _, number = name.rpartition("-")
    return KINDS[kind][0](int(number), random.Random(f"{seed} {name}"))


def files_of(files: Mapping[str, str], raw: str = "synthetic") -> Callable[[Path], None]:
    """What writes files, and raw data with its pipeline file."""

    def lay_out(folder: Path) -> None:
        for name, text in {"p.yaml": json.dumps(PIPELINES[raw]), **files}.items():
            (folder / name).write_text(text, "utf-8", "surrogatepass")
        for name, content in (RAW[raw].make() if raw in RAW else {}).items():
            (folder / name).write_bytes(content)

    return lay_out


def _block(data: Any) -> str:
    from mgstudy.config.reading import yaml_text

    return yaml_text(data)
