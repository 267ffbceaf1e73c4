"""The factors of a study: what is crossed, and how their levels are called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
LONGEST_NAME = 100
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=LONGEST_NAME)]
"""What can name a folder: letters, digits and `_.-`."""

Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
"""What every random generator we use accepts as a seed."""


class Section(BaseModel):
    """A mapping of a study file: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(Section):
    """A section in which nothing is converted: text is not a number, nor a number a truth value."""

    model_config = ConfigDict(allow_inf_nan=False, strict=True)


def name_fault(name: str) -> str:
    """Why a text cannot name a folder, if it cannot."""
    if len(name) > LONGEST_NAME:
        return f"a name of {len(name):,} characters, expected at most {LONGEST_NAME}"
    if re.fullmatch(NAME_PATTERN[1:-1], name):
        return ""
    return f"expected letters, digits and `_.-`, got {name!r}"


def short_name(name: str) -> str:
    """A part's name without the module of a foreign class."""
    return name.rpartition(":")[2]


def level_from_text(value: Any) -> Any:
    """A level as a mapping, of which a plain name is the short form."""
    return {"name": value} if isinstance(value, str) else value


class Level(Section):
    """One level of a factor: a part by name, and what is special about it at this level.

    In a study file a plain name is enough; a mapping gives a label of its own and parameters that
    hold only here, so that one strategy can stand at several levels::

        gradient:
          - plain
          - mirror_gradient
          - {name: mirror_gradient, label: mg_update, parameters: {variant: update_scaled}}
    """

    name: str = Field(min_length=1, description="name of the part, or `package.module:Class`")
    label: str = Field(
        "",
        description="how the level is called in tables: letters, digits and `_.-`; its name by "
        "default",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="values or spaces of the part's parameters at this level"
    )

    @field_validator("label")
    @classmethod
    def _label_can_name_a_folder(cls, label: str, info: ValidationInfo) -> str:
        is_default = label == short_name(info.data.get("name", ""))
        fault = "" if is_default else name_fault(label)
        if fault:
            raise ValueError(fault)
        return label

    @model_validator(mode="before")
    @classmethod
    def _label_defaults_to_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("label") and isinstance(data.get("name"), str):
            return {**data, "label": short_name(data["name"])}
        return data


PartLevel = Annotated[Level, BeforeValidator(level_from_text)]


