"""The installed models as text and as JSON."""

from __future__ import annotations

import inspect
from typing import Any

from rich.console import Console

from mgstudy.models.base import ModalityNeed, Recommender, models
from mgstudy.report.console.parts import parameters_content, print_prose
from mgstudy.report.table import Table


def model_content(name: str) -> dict[str, Any]:
    """One model as JSON-like data: paper, modalities needed, parameters with default and space.

    Raises:
        UnknownNameError: If there is no such model.
    """
    model: type[Recommender] = models.get(name)
    return {
        "name": model.name,
        "paper": {
            "title": model.paper.title,
            "authors": model.paper.authors,
            "venue": model.paper.venue,
            "year": model.paper.year,
            "url": model.paper.url,
        },
        "reconstructed_from": model.reconstructed_from,
        "modalities": model.modality_need.value,
        "trainable": model.trainable,
        "samples_negatives": model.samples_negatives,
        "parameters": parameters_content(model.Parameters),
        "optimizer": {name: space.to_yaml() for name, space in model.optimizer_spaces.items()},
    }


def models_content() -> list[dict[str, Any]]:
    """Every installed model as JSON-like data."""
    return [model_content(model.name) for model in models]


def print_models(console: Console) -> None:
    """List every installed model for a person."""
    short = {ModalityNeed.NONE: "none", ModalityNeed.ANY: "1+", ModalityNeed.TWO_OR_MORE: "2+"}
    rows = [
        [
            model.name,
            f"{model.paper.venue} {model.paper.year}",
            short[model.modality_need],
            ", ".join(model.Parameters.model_fields) or "none",
            model.paper.title,
        ]
        for model in models
    ]
    titles = ["model", "venue", "modalities", "parameters", "paper"]
    console.print(Table(titles, rows, notes=("parameters", "paper")))
    console.print("`mgstudy models NAME` explains one", highlight=False)


def print_model(name: str, console: Console) -> None:
    """Explain one model for a person: what it computes, its paper and its parameters.

    Raises:
        UnknownNameError: If there is no such model.
    """
    model = models.get(name)
    content = model_content(name)
    paper = model.paper
    console.print(f"{model.name}: {paper.title}", highlight=False, markup=False)
    cited = f"{paper.authors}. {paper.venue} {paper.year}. {paper.url}".rstrip()
    console.print(cited, highlight=False, markup=False)
    if model.reconstructed_from is not None:
        said = f"A reconstruction from {model.reconstructed_from}, not the authors' model."
        console.print(said, highlight=False, markup=False, style="yellow")
    console.print(f"modalities: {content['modalities']}", highlight=False)
    console.print()
    print_prose(inspect.getdoc(model) or "", console)
    parameters = [
        [
            f"model.{model.name}.{parameter}",
            str(entry["default"]),
            "" if entry["space"] is None else str(entry["space"]),
            entry["description"],
        ]
        for parameter, entry in content["parameters"].items()
    ]
    optimizer = [
        [f"optimizer.{parameter}", "", str(space), "as published with the model"]
        for parameter, space in content["optimizer"].items()
    ]
    titles = ["parameter", "default", "default space", "meaning"]
    console.print(Table(titles, [*parameters, *optimizer], notes=("meaning",)))
