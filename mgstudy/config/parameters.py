"""Parameters: how a part declares them, and the spaces a study searches over them.

A part (model, gradient strategy, robust method, optimizer) declares its parameters as one pydantic
class, each with its default, its limits, what it means and, where the literature searches over it,
its default space::

    class Parameters(ParameterSet):
        dropout: float = parameter(0.8, "share of edges removed each epoch", ge=0, lt=1,
                                   space=(0.8, 0.9))

A space in a study file is a plain value (fixed) or one of ``{choice: [..]}``, ``{integer: [low,
high]}``, ``{float: [low, high]}`` and ``{log_float: [low, high]}``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

Value: TypeAlias = bool | int | float | str | None
"""What a parameter can be set to."""


class Space(BaseModel):
    """A set of values that a parameter may take."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    keyword: ClassVar[str]
    """The word that names this kind of space in a study file."""

    def to_yaml(self) -> Any:
        """The space as it is written in a study file."""
        raise NotImplementedError

    def ends(self) -> tuple[Value, ...]:
        """The values that must be valid for the whole space to be valid: all choices, or the two
        ends of a range."""
        raise NotImplementedError

    def holds(self, value: Value) -> bool:
        """Whether ``value`` is one that may be sampled."""
        return value in self.ends()


class Fixed(Space):
    """One value, not searched over."""

    value: Value

    def to_yaml(self) -> Any:
        return self.value

    def ends(self) -> tuple[Value, ...]:
        return (self.value,)


class Choice(Space):
    """One of several values, without order."""

    keyword = "choice"
    choices: tuple[Value, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _no_repeats(self) -> Choice:
        # 1, 1.0 and true are equal, also to the sampler.
        if len(set(self.choices)) < len(self.choices):
            raise ValueError("a choice lists the same value twice")
        return self

    def to_yaml(self) -> Any:
        return {"choice": list(self.choices)}

    def ends(self) -> tuple[Value, ...]:
        return self.choices


class _Range(Space):
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> _Range:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError("the ends of a range must be finite")
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self

    def to_yaml(self) -> Any:
        return {self.keyword: [self.low, self.high]}

    def ends(self) -> tuple[Value, ...]:
        return (self.low, self.high)

    def holds(self, value: Value) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high


class IntegerRange(_Range):
    """Every whole number from ``low`` to ``high``, both included."""

    keyword = "integer"
    low: int
    high: int

    def holds(self, value: Value) -> bool:
        return isinstance(value, int) and super().holds(value)


class FloatRange(_Range):
    """Every number from ``low`` to ``high``, sampled uniformly."""

    keyword = "float"


class LogFloatRange(_Range):
    """Every number from ``low`` to ``high``, sampled uniformly in the logarithm."""

    keyword = "log_float"

    @model_validator(mode="after")
    def _positive(self) -> LogFloatRange:
        if self.low <= 0:
            raise ValueError(f"low ({self.low:g}) must be above 0 on a logarithmic scale")
        return self


_RANGES: dict[str, type[_Range]] = {
    kind.keyword: kind for kind in (IntegerRange, FloatRange, LogFloatRange)
}
SPACE_KEYWORDS = (Choice.keyword, *_RANGES)


def is_space(value: object) -> bool:
    """Whether ``value``, read from YAML, is a space rather than a mapping of more names."""
    if not isinstance(value, Mapping):
        return True
    return len(value) == 1 and next(iter(value)) in SPACE_KEYWORDS


def parse_space(value: object) -> Space:
    """Read a space as it is written in a study file.

    Raises:
        ValueError: If ``value`` is not a space, or is a contradictory one.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return Fixed(value=value)
    expected = (
        "a value, {choice: [..]}, {integer: [low, high]}, {float: [low, high]} "
        "or {log_float: [low, high]}"
    )
    if not isinstance(value, Mapping) or not is_space(value):
        raise ValueError(f"expected {expected}, got {value!r}")
    keyword, content = next(iter(value.items()))
    if not isinstance(content, list | tuple):
        raise ValueError(f"expected a list after {keyword!r}, got {content!r}")
    if keyword == Choice.keyword:
        return Choice(choices=tuple(content))
    if len(content) != 2:
        raise ValueError(f"expected {{{keyword}: [low, high]}}, got {len(content)} values")
    return _RANGES[keyword](low=content[0], high=content[1])


def parameter(
    default: Any,
    description: str,
    *,
    space: Space | tuple[Value, ...] | None = None,
    **constraints: Any,
) -> Any:
    """Declare a parameter: its default, meaning, limits (pydantic's) and default search space, of
    which a tuple is the choices."""
    if isinstance(space, tuple):
        space = Choice(choices=space)
    return Field(
        default,
        description=description,
        json_schema_extra=None if space is None else {"space": space.to_yaml()},
        **constraints,
    )


class ParameterSet(BaseModel):
    """Base of every part's ``Parameters``: immutable, unknown names are refused, and nothing is
    converted (text is not a number, a number is not a truth value)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    @classmethod
    def spaces(cls) -> dict[str, Space]:
        """Every parameter's default space: its declared one, or fixed at its default."""
        return {name: _default_space(field) for name, field in cls.model_fields.items()}

    @classmethod
    def validated(cls, owner: str, given: Mapping[str, Any] | None) -> Self:
        """An instance from parameters by name; what is left out has its default.

        Raises:
            InputError: If one is unknown or out of range, in the words in which that is said of a
                study file; each line begins with ``owner``.
        """
        # No part of a command that only names spaces.
        from mgstudy.config.document import Document  # noqa: PLC0415

        return Document(owner, dict(given or {})).validate(cls)


class NoParameters(ParameterSet):
    """For a part that has nothing to set."""


def _default_space(field: FieldInfo) -> Space:
    extra = field.json_schema_extra
    if isinstance(extra, Mapping) and "space" in extra:
        return parse_space(extra["space"])
    return Fixed(value=field.get_default(call_default_factory=True))
