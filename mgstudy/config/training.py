"""How a model is trained and evaluated, apart from the model's and the optimizer's parameters."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from pydantic import Field, ValidationInfo, field_validator, model_validator

from mgstudy.config.factors import Settings
from mgstudy.config.metrics import (
    DOMAINS,
    GROUPS,
    ITEM_GROUPS,
    USER_GROUPS,
    larger_is_better,
    ranking_metrics,
    split_group,
)
from mgstudy.errors import InputError, UnknownNameError

MEASURES = ("recall", "ndcg", "precision", "map", "hit_rate")
"""What is computed by default, the measures of accuracy; a metric is a measure at a cutoff. These
and others are found in ``ranking_metrics``."""
RECORDED = "recorded"
"""The context of validation for settings that were validated when they were written down."""
_LONGEST_LIST = 1_000_000
_ROBUSTNESS = "robustness."


class Metric(NamedTuple):
    """A measure of the first ``cutoff`` items of a ranked list."""

    measure: str
    cutoff: int

    def __str__(self) -> str:
        return f"{self.measure}@{self.cutoff}"


def parse_metric(name: str) -> Metric:
    """Read a metric's name, such as ``"recall@20"``.

    Raises:
        UnknownNameError: If there is no such measure.
        InputError: If the cutoff is missing or is not a whole number above 0.
    """
    measure, _, cutoff = name.partition("@")
    _require_measure("metric", measure)
    if not (cutoff.isascii() and cutoff.isdigit() and int(cutoff) > 0):
        raise InputError(
            f"metric {name!r} needs a cutoff, a whole number above 0: write {measure}@20, say"
        )
    return Metric(measure, int(cutoff))


class Objective(NamedTuple):
    """What selects: a metric on the features as they are, or after a risk, as in ``"recall@20 under
    gaussian_noise 0.5"``; without a severity, at the middle one of the risk's own."""

    metric: Metric
    risk: str | None = None
    severity: float | None = None

    def __str__(self) -> str:
        severity = "" if self.severity is None else f" {self.severity:g}"
        return f"{self.metric} under {self.risk}{severity}" if self.risk else str(self.metric)


def parse_objective(name: str) -> Objective:
    """Read an objective's name; whether there is such a risk is not looked at.

    Raises:
        InputError: As ``parse_metric``, and if what follows ``under`` is no risk with a severity.
    """
    metric, under, of_risk = name.partition(" under ")
    if not under:
        return Objective(parse_metric(name))
    risk, *severities = of_risk.split()
    try:
        severity = float(severities[0]) if severities else None
    except ValueError:
        severity = math.nan
    if len(severities) > 1 or not (severity is None or 0 <= severity < math.inf):
        raise InputError(
            f"expected a risk and one severity, such as `{metric} under gaussian_noise 0.5`, "
            f"got {of_risk!r}"
        )
    return Objective(parse_metric(metric.strip()), risk, severity)


def _require_measure(kind: str, name: str) -> None:
    """Refuse what is no installed metric, or none that can be asked of the group it names."""
    if name in MEASURES:  # Known without loading them, and torch with them.
        return
    metric, group = split_group(name)
    if group is not None and group not in GROUPS:
        raise UnknownNameError("group", group, GROUPS)
    try:
        of_relevance = ranking_metrics.get(metric).of_relevance
    except UnknownNameError:
        raise UnknownNameError(kind, metric, ranking_metrics.names()) from None
    if group in (*ITEM_GROUPS, DOMAINS) and not of_relevance:
        raise InputError(
            f"{kind} {name!r}: {metric} does not look at which items are relevant, so it cannot be "
            f"asked of {'domains' if group == DOMAINS else 'a group of items'}"
        )


class EarlyStopping(Settings):
    """When to stop a training whose validation no longer improves."""

    patience: int = Field(
        20,
        ge=0,
        description="validations in a row without improvement that are tolerated; "
        "one more stops the training (as published)",
    )
    minimum_epochs: int = Field(
        30,
        ge=0,
        description="never stop before this many epochs. Some models lose accuracy before they "
        "gain it: BM3 on TikTok (Adam, learning rate 1e-3) falls from recall@20 0.068 in epoch 10 "
        "to 0.057 in epoch 17, passes its first peak in epoch 25 and goes on climbing, so a short "
        "patience alone would judge it by the wrong peak",
    )
    minimum_improvement: float = Field(
        0.0,
        ge=0,
        description="an improvement must exceed this. The published code compares values rounded "
        "to 4 decimals, which is about 5e-5 here; 0 compares the values as they are",
    )


def _or_several(schema: dict[str, Any]) -> None:
    """Let an editor know of several objectives."""
    several = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    schema["anyOf"] = [
        {"type": schema.pop("type")},
        {
            "type": "object",
            "properties": {"maximize": several},
            "required": ["maximize"],
            "additionalProperties": False,
        },
    ]


