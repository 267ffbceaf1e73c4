"""The study file: which factors are crossed, what is searched inside each cell, and how."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from mgstudy.config.factors import (
    Factors,
    Name,
    Section,
    Seed,
    Settings,
    level_from_text,
)
from mgstudy.config.robustness import Robustness
from mgstudy.config.training import TrainingSettings
from mgstudy.errors import suggestion
from mgstudy.significance import FEWEST_SEEDS
from mgstudy.urls import file_url_from_root

FileUrl = Annotated[str | None, AfterValidator(file_url_from_root)]


class SearchSpace(Section):
    """What is searched, under the factor that owns it.

    ``gradient: {mirror_gradient: {interval: 3}}`` speaks of one part; ``optimizer: {learning_rate:
    {log_float: [1e-4, 1e-2]}}`` of every part of that factor that has the parameter. A level's own
    ``parameters`` win over the first, the first over the second, and all over the defaults that
    come with the part.
    """

    model: dict[str, Any] = Field(default_factory=dict)
    gradient: dict[str, Any] = Field(default_factory=dict)
    robust: dict[str, Any] = Field(default_factory=dict)
    optimizer: dict[str, Any] = Field(default_factory=dict)


class OptunaPart(Settings):
    """An Optuna sampler or pruner by class name, with its keyword arguments."""

    name: str = Field(
        min_length=1,
        description="class in optuna.samplers or optuna.pruners, or `package.module:Class`",
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments")


OptunaChoice = Annotated[
    OptunaPart, BeforeValidator(level_from_text, json_schema_input_type=str | OptunaPart)
]


class Budget(Settings):
    """What the search of each cell may spend besides its trials. A cell that has spent it gets no
    new trial; those that run are not stopped, so it ends a little above."""

    gradient_computations: int | None = Field(
        None,
        ge=1,
        description="forward-and-backward passes of a cell's trials together: equal for a strategy "
        "that makes two of them per batch and one that makes one",
    )
    seconds: float | None = Field(
        None,
        gt=0,
        description="seconds of set-up, training and evaluation of a cell's trials together",
    )


class Search(Settings):
    """How the configurations of a cell's trials are chosen, besides the sampler."""

    paired: bool = Field(
        False,
        description="whether trial i has the same parameters of model and optimizer in every cell "
        "that shares these levels, drawn evenly; the sampler proposes the rest. The luck of a "
        "search then cancels where cells are compared",
    )


def levels_from_text(text: Any) -> Any:
    """The levels that ``gradient=plain,robust=none`` names, by their factor; what is no text stays
    as it is.

    Raises:
        ValueError: If a pair lacks its ``=``.
    """
    if not isinstance(text, str):
        return text
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(separator for _, separator, _ in pairs):
        raise ValueError(f"expected factor=level, got {text!r}")
    return {factor.strip(): level.strip() for factor, _, level in pairs}


def unknown_level(baseline: Mapping[str, str], levels: Mapping[str, Collection[str]]) -> str:
    """What is wrong with a baseline, given every factor's levels; empty if nothing."""
    for factor, level in baseline.items():
        if factor not in levels:
            return f"expected factor=level; {suggestion(factor, levels)}"
        if level not in levels[factor]:
            return f"{factor} has no level {level!r}; {suggestion(level, levels[factor])}"
    return ""


class Question(Settings):
    """What cells are compared with, where tables and the report ask nothing else."""

    baseline: Annotated[
        dict[str, str],
        BeforeValidator(levels_from_text, json_schema_input_type=str | dict[str, str]),
        Field(min_length=1),
    ] = Field(
        description="levels that make a cell a baseline: `gradient=plain`, or of several factors "
        "`gradient=plain,robust=none`"
    )


DEFAULT_BASELINE = {"gradient": "plain"}


