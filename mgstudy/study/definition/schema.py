"""The JSON Schemas of the files that people write, with the names of every installed part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mgstudy.config.study import StudyConfig
from mgstudy.data.pipeline import pipeline_schema
from mgstudy.features.completions.base import completions
from mgstudy.models.base import models
from mgstudy.registry import Registry
from mgstudy.training.gradient.base import gradient_strategies
from mgstudy.training.optimizers.base import optimizers
from mgstudy.training.robust.base import robust_methods

_SPACE = {"description": "a value, or a space: {choice: [..]}, {integer: [low, high]}, ..."}


def file_schema(kind: Literal["study", "pipeline"]) -> dict[str, Any]:
    """The JSON Schema of study or pipeline files, with the names of every installed part."""
    return study_schema() if kind == "study" else pipeline_schema()


def study_schema() -> dict[str, Any]:
    """JSON Schema of a study file: levels offer the installed names, ``space`` their parameters."""
    schema = StudyConfig.model_json_schema()
    factors = schema["$defs"]["Factors"]["properties"]
    spaces = schema["$defs"]["SearchSpace"]["properties"]
    factors["completion"]["items"] = _level(completions)
    for factor, registry in (
        ("model", models),
        ("gradient", gradient_strategies),
        ("optimizer", optimizers),
    ):
        factors[factor]["items"] = _level(registry)
        spaces[factor] = _space_section(factor, registry)
    method = _level(robust_methods)
    factors["robust"]["items"] = {
        "anyOf": [{"const": "none"}, method, {"type": "array", "items": method}]
    }
    spaces["robust"] = _space_section("robust", robust_methods)
    return schema


def _level(registry: Registry[Any]) -> dict[str, Any]:
    name = {"anyOf": [{"enum": registry.names()}, {"type": "string", "pattern": ":"}]}
    return {
        "anyOf": [
            *name["anyOf"],
            {
                "type": "object",
                "required": ["name"],
                "additionalProperties": False,
                "properties": {
                    "name": name,
                    "label": {"type": "string"},
                    "parameters": {"type": "object"},
                },
            },
        ]
    }


def _space_section(factor: str, registry: Registry[Any]) -> dict[str, Any]:
    shared: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    for part in registry:
        fields: Mapping[str, Any] = part.Parameters.model_fields
        own = {name: {"description": field.description} for name, field in fields.items()}
        shared |= dict.fromkeys(own, _SPACE)
        parts[part.name] = {"type": "object", "properties": own, "additionalProperties": False}
    return {
        "type": "object",
        "description": f"parameters of every {factor} that has them, or of one by its name",
        "properties": {**shared, **parts},
    }
