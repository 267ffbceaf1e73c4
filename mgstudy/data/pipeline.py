"""A pipeline file with the parts that it names: their settings validated, their schema written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, create_model

from mgstudy.config.parameters import ParameterSet
from mgstudy.config.pipeline import (
    MODALITY_PATTERN,
    FeaturesConfig,
    PipelineConfig,
    StepConfig,
)
from mgstudy.data.encoder import Encoder, FeatureStep, encoders, feature_steps
from mgstudy.data.sources.base import Source, sources
from mgstudy.data.steps.base import Step, steps
from mgstudy.errors import InputError, UnknownNameError
from mgstudy.registry import Registry

OWN_TABLE = "source"
"""The encoder that takes the table the source itself brings, for steps to be done to it."""

Part = TypeVar("Part")
AnyStep = TypeVar("AnyStep", Step, FeatureStep)


class WrongPartError(InputError):
    """A pipeline file names a part that does not exist.

    Attributes:
        location: Where in the file.
    """

    def __init__(self, location: tuple[str | int, ...], error: UnknownNameError) -> None:
        self.location = location
        super().__init__(str(error))


@dataclass(frozen=True)
class ModalityPlan:
    """How one modality's features are made.

    Attributes:
        encoder: Makes them; ``None`` where the source itself brings them.
        steps: What is done to them, in order.
    """

    encoder: Encoder | None
    steps: tuple[FeatureStep, ...]


@dataclass(frozen=True)
class Pipeline:
    """A pipeline file's parts.

    Attributes:
        source: Where the data comes from.
        steps: What is done to the interactions, in order.
        features: Modality to how it is made, for those declared under ``features``.
    """

    source: Source
    steps: tuple[Step, ...]
    features: Mapping[str, ModalityPlan]


def validate_pipeline(config: PipelineConfig) -> Pipeline:
    """Build the parts that a pipeline file names; reads no data.

    Raises:
        WrongPartError: If a part does not exist.
        pydantic.ValidationError: If a setting is wrong, located as in the file.
    """
    settings: Any = pipeline_model(config).model_validate(
        {
            "source": {"kind": config.source.kind, **config.source.parameters},
            "steps": tuple(config.steps),
            "features": {
                modality: {
                    **features.parameters,
                    "encoder": features.encoder,
                    "steps": tuple(features.steps),
                }
                for modality, features in config.features.items()
            },
        }
    )
    source = sources.get(config.source.kind)
    plans = {}
    for modality, features in config.features.items():
        declared = getattr(settings.features, modality)
        encoder = None
        if features.encoder != OWN_TABLE:
            encoder_type = encoders.get(features.encoder)
            encoder = encoder_type(_own(encoder_type.Parameters, declared, {"encoder", "steps"}))
        built = _build_steps(feature_steps, declared.steps)
        plans[modality] = ModalityPlan(encoder, built)
    return Pipeline(
        source(_own(source.Parameters, settings.source, {"kind"})),
        _build_steps(steps, settings.steps),
        plans,
    )


def pipeline_model(config: PipelineConfig) -> type[BaseModel]:
    """A model of exactly the parts that a pipeline file names, so that whatever pydantic finds
    wrong is located as in the file.

    Raises:
        WrongPartError: If a part does not exist.
    """
    any_type: Any = Any
    try:
        source = source_settings(config.source.kind)
    except UnknownNameError as error:
        raise WrongPartError(("source", "kind"), error) from error
    features: dict[str, Any] = {}
    for modality, declared in config.features.items():
        features[modality] = (_features_settings(modality, declared), ...)
    fields: dict[str, Any] = {
        "source": (source, ...),
        "steps": (_steps_type(steps, config.steps, ("steps",)), ()),
        "features": (create_model("Features", **features), ...),
        "name": (any_type, None),
        "description": (any_type, None),
    }
    return create_model("Pipeline", **fields)


def source_settings(kind: str) -> Any:
    """A model of a pipeline file's ``source`` key for one kind of source.

    Raises:
        UnknownNameError: If there is no such source.
    """
    source = sources.get(kind)
    return _named(source, "kind", kind, "the source described here")


def pipeline_schema() -> dict[str, Any]:
    """JSON Schema of a pipeline file, with the settings of every installed part."""
    schema = PipelineConfig.model_json_schema()
    definitions: dict[str, Any] = {}

    def referred(model: Any) -> dict[str, Any]:
        wrapper: Any = create_model("Branch", content=(model, ...))
        described = wrapper.model_json_schema()
        definitions.update(described.get("$defs", {}))
        return dict(described["properties"]["content"])

    def any_step(registry: Registry[Any]) -> dict[str, Any]:
        names = [referred(_step_settings(part, part.name)) for part in registry]
        return {"oneOf": [*names, {"enum": registry.names()}]}

    properties = schema["properties"]
    properties["source"] = {
        "description": properties["source"]["description"],
        "oneOf": [referred(source_settings(source.name)) for source in sources],
    }
    properties["steps"]["items"] = any_step(steps)
    branches = []
    for name in [OWN_TABLE, *encoders.names()]:
        branch = referred(_features_settings(name, FeaturesConfig(encoder=name)))
        model = definitions[branch["$ref"].rpartition("/")[2]]
        model["properties"]["steps"] = {"type": "array", "items": any_step(feature_steps)}
        branches.append(branch)
    properties["features"]["patternProperties"] = {MODALITY_PATTERN: {"oneOf": branches}}
    properties["features"]["additionalProperties"] = False
    schema["$defs"] = definitions
    return schema


def _features_settings(modality: str, config: FeaturesConfig) -> Any:
    where = ("features", modality)
    listed = _steps_type(feature_steps, config.steps, (*where, "steps"))
    steps_field: Any = (listed, Field((), description="what is done to the table, in order"))
    if config.encoder == OWN_TABLE:
        literal: Any = Literal
        own: Any = (literal[OWN_TABLE], Field(description="the source's own table"))
        return create_model("OwnTable", __base__=ParameterSet, encoder=own, steps=steps_field)
    try:
        encoder = encoders.get(config.encoder)
    except UnknownNameError as error:
        raise WrongPartError((*where, "encoder"), error) from error
    named = _named(encoder, "encoder", config.encoder, "the encoder described here")
    return create_model(f"{named.__name__}AndSteps", __base__=named, steps=steps_field)


def _named(part: Any, key: str, name: str, description: str) -> Any:
    """A part's parameters, beside the key that names the part."""
    literal: Any = Literal
    field: Any = (literal[name], Field(description=description))
    return create_model(
        f"{part.__name__}Settings",
        __base__=part.Parameters,
        __doc__=part.__doc__,
        **{key: field},
    )


