"""Cells with the cells that they are compared with: what both were scored, and the tests of their
difference over seeds and over users."""

from __future__ import annotations

import functools
import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.parquet import ParquetFile

from mgstudy.config.study import levels_from_text, unknown_level
from mgstudy.errors import InputError
from mgstudy.files import refuse_what_is_no_file
from mgstudy.report.texts import relative
from mgstudy.significance import FEWEST_SEEDS
from mgstudy.statistics import NO_TESTS, UserTests, equivalence_p, seed_tests, user_tests
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.rounds import (
    baseline_of,
    is_baseline,
    looks_taken,
    over_looks,
)
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import RecordedTrial

Split = Literal["test", "validation"]

_USER_COLUMNS = {
    "users_low": "low",
    "users_high": "high",
    "p_users_t": "p_t",
    "p_users_wilcoxon": "p_wilcoxon",
    "p_users_permutation": "p_permutation",
}
"""The comparison's columns, and the attributes of ``UserTests`` that they hold."""
NO_USERS = dict.fromkeys(_USER_COLUMNS, math.nan)
"""The columns of a cell that has no test over users."""
_UserResults: TypeAlias = dict[tuple[str, str, str], dict[str, float]]
_NUMBERS_AT_ONCE = 5_000_000
"""So many differences of users wait for their tests at most (40 MB), of however many cells."""


def parse_baseline(text: str, summaries: Sequence[StudySummary]) -> dict[str, str]:
    """Read ``factor=level`` pairs separated by commas.

    Raises:
        InputError: For a factor or level that the studies do not have.
    """
    levels: dict[str, set[str]] = defaultdict(set)
    for summary in summaries:
        for cell in summary.cells:
            for factor, level in cell.levels.items():  # A factor may be one study's alone.
                levels[factor].add(level)
    try:
        baseline: dict[str, str] = levels_from_text(text)
    except ValueError as error:
        raise InputError(f"--baseline {text}: {error}") from None
    if fault := unknown_level(baseline, levels):
        raise InputError(f"--baseline {text}: {fault}")
    return baseline


@dataclass(frozen=True)
class ComparedCell:
    """A cell, and what it is compared with.

    Attributes:
        study: Its study.
        cell: The cell.
        baseline: The cell it is compared with; ``None`` if there is none, or it is one itself.
        is_baseline: Whether it is one.
    """

    study: StudySummary
    cell: CellState
    baseline: ComparedCell | None
    is_baseline: bool

    @property
    def complete(self) -> list[RecordedTrial]:
        """The replicates that have test scores."""
        return [replicate for replicate in self.cell.confirmations if replicate.test_metrics]

    def scores(self, metric: str) -> dict[int, float]:
        """The test score of each completed replicate, by its seed."""
        return {
            replicate.seed: float(replicate.test_metrics[metric])
            for replicate in self.complete
            if replicate.test_metrics.get(metric) is not None
        }

    def replicates(self) -> tuple[list[RecordedTrial], list[RecordedTrial], bool]:
        """The replicates of the cell and of its baseline that are compared, and whether they are
        pairs: then in the same order of seeds, and those without a partner left out."""
        ours = self.complete
        theirs = [] if self.baseline is None else self.baseline.complete
        if not (pairs := self.pairs()):
            return ours, theirs, False
        by_seed = {replicate.seed: replicate for replicate in theirs}
        ours = [replicate for replicate in ours if replicate.seed in pairs]
        return ours, [by_seed[replicate.seed] for replicate in ours], True

    def pairs(self) -> set[int]:
        """The seeds under which both the cell and its baseline have test scores."""
        if self.baseline is None:
            return set()
        theirs = {replicate.seed for replicate in self.baseline.complete}
        return theirs & {replicate.seed for replicate in self.complete}

    def compared(self, metric: str, split: Split) -> tuple[list[float], list[float], bool]:
        """The scores of the cell and of its baseline that are compared, and whether they are pairs.

        Where the two have seeds in common, those are compared alone: a replicate whose partner
        failed would turn pairs into a comparison of different seeds.
        """
        if split == "validation":
            other = math.nan if self.baseline is None else self.baseline.validation(metric)
            return [self.validation(metric)], [other], False
        ours = self.scores(metric)
        theirs = {} if self.baseline is None else self.baseline.scores(metric)
        if not (pairs := self.pairs()):
            return list(ours.values()), list(theirs.values()), False
        seeds = [seed for seed in ours if seed in pairs and seed in theirs]
        return [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds], True

    def validation(self, metric: str) -> float:
        """The winner's score in the search; not a number without one."""
        best = self.cell.best
        metrics: Mapping[str, Any] = best.outcome.get("best_metrics", {}) if best else {}
        found = metrics.get(metric, best.value if best and metric == self.study.objective else None)
        return math.nan if found is None else float(found)


def compared_cells(
    summaries: Sequence[StudySummary], baseline: Mapping[str, str]
) -> list[ComparedCell]:
    """Every cell with its baseline, of the same study or else of another that is comparable.

    Args:
        summaries: The studies.
        baseline: Levels that make a cell a baseline.
    """
    entries = []
    for study in summaries:
        others = [study, *(s for s in summaries if s is not study and s.comparable(study))]
        for cell in study.cells:
            found = next(
                (
                    ComparedCell(other, candidate, None, True)
                    for other in others
                    if (candidate := baseline_of(cell, other.cells, baseline)) is not None
                ),
                None,
            )
            entries.append(ComparedCell(study, cell, found, is_baseline(cell, baseline)))
    return entries


