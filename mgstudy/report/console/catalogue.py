"""The installed models as text and as JSON."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from typing import Any

from rich.console import Console

from mgstudy.models.base import ModalityNeed, Recommender, models
from mgstudy.report.console.parts import (
    parameter_table,
    parameters_content,
    print_origin,
    print_prose,
)
from mgstudy.report.table import Table


def model_content(name: str) -> dict[str, Any]:
    """One model as JSON-like data: paper, modalities needed, parameters with default and space.

    Raises:
        UnknownNameError: If there is no such model.
    """
    model: type[Recommender] = models.get(name)
    return {
        "name": model.name,
        "paper": asdict(model.paper),
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
    console.print(f"{model.name}: {model.paper.title}", highlight=False, markup=False)
    print_origin(content, console)
    console.print(f"modalities: {content['modalities']}", highlight=False)
    console.print()
    print_prose(inspect.getdoc(model) or "", console)
    published = "as published with the model"
    parameters = {f"model.{model.name}.{key}": of for key, of in content["parameters"].items()} | {
        f"optimizer.{key}": {"default": "", "space": space, "description": published}
        for key, space in content["optimizer"].items()
    }
    console.print(parameter_table(parameters))