class TrainingSettings(Settings):
    """One training run: how long, in which batches, judged by what."""

    epochs: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="passes over the training interactions, unless stopped earlier",
    )
    batch_size: int = Field(2048, ge=1, description="training pairs in a batch")
    rows_per_epoch: int | None = Field(
        None,
        ge=1,
        description="training pairs in an epoch, others in each; null for all",
    )
    validate_every: int = Field(
        1, ge=1, description="epochs between validations; the last epoch is always validated"
    )
    early_stopping: EarlyStopping | None = Field(
        EarlyStopping(), description="when to stop early; null trains for all epochs"
    )
    objective: str = Field(
        "recall@20",
        description="validation metric that selects epochs and hyper-parameters; larger is better. "
        "`recall@20 under gaussian_noise 0.5` is the metric after a risk of that severity to the "
        "features. `{maximize: [recall@20, robustness.gaussian_noise]}` searches for several at "
        "once, without pruning: the first selects epochs and winners, and the report draws the "
        "front. `robustness.RISK` is the first one's metric under that risk",
        json_schema_extra=_or_several,
    )
    further_objectives: tuple[str, ...] = Field(
        (), strict=False, description="what `objective: {maximize: [..]}` names behind the first"
    )
    measures: tuple[str, ...] = Field(
        MEASURES,
        strict=False,
        description="what to compute of a ranking: metrics by name, also of a group of items "
        f"({', '.join(ITEM_GROUPS)}) or of users ({', '.join(USER_GROUPS)}), as recall-tail, or of "
        "each domain and their mean, as recall-domains",
    )
    cutoffs: tuple[int, ...] = Field(
        (5, 10, 20, 50), strict=False, description="lengths of the ranked lists that are measured"
    )
    clip_norm: float | None = Field(
        None,
        gt=0,
        description="clip the gradient to this global norm before a step; null for no. Of a "
        "batch's two, Mirror Gradient as published clips only the second; update_scaled, both",
    )
    evaluation_block_size: int | None = Field(
        None,
        ge=1,
        description="users that are ranked at once; null chooses as many as stay in the cache, "
        "but no fewer than 16",
    )
    mask_validation_in_test: bool = Field(
        False,
        description="whether a user's validation items are left out of the ranking in the test. "
        "The published code leaves them in, where they can only be wrong answers",
    )

    @model_validator(mode="before")
    @classmethod
    def _several_objectives(cls, data: Any) -> Any:
        objective = data.get("objective") if isinstance(data, dict) else None
        if not isinstance(objective, dict):
            return data
        named = objective.get("maximize")
        if len(objective) != 1 or not isinstance(named, list) or not named:
            raise ValueError("objective: expected a metric, or {maximize: [metric, ..]}")
        metric, _, _ = str(named[0]).partition(" under ")
        further = [
            f"{metric} under {name[len(_ROBUSTNESS) :]}"
            if isinstance(name, str) and name.startswith(_ROBUSTNESS)
            else name
            for name in named[1:]
        ]
        return {**data, "objective": named[0], "further_objectives": further}

    @field_validator("further_objectives")
    @classmethod
    def _further_objectives_exist(
        cls, names: tuple[str, ...], info: ValidationInfo
    ) -> tuple[str, ...]:
        found = dict.fromkeys(map(cls._objective_exists, names))
        return tuple(name for name in found if name != info.data.get("objective"))

    @property
    def objectives(self) -> tuple[str, ...]:
        """Everything that is searched for, the objective first."""
        return (self.objective, *self.further_objectives)

    @property
    def clean_objective(self) -> str:
        """The metric of the objective, on the features as they are."""
        return str(parse_objective(self.objective).metric)

    @field_validator("objective")
    @classmethod
    def _objective_exists(cls, name: str) -> str:
        try:
            objective = parse_objective(name)
        except InputError as error:
            raise ValueError(str(error)) from None
        measure, _ = split_group(objective.metric.measure)
        if not larger_is_better(measure):
            raise ValueError(f"of {measure}, larger is not better: it selects nothing")
        return str(objective)

    @field_validator("measures")
    @classmethod
    def _measures_exist(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        # What a study has recorded was asked when it was launched: nothing is loaded to read it.
        for name in () if info.context == RECORDED else names:
            try:
                _require_measure("measure", name)
            except InputError as error:
                raise ValueError(str(error)) from None
        return tuple(dict.fromkeys(names))

    @field_validator("cutoffs")
    @classmethod
    def _cutoffs_positive(cls, cutoffs: tuple[int, ...]) -> tuple[int, ...]:
        for cutoff in cutoffs:
            if not 1 <= cutoff <= _LONGEST_LIST:
                raise ValueError(f"expected 1 to {_LONGEST_LIST:,} for a cutoff, got {cutoff}")
        return tuple(sorted(set(cutoffs)))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Every measure at every cutoff, the objectives' in any case, and what is to be read beside
        one of them."""
        computed = [Metric(measure, cutoff) for measure in self.measures for cutoff in self.cutoffs]
        computed += [parse_objective(name).metric for name in self.objectives]
        beside = [
            Metric(name, metric.cutoff)
            for metric in computed
            for name in ranking_metrics.get(split_group(metric.measure)[0]).beside
        ]
        return tuple(dict.fromkeys([*computed, *beside]))