class MissingModalities(Section):
    """Which items lose which modality before training; see ``mgstudy.data.missing``.

    Either ``rate``, or shares beside it: of each modality (``independent``), or of each set of
    modalities (``groups``), such as ``image: 0.1`` and ``image+text: 0.2``.
    """

    model_config = ConfigDict(extra="allow")

    pattern: Literal["protected", "groups", "independent"] = Field(
        description="protected: every item keeps a modality; groups: sets of modalities are lost "
        "together; independent: each modality by itself"
    )
    rate: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="protected: share of all items' modalities; groups: share of the items that "
        "lose some; independent: share of the items, by modality",
    )
    seed: Seed = Field(0, description="of the draw, which is the same for every model")
    stratify: Literal["popularity"] | None = Field(
        None, description="whether the shares hold among popular, other and unseen items each"
    )

    @property
    def shares(self) -> dict[str, float]:
        """The shares of modalities or of sets of them."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _says_how_many(self) -> MissingModalities:
        for name, share in self.shares.items():
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise ValueError(f"{name}: expected a share from 0 to 1, got {share!r}")
        if self.pattern == "protected" and self.shares:
            raise ValueError("`protected` has a `rate` and no shares of modalities")
        if (self.rate is None) == (not self.shares):
            raise ValueError("give either `rate` or the shares of modalities")
        return self


class ChangedDataset(Section):
    """A level whose features were changed before training, such as noise that was always there, or
    modalities that items lack.

    Trials train on the changed tables, and are validated and tested on them; the interactions are
    those of the prepared dataset::

        dataset:
          - tiktok
          - name: tiktok
            label: tiktok_noisy
            features: {gaussian_noise: {severity: 0.5, seed: 1}}
          - name: tiktok
            label: tiktok_mr40
            missing: {pattern: protected, rate: 0.4, seed: 0}

    Where both are given, modalities are taken first.
    """

    name: str = Field(min_length=1, description="name of a prepared dataset")
    label: Name = Field(description="how the level is called in tables: letters, digits and `_.-`")
    missing: MissingModalities | None = Field(
        None, description="which items lose which modality; nothing is learnt from what is lost"
    )
    features: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="risks by name, applied in this order, each with `severity`, `seed` (0 when "
        "not given) and the risk's own parameters",
    )

    @model_validator(mode="after")
    def _differs_in_name(self) -> ChangedDataset:
        if self.label == self.name:
            raise ValueError(
                f"the label {self.label!r} is the unchanged dataset's; give this level another"
            )
        if not self.features and self.missing is None:
            raise ValueError("nothing is changed; give `features` or `missing`")
        return self


def _kind_of_level(level: Any) -> str:
    return "changed" if isinstance(level, dict | ChangedDataset) else "prepared"


DatasetLevel = Annotated[
    Annotated[str, Tag("prepared")] | Annotated[ChangedDataset, Tag("changed")],
    Discriminator(_kind_of_level),
]
"""A prepared dataset as it is, or with changed features."""


def _methods_from_yaml(value: Any) -> Any:
    if value == "none":
        return []
    return value if isinstance(value, list) else [value]


RobustLevel = Annotated[tuple[PartLevel, ...], BeforeValidator(_methods_from_yaml)]
"""Robust methods applied together, in order; ``none`` and an empty list are no method."""


class Factors(Section):
    """The dimensions of the study, crossed in full: every combination of levels is a cell."""

    dataset: tuple[DatasetLevel, ...] = Field(
        min_length=1,
        description="names of prepared datasets, also with features changed before training",
    )
    completion: tuple[PartLevel, ...] = Field(
        (),
        description="what stands where items lack a modality; when not given, what the pipeline "
        "says, and the mean where a level of the dataset took it away",
    )
    model: tuple[PartLevel, ...] = Field(min_length=1, description="recommender models")
    gradient: tuple[PartLevel, ...] = Field(
        (Level(name="plain", label="plain"),),
        min_length=1,
        description="gradient strategies: how the optimizer is driven",
    )
    robust: tuple[RobustLevel, ...] = Field(
        ((),),
        min_length=1,
        description="robust training: `none`, a method, or a list of methods applied in order",
    )
    optimizer: tuple[PartLevel, ...] = Field(
        (Level(name="adam", label="adam"),), min_length=1, description="optimizers"
    )
    seed: tuple[Seed, ...] = Field(
        (999,), min_length=1, description="training seeds: initial weights, batches, negatives"
    )

    @model_validator(mode="after")
    def _levels_differ(self) -> Factors:
        for factor in type(self).model_fields:
            levels = getattr(self, factor)
            for label in self.labels(factor):
                repeated = [level for level in levels if level_label(level) == label]
                if len(repeated) > 1:
                    plain = all(isinstance(level, str | int) for level in repeated)
                    advice = "keep one" if plain else "give one a `label`"
                    raise ValueError(f"{factor} has two levels called {label!r}; {advice}")
        return self

    def labels(self, factor: str) -> list[str]:
        """How the levels of a factor are called."""
        return [level_label(level) for level in getattr(self, factor)]


def level_label(level: str | int | ChangedDataset | Level | Sequence[Level]) -> str:
    """How a level is called in tables: ``none`` for no robust method, else labels joined by +."""
    if isinstance(level, str | int):
        return str(level)
    if isinstance(level, Level | ChangedDataset):
        return level.label
    return "+".join(part.label for part in level) or "none"


def varying_factors(cells: Iterable[Mapping[str, str]]) -> list[str]:
    """The factors with more than one level among cells, given each cell's levels. Where a study
    lacks a factor of another, that counts as one."""
    levels = list(cells)
    names = dict.fromkeys(name for of_cell in levels for name in of_cell)
    return [name for name in names if len({of_cell.get(name) for of_cell in levels}) > 1]