def _step_settings(part: Any, name: str) -> Any:
    # A name of its own: in a JSON Schema, models are told apart by their names.
    settings: Any = create_model(
        f"{part.__name__}Parameters", __base__=part.Parameters, __doc__=part.__doc__
    )
    field: Any = (settings, ...)
    strict = ConfigDict(extra="forbid", strict=True)
    return create_model(f"{part.__name__}Step", __config__=strict, **{name: field})


def _steps_type(
    registry: Registry[Any], declared: list[StepConfig], where: tuple[str | int, ...]
) -> Any:
    types = []
    for position, step in enumerate(declared):
        (name,) = step
        try:
            types.append(_step_settings(registry.get(name), name))
        except UnknownNameError as error:
            raise WrongPartError((*where, position), error) from error
    return tuple[tuple(types)] if types else tuple[()]  # type: ignore[misc]


def _build_steps(registry: Registry[AnyStep], declared: Any) -> tuple[AnyStep, ...]:
    built = []
    for entry in declared:
        for name in type(entry).model_fields:
            part: Any = registry.get(name)
            built.append(part(_own(part.Parameters, getattr(entry, name), set())))
    return tuple(built)


def _own(parameters: Any, settings: BaseModel, without: set[str]) -> Any:
    return parameters.model_validate(settings.model_dump(exclude=without))
