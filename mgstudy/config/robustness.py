"""What a study file asks to be measured of trained models: risks to features, and flatness."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, model_validator

from mgstudy.config.factors import Level, PartLevel, Seed, Settings

FLATNESS_MEASURES = {
    "loss": "training loss",
    "weight_norm": "norm of the weights",
    "gradient_norm": "gradient norm",
    "sam_sharpness": "SAM sharpness",
    "weight_noise_rise": "loss rise under weight noise",
    "top_eigenvalue": "largest Hessian eigenvalue",
    "hessian_trace": "Hessian trace",
}
"""What is measured of flatness, and how it is called in tables."""


class ItemGraph(StrEnum):
    """What became of the graphs between items that a model built from the features."""

    NONE = "none"
    """The model has none."""
    FROZEN = "frozen"
    """Those of the clean features are kept: the model goes on as it was deployed."""
    REBUILT = "rebuilt"
    """They are built again from the changed features, as when the model is deployed anew."""


class FlatnessSettings(Settings):
    """How the flatness of a minimum is measured, on batches that are the same for every model."""

    batches: int = Field(
        4, ge=1, le=1_000_000, description="training batches the loss is averaged over"
    )
    seed: Seed = Field(0, description="of the batches, negatives and directions")
    sam_radius: float = Field(
        0.01, gt=0, description="radius of SAM's sharpness over the norm of the weights"
    )
    noise: float = Field(
        0.1, gt=0, description="length of each row's noise over the length of the row"
    )
    noise_draws: int = Field(
        5, ge=1, le=10_000, description="draws of weight noise to average over"
    )
    eigenvalue: bool = Field(True, description="compute the largest Hessian eigenvalue")
    eigenvalue_tolerance: float = Field(
        1e-2, gt=0, description="relative error at which the eigenvalue counts as found"
    )
    trace_probes: int = Field(
        4,
        ge=0,
        le=10_000,
        description="random vectors of Hutchinson's estimate of the trace; 0 for none",
    )
    landscape_radius: float = Field(
        1.0, gt=0, description="how far landscape slices go, over the length of the rows"
    )
    landscape_points: int = Field(
        21, ge=0, le=10_001, description="points of the one-dimensional slice; 0 for none"
    )
    landscape_grid: int = Field(
        9,
        ge=0,
        le=1_001,
        description="points of the two-dimensional slice on each side; 0 for none",
    )


def _risks(*names: str) -> tuple[Level, ...]:
    return tuple(Level(name=name, label=name) for name in names)


class Robustness(Settings):
    """What is measured of trained models: risks to their features, and how flat the minimum is."""

    risks: tuple[PartLevel, ...] = Field(
        (
            *_risks("gaussian_noise", "swap", "missing_modality"),
            Level(
                name="missing_modality",
                label="missing_modality_zero",
                parameters={"replacement": "zero"},
            ),
            *_risks("item_mixing", "stale", "fgsm", "pgd"),
        ),
        strict=False,
        description="risks by name, with `parameters` (severities, seeds, ..) and, for a second "
        "one of the same name, a `label`",
    )
    flatness: FlatnessSettings | None = Field(
        default_factory=FlatnessSettings, description="how flatness is measured; null for not"
    )
    landscapes: int = Field(
        1, ge=0, description="replicates of a cell whose loss landscape is sliced"
    )
    resamples: int = Field(
        500,
        ge=100,
        le=1_000_000,
        description="bootstrap resamples behind every confidence band",
    )

    @model_validator(mode="after")
    def _labels_differ(self) -> Robustness:
        labels = [risk.label for risk in self.risks]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"two risks are called {label!r}; give one a `label`")
        return self
