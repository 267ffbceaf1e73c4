"""What is measured of trained models: risks to their features, and the flatness of the minimum."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FlatnessSettings(BaseModel):
    """How the flatness of a minimum is measured, on batches that are the same for every model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    batches: int = Field(4, ge=1, description="training batches the loss is averaged over")
    seed: int = Field(0, ge=0, lt=2**32, description="of the batches, negatives and directions")
    sam_radius: float = Field(
        0.01, gt=0, description="radius of SAM's sharpness over the norm of the weights"
    )
    noise: float = Field(
        0.1, gt=0, description="length of each row's noise over the length of the row"
    )
    noise_draws: int = Field(5, ge=1, description="draws of weight noise to average over")
    eigenvalue: bool = Field(True, description="compute the largest Hessian eigenvalue")
    eigenvalue_tolerance: float = Field(
        1e-2, gt=0, description="relative error at which the eigenvalue counts as found"
    )
    trace_probes: int = Field(
        4, ge=0, description="random vectors of Hutchinson's estimate of the trace; 0 for none"
    )
    landscape_radius: float = Field(
        1.0, gt=0, description="how far landscape slices go, over the length of the rows"
    )
    landscape_points: int = Field(
        21, ge=0, description="points of the one-dimensional slice; 0 for none"
    )
    landscape_grid: int = Field(
        9, ge=0, description="points of the two-dimensional slice on each side; 0 for none"
    )