class Confirmation(Settings):
    """How the winner of each cell is confirmed: trained again, and only then scored on test."""

    seeds: int = Field(
        5,
        ge=0,
        le=1_000_000,
        description="fresh seeds under which each cell's best trial is trained again; 0 for none. "
        "More later trains the difference",
    )
    up_to: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="most seeds of comparisons that are not decided by then: they get `seeds` more "
        "in each round, and p is corrected for every look; null for `seeds` alone",
    )
    until: Literal["decided"] = Field(
        "decided",
        description="when a comparison gets no more seeds: when it is significant, shown to be "
        "below the `margin`, or its searches cannot be told from luck",
    )
    shared: bool = Field(
        False,
        description="whether replicate i has the same seed in every cell, which pairs the cells "
        "seed by seed; by default each cell has seeds of its own",
    )
    margin: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="difference, over the baseline's score, that would not matter: where none is "
        "found, two one-sided tests say whether it is shown to be no larger",
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_none(cls, data: Any) -> Any:
        return {"seeds": 0} if data is None else data

    @model_validator(mode="after")
    def _goes_up(self) -> Confirmation:
        if self.up_to is not None and not FEWEST_SEEDS <= self.seeds <= self.up_to:
            raise ValueError(
                f"with `up_to`, `seeds` is the size of a round: from {FEWEST_SEEDS} to "
                f"{self.up_to}, got {self.seeds}"
            )
        return self


class Resources(Settings):
    """What one trial takes of the machine or cluster."""

    cpu: float = Field(1, gt=0, description="CPUs per trial; its threads follow, rounded down")
    gpu: Annotated[float, Field(ge=0)] | Literal["auto", "packed"] = Field(
        "auto",
        description="GPUs per trial, fractions allowed, with as large a share of its memory; auto: "
        "none without a GPU, else an equal share of each GPU for as many trials as the CPUs allow, "
        "at most 8, or 24 under MPS; packed: the same for the first trials of a cell, then as many "
        "on a GPU as the memory that those took allows",
    )
    accelerator_type: str | None = Field(
        None,
        min_length=1,
        description="only on GPUs of this kind, as Ray calls it: A10G, A100, H100, T4, ...",
    )
    custom: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="custom Ray resources per trial, by name"
    )
    max_concurrent: int | None = Field(
        None, ge=1, description="most trials at once; by default as many as fit"
    )
    autoscaling: bool = Field(
        False,
        description="whether the cluster adds machines while trials wait; `max_concurrent` then "
        "says for how many trials, and `gpu` is a number",
    )

    @model_validator(mode="after")
    def _knows_how_far_to_grow(self) -> Resources:
        if self.autoscaling and (self.max_concurrent is None or isinstance(self.gpu, str)):
            raise ValueError(
                "with `autoscaling`, give `max_concurrent` and `gpu` as numbers: the machines that "
                "are still to come cannot be counted"
            )
        return self

    @field_validator("gpu")
    @classmethod
    def _whole_beyond_one(cls, gpu: float | str) -> float | str:
        if isinstance(gpu, float) and gpu > 1 and not gpu.is_integer():
            raise ValueError(f"a trial takes a share of one GPU or whole GPUs, got {gpu:g}")
        return gpu


class Tracking(Settings):
    """Where MLflow records the study."""

    uri: FileUrl = Field(
        None,
        description="MLflow tracking URI; by default $MLFLOW_TRACKING_URI, else mlflow.db in the "
        "workspace",
    )
    experiment: str | None = Field(
        None, min_length=1, max_length=256, description="experiment name; by default the study's"
    )

    @field_validator("experiment")
    @classmethod
    def _can_name_a_folder(cls, experiment: str | None) -> str | None:
        if experiment is None:
            return None
        parts = experiment.removeprefix("/").split("/")  # On a server, a name may begin with one.
        if not experiment.isprintable() or {"", ".", ".."} & {*parts}:
            told = "printable characters, no `..` and nothing empty between slashes"
            raise ValueError(f"expected {told}, got {experiment!r}")
        return experiment


class Checkpoints(Settings):
    """When a running trial writes down its state, from which it goes on after an interruption, and
    what stays of it when it has ended. The best weights of each cell's best trial always stay."""

    every_seconds: float | None = Field(
        30.0, gt=0, description="seconds of training between two states; null for not by time"
    )
    every_epochs: int | None = Field(
        None, ge=1, description="epochs between two states; null for not by epochs"
    )
    keep_every: int | None = Field(
        None,
        ge=1,
        description="the state after every so many epochs stays too, as epoch-N.pt; null for none",
    )
    keep_last: bool = Field(False, description="whether the last state stays too")