def over_seeds(entry: ComparedCell, metric: str, split: Split) -> dict[str, Any]:
    """The difference from the baseline and its tests over seeds, as columns of the comparison; no
    tests without ``FEWEST_SEEDS`` scores on both sides."""
    ours, theirs, paired = entry.compared(metric, split)
    mean, other = (float(np.mean(side)) if side else math.nan for side in (ours, theirs))
    is_tested = min(len(ours), len(theirs)) >= FEWEST_SEEDS
    test = seed_tests(ours, theirs, paired) if is_tested else NO_TESTS
    confirmation = entry.study.manifest.config.confirmation
    p_seeds, p_equivalence, taken = test.p_t, math.nan, None
    if confirmation.up_to is not None and entry.baseline is not None:
        sides = entry.cell.confirmations, entry.baseline.cell.confirmations
        taken = looks_taken(confirmation, *sides)
        if is_tested:
            p_seeds = over_looks(sides, metric, confirmation, taken)
        if is_tested and confirmation.margin:
            p_equivalence = over_looks(sides, metric, confirmation, taken, confirmation.margin)
    elif is_tested and confirmation.margin:
        p_equivalence = equivalence_p(ours, theirs, paired, confirmation.margin * abs(other))
    return {
        "difference": mean - other,
        "relative_difference": relative(mean - other, other),
        "difference_low": test.difference.low,
        "difference_high": test.difference.high,
        "difference_error": test.error,
        "pairs": len(ours) if paired else None,
        "paired": test.paired,
        "looks": taken,
        "p_t": test.p_t,
        "p_seeds": p_seeds,
        "p_wilcoxon": test.p_wilcoxon,
        "p_permutation": test.p_permutation,
        "effect_size": test.effect_size,
        "at_most": relative(test.at_most, other),
        "p_equivalence": p_equivalence,
    }


def compare_over_users(
    entries: Sequence[ComparedCell], metrics: Sequence[str], problems: list[str]
) -> _UserResults:
    """The tests over users of every pair of cells with test scores.

    Args:
        entries: The cells with their baselines.
        metrics: What to test.
        problems: Gets a line for each table of scores that cannot be read.

    Returns:
        ``users_low``, ``users_high``, ``p_users_t``, ``p_users_wilcoxon`` and
        ``p_users_permutation`` by study, cell and metric.
    """

    # The baseline of one cell is mostly that of the next.
    @functools.lru_cache(maxsize=2)
    def mean_users(paths: tuple[Path, ...]) -> pd.DataFrame:
        return _mean_users(paths, metrics, problems)

    results: _UserResults = {}
    waiting: dict[bytes, _SameUsers] = {}
    for entry in entries:
        if entry.baseline is None or not entry.complete or not entry.baseline.complete:
            continue
        pairs = entry.pairs()
        ours, theirs = (
            mean_users(tuple(r.test_users for r in side.complete if not pairs or r.seed in pairs))
            for side in (entry, entry.baseline)
        )
        if not ours.index.equals(theirs.index):
            continue
        for metric in metrics:
            if metric in ours and metric in theirs:
                # Of a metric of a group, only some users have values.
                difference = (ours[metric] - theirs[metric]).dropna()
                users = hashlib.sha256(difference.index.to_numpy().tobytes()).digest()
                same = waiting.setdefault(users, _SameUsers([], []))
                same.names.append((entry.study.name, entry.cell.key, metric))
                same.differences.append(difference.to_numpy(np.float64))
                if sum(of.numbers for of in waiting.values()) > _NUMBERS_AT_ONCE:
                    results |= _tested(waiting)
    return results | _tested(waiting)


class _SameUsers(NamedTuple):
    """Comparisons over the same users, for which signs and samples are drawn once."""

    names: list[tuple[str, str, str]]
    differences: list[NDArray[np.float64]]

    @property
    def numbers(self) -> int:
        return sum(map(len, self.differences))


def _tested(waiting: dict[bytes, _SameUsers]) -> _UserResults:
    """The tests of what waits for them; then nothing waits any more."""
    results: _UserResults = {}
    while waiting:
        _, (names, differences) = waiting.popitem()
        tests: UserTests = user_tests(differences)
        for position, name in enumerate(names):
            results[name] = {
                column: float(getattr(tests, attribute)[position])
                for column, attribute in _USER_COLUMNS.items()
            }
    return results


def _mean_users(paths: Sequence[Path], metrics: Sequence[str], problems: list[str]) -> pd.DataFrame:
    """Every user's scores, averaged over replicates: a column for each metric, users ascending; no
    users if one of the tables cannot be read, which is noted among the problems."""
    wanted = {"user", *metrics}
    tables = []
    for path in paths:
        try:
            refuse_what_is_no_file(path)
            with ParquetFile(path) as file:
                columns = [name for name in file.schema_arrow.names if name in wanted]
                tables.append(_numbers(file.read(columns)))
        except (pa.ArrowException, InputError, LookupError, OSError, ValueError) as error:
            said = " ".join(str(error).split())
            problem = f"{path}: users' test scores cannot be read: {said}"
            problems += [] if problem in problems else [problem]
            return pd.DataFrame()
    return pd.concat(tables).groupby("user").mean()


def _numbers(table: pa.Table) -> pd.DataFrame:
    """Users and their scores, whatever a file says of how they are to be shown."""
    for name in ("user", *table.column_names):
        kind = table.column(name).type
        if not (pa.types.is_integer(kind) if name == "user" else pa.types.is_floating(kind)):
            raise InputError(f"column {name!r} holds {kind}")
    found: pd.DataFrame = table.replace_schema_metadata().to_pandas()
    return found
