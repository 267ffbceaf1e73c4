"""A pipeline file with the parts that it names: their settings validated, their schema written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError, create_model

from mgstudy.config.document import Document, together
from mgstudy.config.parameters import ParameterSet
from mgstudy.config.pipeline import MODALITY_PATTERN, OWN_TABLE, PipelineConfig, StepConfig
from mgstudy.config.reading import Location
from mgstudy.data.encoder import Encoder, FeatureStep, encoders, feature_steps
from mgstudy.data.sources.base import Source, sources
from mgstudy.data.steps.base import Step, steps
from mgstudy.errors import InputError
from mgstudy.registry import Registry

Part = TypeVar("Part")


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


def validate_pipeline(config: PipelineConfig, document: Document | None = None) -> Pipeline:
    """Build the parts that a pipeline file names; reads no data.

    Args:
        config: The pipeline file.
        document: What it was read from, so that messages name its lines.

    Raises:
        InputError: If a part does not exist or a setting is wrong, each on a line of its own.
    """
    building = _Building(document or Document(f"pipeline {config.name!r}", config.model_dump()))
    source = building.part(sources, ("source",), "kind", config.source.kind, config.source)
    built = building.steps(steps, ("steps",), config.steps)
    building.split_once(built)
    features = {}
    for modality, declared in config.features.items():
        where = ("features", modality)
        encoder = None
        if declared.encoder != OWN_TABLE:
            encoder = building.part(encoders, where, "encoder", declared.encoder, declared)
        else:
            building.validated(ParameterSet, where, declared.parameters)
        listed = building.steps(feature_steps, (*where, "steps"), declared.steps)
        features[modality] = ModalityPlan(encoder, listed)
    if source is None or building.faults:
        raise together(building.faults)
    return Pipeline(source, built, features)


class _Building:
    """Builds parts, and collects what is wrong with them."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.faults: list[InputError] = []

    def part(
        self, registry: Registry[Part], where: Location, key: str, name: str, declared: Any
    ) -> Part | None:
        """The part that a key names, with the settings beside the key."""
        try:
            part: Any = registry.get(name)
        except InputError as error:
            self.faults.append(self.document.error((*where, key), str(error)))
            return None
        parameters = self.validated(part.Parameters, where, declared.parameters)
        return None if parameters is None else part(parameters)

    def steps(
        self, registry: Registry[Part], where: Location, declared: list[StepConfig]
    ) -> tuple[Part, ...]:
        """The steps of a list, without those that are wrong."""
        built: list[Part] = []
        for position, step in enumerate(declared):
            ((name, settings),) = step.items()
            try:
                part: Any = registry.get(name)
            except InputError as error:
                self.faults.append(self.document.error((*where, position), str(error)))
                continue
            parameters = self.validated(part.Parameters, (*where, position, name), settings)
            if parameters is not None:
                built.append(part(parameters))
        return tuple(built)

    def split_once(self, built: tuple[Step, ...]) -> None:
        """Refuse a second split, which would undo the first."""
        if self.faults:
            return
        splits = [position for position, step in enumerate(built) if step.splits]
        for position in splits[1:]:
            fault = f"the interactions are split already, by steps.{splits[0]}; keep one"
            self.faults.append(self.document.error(("steps", position), fault))

    def validated(
        self, parameters: type[ParameterSet], where: Location, settings: Mapping[str, Any]
    ) -> ParameterSet | None:
        """A part's parameters, unless they are wrong."""
        try:
            return parameters.model_validate(settings)
        except ValidationError as error:
            self.faults.append(self.document.explain(error, where, parameters))
            return None


def pipeline_schema() -> dict[str, Any]:
    """JSON Schema of a pipeline file, with the settings of every installed part."""
    schema = PipelineConfig.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]

    def referred(model: Any) -> dict[str, Any]:
        wrapper: Any = create_model("Branch", content=(model, ...))
        described = wrapper.model_json_schema()
        definitions.update(described.get("$defs", {}))
        return dict(described["properties"]["content"])

    def any_step(registry: Registry[Any]) -> dict[str, Any]:
        names = [referred(_step_settings(part)) for part in registry]
        return {"oneOf": [*names, {"enum": registry.names()}]}

    properties = schema["properties"]
    properties["source"] = {
        "description": properties["source"]["description"],
        "oneOf": [referred(_named(sources, source, "kind")) for source in sources],
    }
    properties["steps"]["items"] = any_step(steps)
    literal: Any = Literal
    own: Any = (literal[OWN_TABLE], Field(description="the source's own table"))
    branches = [referred(create_model("OwnTable", __base__=ParameterSet, encoder=own))]
    branches += [referred(_named(encoders, encoder, "encoder")) for encoder in encoders]
    listed = {"type": "array", "items": any_step(feature_steps)}
    for branch in branches:
        model = definitions[branch["$ref"].rpartition("/")[2]]
        model["properties"]["steps"] = listed
    properties["features"]["patternProperties"] = {MODALITY_PATTERN: {"oneOf": branches}}
    properties["features"]["additionalProperties"] = False
    properties["texts"]["additionalProperties"] = False
    return schema


def _named(registry: Registry[Any], part: Any, key: str) -> Any:
    """A part's parameters, beside the key that names the part."""
    literal: Any = Literal
    field: Any = (literal[part.name], Field(description=f"the {registry.kind} described here"))
    name = f"{part.__name__}{registry.base.__name__}"
    return create_model(name, __base__=part.Parameters, __doc__=part.__doc__, **{key: field})


def _step_settings(part: Any) -> Any:
    # A name of its own: in a JSON Schema, models are told apart by their names.
    settings: Any = create_model(
        f"{part.__name__}Parameters", __base__=part.Parameters, __doc__=part.__doc__
    )
    field: Any = (settings, ...)
    strict = ConfigDict(extra="forbid", strict=True)
    return create_model(f"{part.__name__}Step", __config__=strict, **{part.name: field})