class Retries(Settings):
    """What happens to trials that broke."""

    max_retries: int = Field(
        2,
        ge=0,
        description="how often a trial goes on after a lost machine, a killed process or too "
        "little memory; a diverged loss, a wrong setting or a bug ends it at once",
    )
    ray: int = Field(
        3,
        ge=0,
        description="how often a launch starts Ray anew where it had started it and Ray died, and "
        "goes on by itself; no trial is charged for it",
    )
    stop_after_failures: int | None = Field(
        10,
        ge=1,
        description="stop the study when this many trials failed for one and the same reason "
        "before any succeeded; null to go on in any case",
    )


class StudyConfig(Settings):
    """One study: what one YAML file asks for."""

    name: Name = Field(description="letters, digits and `_.-`")
    question: str = Field("", description="the question the study answers, for tables and reports")
    questions: tuple[Question, ...] = Field(
        (),
        strict=False,
        description="what is compared with what: a table for each in `compare`, a section in the "
        "report; by default one, `{baseline: gradient=plain}`. May be changed at any time",
    )
    names: dict[str, str] = Field(
        default_factory=dict,
        description="how tables for papers call levels, parts of them, metrics and factors: "
        "`{mirror_gradient: MG, recall@20: R@20}`. May be changed at any time",
    )
    factors: Factors
    space: SearchSpace = Field(default_factory=SearchSpace)
    parameters_from: Name | None = Field(
        None,
        description="another study of the workspace, whose winners' parameters cells take instead "
        "of searching: of its cell with the same model, gradient, robust training and optimizer on "
        "the same dataset, or on that dataset as it is where a level changes it",
    )
    trials: int = Field(
        ge=1,
        le=1_000_000,
        description="trials per cell, the same for every cell, but no more than it has "
        "combinations; more later runs the difference",
    )
    budget: Budget = Field(
        default_factory=Budget,
        description="what else ends the search of a cell before its trials are used up",
    )
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    sampler: OptunaChoice = Field(
        OptunaPart(name="TPESampler"), description="Optuna sampler that proposes parameters"
    )
    search: Search = Field(
        default_factory=Search, description="how configurations are chosen besides the sampler"
    )
    start_with_defaults: bool = Field(
        True,
        description="whether a cell's first trial takes the published default of every searched "
        "parameter whose space holds it, so that no search ends below the authors' own setting",
    )
    pruner: OptunaChoice = Field(
        OptunaPart(
            name="PatientPruner",
            arguments={
                "wrapped_pruner": {
                    "name": "MedianPruner",
                    "arguments": {"n_startup_trials": 4, "n_warmup_steps": 10},
                },
                "patience": 1,
            },
        ),
        description="Optuna pruner that stops unpromising trials; NopPruner for none. By default "
        "one is stopped when it is below the median and has ceased to improve: with a small "
        "learning rate, what wins in the end is long below the median",
    )
    confirmation: Confirmation = Field(
        default_factory=Confirmation,
        description="how the winners are confirmed on the test split; null for not at all",
    )
    robustness: Robustness | None = Field(
        None,
        description="what to measure of the confirmed models when all have run; `{}` for the "
        "defaults, null to leave it to `mgstudy robustness`",
    )
    resources: Resources = Field(default_factory=Resources)
    checkpoints: Checkpoints = Field(default_factory=Checkpoints)
    retries: Retries = Field(default_factory=Retries)
    storage: FileUrl = Field(
        None, description="Optuna storage URL; by default a SQLite file in the workspace"
    )
    tracking: Tracking = Field(default_factory=Tracking)
    seed: Seed = Field(
        999, description="study seed, from which the seeds of samplers and confirmations derive"
    )

    @property
    def baselines(self) -> tuple[dict[str, str], ...]:
        """The levels of what cells are compared with, for each question."""
        return tuple(question.baseline for question in self.questions) or (DEFAULT_BASELINE,)

    @model_validator(mode="after")
    def _pairs_or_grids(self) -> StudyConfig:
        if self.search.paired and self.sampler.name in {"BruteForceSampler", "GridSampler"}:
            raise ValueError(
                f"`search: {{paired: true}}` draws configurations itself; {self.sampler.name} goes "
                "through all of them, which pairs nothing"
            )
        return self
