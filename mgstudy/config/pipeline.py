"""The pipeline file: which raw files become a dataset, and how.

What a source, a step or an encoder can be set to is declared by the part itself, one file each in
``mgstudy/data/sources/``, ``mgstudy/data/steps/`` and ``mgstudy/features/``; here their settings
are carried unread.
"""

from __future__ import annotations

import string
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints

from mgstudy.config.factors import LONGEST_NAME, Name, Settings

MODALITY_PATTERN = r"^[a-z][a-z0-9_]*$"
"""Modality names appear in file, column and parameter names."""

OWN_TABLE = "source"
"""The encoder that takes the table the source itself brings, for steps to be done to it."""

Modality = Annotated[str, StringConstraints(pattern=MODALITY_PATTERN, max_length=LONGEST_NAME)]


def _with_settings(entry: Any) -> Any:
    """Read ``reindex`` and ``reindex:`` as ``reindex: {}``."""
    if isinstance(entry, str):
        return {entry: {}}
    if isinstance(entry, dict):
        if len(entry) != 1:
            raise ValueError(
                "a step is one name with its settings, such as `- k_core: {users: 5, items: 5}`"
            )
        return {name: {} if settings is None else settings for name, settings in entry.items()}
    return entry


def _checked(template: str) -> str:
    if not template_fields(template):
        raise ValueError(f"{template!r} names no field; expected such as '{{title}} {{brand}}'")
    return template


def template_fields(template: str) -> list[str]:
    """The fields that a template names.

    Raises:
        ValueError: If its braces are not balanced, or it asks for more than a field's value.
    """
    fields = []
    for _, name, specification, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if not name.isidentifier() or specification or conversion:
            raise ValueError(f"{{{name}}} is not the name of a field")
        fields.append(name)
    return list(dict.fromkeys(fields))


Template = Annotated[str, AfterValidator(_checked)]
"""Text with fields of an item's record in braces, as ``"{title} {brand}"``."""

StepConfig = Annotated[dict[str, dict[str, Any]], BeforeValidator(_with_settings)]
"""A step by name, and its own settings."""


class SourceConfig(Settings):
    """Where the data comes from: a source by name, and that source's own settings beside it."""

    model_config = ConfigDict(extra="allow")

    kind: str = Field(
        min_length=1,
        description="name of the source: `mmrec`, `synthetic`, ... or `package.module:Class`",
    )

    @property
    def parameters(self) -> dict[str, Any]:
        """The source's settings as written, not yet validated."""
        return dict(self.model_extra or {})


class FeaturesConfig(Settings):
    """How a modality's features are made: an encoder by name, and its own settings beside it."""

    model_config = ConfigDict(extra="allow")

    encoder: str = Field(
        min_length=1,
        description="name of the encoder: `precomputed`, `tfidf_svd`, ... or a `module:Class`",
    )
    steps: list[StepConfig] = Field(default=[], description="what is done to the table, in order")

    @property
    def parameters(self) -> dict[str, Any]:
        """The settings beside ``encoder`` and ``steps`` as written, not yet validated."""
        return dict(self.model_extra or {})


class TextConfig(Settings):
    """A text of every item, for models that read words."""

    template: Template = Field(description="text with an item's fields in braces")
    missing: Literal["error", "empty"] = Field(
        "error",
        description="what an item without the fields gets: nothing, which is an error; or "
        "an empty text",
    )


class PipelineConfig(Settings):
    """What one pipeline file asks for: a dataset's name, where it comes from and how it is made."""

    name: Name = Field(description="name of the dataset, as study files refer to it")
    description: str = Field("", description="what the data is, for people")
    source: SourceConfig = Field(description="where the data comes from")
    steps: list[StepConfig] = Field(
        default=[], description="what is done to the interactions, in order"
    )
    features: dict[Modality, FeaturesConfig] = Field(
        default={},
        description="modality to how its features are made, besides those of the source itself",
    )
    texts: dict[Modality, TextConfig] = Field(
        default={}, description="name to a text of every item, kept beside the features"
    )
