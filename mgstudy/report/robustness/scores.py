"""One cell's scores under risks, resampled, and what their differences allow to be said."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mgstudy.report.texts import relative
from mgstudy.significance import CONFIDENCE

Samples: TypeAlias = NDArray[np.float64]
"""A value in each bootstrap sample, shape ``[resamples]``."""

_SEED = 7


@dataclass(frozen=True)
class Point:
    """The score at one severity.

    Attributes:
        severity: How severe the risk is; 0 is the clean score.
        mean: Over users, replicates and the risk's seeds.
        samples: The same in each bootstrap sample.
        reached: Whether the risk reaches the scores at all.
        seeds: How many seeds the risk had.
    """

    severity: float
    mean: float
    samples: Samples
    reached: bool
    seeds: int


@dataclass(frozen=True)
class Area:
    """The area under a drop curve over the length of its axis.

    Attributes:
        mean: The area, the mean drop along the axis; NaN without any severity.
        samples: The same in each bootstrap sample.
        drop: The relative drop at the highest severity.
        severity: That severity.
        reached: Whether the risk reaches the scores at all.
    """

    mean: float
    samples: Samples
    drop: float
    severity: float
    reached: bool


class CellScores:
    """One cell's measurements of the objective, clean and under risks.

    A bootstrap sample has the same users for everything, replicates of the model that are the same
    for clean and changed features, and seeds of the risk that are the same for every replicate and
    every cell. Of n replicates or seeds it draws n - 1, which makes the variance of a mean unbiased
    (McCarthy and Snowden 1985); n would make it (n - 1) / n too small, a fifth with five.

    Args:
        key: The cell.
        measured: Its measurements.
    """

    def __init__(self, key: str, measured: Sequence[Mapping[str, Any]]) -> None:
        self.key = key
        clean = {m["replicate"]: m for m in measured if m["kind"] == "clean"}
        self.points: dict[tuple[str, str], dict[float, dict[tuple[int, int], Any]]] = {}
        for m in measured:
            if m["kind"] == "risk" and m["replicate"] in clean:
                by_severity = self.points.setdefault((m["risk"], m["graph"]), {})
                by_severity.setdefault(m["severity"], {})[m["replicate"], m["risk_seed"]] = m
        self.replicates = sorted(clean)
        self._clean = clean
        self.objective = next((m["objective"] for m in measured if "objective" in m), "")
        if self.replicates:
            self.split = next(iter(clean.values()))["split"]
            self.users = next(iter(clean.values()))["users"]
            self.clean = float(np.mean([self._value(m) for m in clean.values()]))
            self.clean_samples = self._resample([[clean[r]["resampled"]] for r in self.replicates])

    def _value(self, measurement: Mapping[str, Any]) -> float:
        return float(measurement["metrics"][self.objective])

    def curve(self, risk: str, graph: str) -> list[Point]:
        """The score against severity, severity 0 first.

        Only severities for which every replicate has been measured.
        """
        found = [Point(0.0, self.clean, self.clean_samples, False, 0)]
        for severity, measured in sorted(self.points[risk, graph].items()):
            seeds = sorted({seed for _, seed in measured})
            complete = {(r, s) for r in self.replicates for s in seeds}
            if severity == 0 or not complete <= set(measured):
                continue
            if not any(m["reached"] for m in measured.values()):
                # Not the mean of so many equal numbers, which rounding would move.
                found.append(Point(severity, self.clean, self.clean_samples, False, len(seeds)))
                continue
            samples = self._resample(
                [
                    [measured[r, s]["resampled"] or self._clean[r]["resampled"] for s in seeds]
                    for r in self.replicates
                ]
            )
            mean = float(np.mean([self._value(m) for m in measured.values()]))
            found.append(Point(severity, mean, samples, True, len(seeds)))
        return found

    def _resample(self, values: Sequence[Sequence[Sequence[float]]]) -> Samples:
        """Sample replicates and seeds in every sample of users; shape ``[resamples]``."""
        stacked = np.array(values, dtype=np.float64)
        replicates, seeds, resamples = stacked.shape
        # Cells were trained under seeds of their own, so each draws its own replicates.
        own = np.random.default_rng([_SEED, *hashlib.sha256(self.key.encode()).digest()])
        chosen = own.integers(replicates, size=(resamples, _drawn(replicates), 1))
        common = np.random.default_rng(_SEED)
        of_seeds = common.integers(seeds, size=(resamples, 1, _drawn(seeds)))
        sample = np.arange(resamples)[:, None, None]
        means: Samples = stacked[chosen, of_seeds, sample].mean(axis=(1, 2))
        return means

    def curves(self) -> Iterator[dict[str, Any]]:
        """The rows of ``RobustnessTables.curves``."""
        for risk, graph in self.points:
            for point in self.curve(risk, graph):
                low, high = interval(point.samples)
                drop_low, drop_high = interval(_drops(point.samples, self.clean_samples))
                yield {
                    "cell": self.key,
                    "risk": risk,
                    "graph": graph,
                    "severity": point.severity,
                    self.objective: point.mean,
                    "low": low,
                    "high": high,
                    "relative_drop": _relative_drop(point.mean, self.clean),
                    "drop_low": drop_low,
                    "drop_high": drop_high,
                    "reached": point.reached,
                    "replicates": len(self.replicates),
                    "risk_seeds": point.seeds,
                    "users": self.users,
                    "split": self.split,
                }

    def area(self, risk: str, graph: str) -> Area:
        """The area under the drop curve, by trapezoids."""
        curve = self.curve(risk, graph)
        severities = np.array([point.severity for point in curve])
        drops = np.array([_relative_drop(point.mean, self.clean) for point in curve])
        samples = np.array([_drops(point.samples, self.clean_samples) for point in curve])
        length = float(severities[-1])
        if length == 0:
            nothing = np.full_like(self.clean_samples, math.nan)
            return Area(math.nan, nothing, math.nan, 0.0, False)
        return Area(
            mean=float(np.trapezoid(drops, severities) / length),
            samples=np.trapezoid(samples, severities, axis=0) / length,
            drop=float(drops[-1]),
            severity=length,
            reached=any(point.reached for point in curve),
        )

    def is_comparable(self, other: CellScores, risk: str, graph: str) -> bool:
        """Whether both were ranked on the same split and users, under the same severities of a risk
        and as many of its seeds."""
        if (risk, graph) not in other.points:
            return False
        mine, theirs = (
            (cell.split, cell.users, [(p.severity, p.seeds) for p in cell.curve(risk, graph)])
            for cell in (self, other)
        )
        return mine == theirs


@dataclass(frozen=True)
class Significance:
    """The 95 % interval and the two-sided p-value of a difference; NaN without any spread."""

    low: float
    high: float
    p: float


def significance(difference: float, samples: Samples, freedom: int) -> Significance:
    """Test a difference of two cells over its bootstrap standard error, by Student's t.

    A share of samples could not be small enough to stand Holm's correction for many risks, and a
    normal distribution would take the spread of a few replicates for known.

    Args:
        difference: The difference.
        samples: The same in each bootstrap sample.
        freedom: Degrees of freedom: the replicates of both cells less 2. With none, of one
            replicate each, the spread is that over users, and normal.
    """
    error = float(np.std(samples, ddof=1))
    if not error > 0:
        return Significance(math.nan, math.nan, math.nan)
    distribution = stats.t(freedom) if freedom > 0 else stats.norm
    half = error * float(distribution.ppf((1 + CONFIDENCE) / 2))
    p = float(2 * distribution.sf(abs(difference) / error))
    return Significance(difference - half, difference + half, p)


def interval(samples: Samples) -> tuple[float, float]:
    """The 95 % percentile interval (Efron 1979); NaN if a sample is."""
    tail = 100 * (1 - CONFIDENCE) / 2
    if np.isnan(samples).any():
        return math.nan, math.nan
    low, high = np.percentile(samples, [tail, 100 - tail])
    return float(low), float(high)


def _drawn(count: int) -> int:
    return max(1, count - 1)


def _relative_drop(value: float, clean: float) -> float:
    return relative(clean - value, clean)


def _drops(samples: Samples, clean: Samples) -> Samples:
    with np.errstate(divide="ignore", invalid="ignore"):
        drops: Samples = np.where(clean != 0, (clean - samples) / np.abs(clean), math.nan)
    return drops
