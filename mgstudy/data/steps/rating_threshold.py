"""Keep what was rated well enough."""

from __future__ import annotations

from typing import ClassVar

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.interactions import RawInteractions
from mgstudy.data.steps.base import Step
from mgstudy.errors import InputError


class RatingThreshold(Step):
    """Keep interactions rated at least `minimum`."""

    name: ClassVar[str] = "rating_threshold"

    class Parameters(ParameterSet):
        minimum: float = parameter(..., "lowest rating that is kept")

    parameters: Parameters

    def apply(self, interactions: RawInteractions) -> RawInteractions:
        if interactions.ratings is None:
            raise InputError(
                f"{interactions.origin}: has no ratings, which the step {self.name!r} needs"
            )
        minimum = self.parameters.minimum
        return interactions.kept(
            interactions.ratings >= minimum, f"keep ratings of at least {minimum:g}"
        )
