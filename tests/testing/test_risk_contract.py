"""The suite for risks finds one that breaks any one promise, for the reason it should."""

from __future__ import annotations

import numpy as np
import pytest

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Recommender
from mgstudy.robustness.risks.base import Risk, RiskParameters, Severities, Table, TableRisk, Tables
from mgstudy.testing import RiskContract

UNSEEDED = np.random.default_rng()


class Shift(TableRisk):
    """Keeps every promise: moves every feature."""

    name = "shift"
    severity = "length of the move"

    class Parameters(RiskParameters):
        severities: Severities = parameter((0.5, 1.0), "length of the move")

    def changed_table(self, table: Table, severity: float, random: np.random.Generator) -> Table:
        return table + np.float32(severity) * random.standard_normal(table.shape, dtype=np.float32)


class AlwaysMoves(Shift):
    def changed_table(self, table: Table, severity: float, random: np.random.Generator) -> Table:
        return super().changed_table(table, severity + 0.1, random)


class DrawsItsOwnNumbers(Shift):
    def changed_table(self, table: Table, severity: float, random: np.random.Generator) -> Table:
        return super().changed_table(table, severity, UNSEEDED)


class MovesLessTheMoreSevere(Shift):
    def changed_table(self, table: Table, severity: float, random: np.random.Generator) -> Table:
        return super().changed_table(table, 1 / severity if severity else 0.0, random)


class ChangesAll(Shift):
    def chosen(self, dataset: Dataset) -> list[str]:
        return list(dataset.features)


class WritesToTheDataset(Shift):
    def changed(
        self,
        dataset: Dataset,
        severity: float,
        random: np.random.Generator,
        model: Recommender | None,
    ) -> Tables:
        dataset.features["image"][...] += np.float32(severity)
        return {}


class TakesAnyModality(Shift):
    def tables(
        self, dataset: Dataset, severity: float, seed: int, model: Recommender | None = None
    ) -> Tables:
        random = np.random.default_rng(seed)
        return {**dataset.features, **self.changed(dataset, severity, random, model)}


BROKEN: list[tuple[str, type[Risk], str]] = [
    ("test_severity_zero_changes_nothing_to_the_bit", AlwaysMoves, "Arrays are not equal"),
    (
        "test_the_seed_alone_decides_and_more_severity_moves_features_further",
        DrawsItsOwnNumbers,
        "Arrays are not equal",
    ),
    (
        "test_the_seed_alone_decides_and_more_severity_moves_features_further",
        MovesLessTheMoreSevere,
        "At index 0 diff",
    ),
    ("test_only_the_modalities_that_are_named_change", ChangesAll, "Arrays are not equal"),
    ("test_the_dataset_stays_as_it_was", WritesToTheDataset, "Arrays are not equal"),
    ("test_a_modality_that_is_not_there_is_refused", TakesAnyModality, "DID NOT RAISE"),
]


def held(kind: type[Risk]) -> RiskContract:
    class Held(RiskContract):
        risk = kind

    return Held()


@pytest.mark.parametrize(
    ("check", "kind", "reason"), BROKEN, ids=[kind.__name__ for _, kind, _ in BROKEN]
)
def test_a_broken_promise_is_found(check: str, kind: type[Risk], reason: str) -> None:
    getattr(held(Shift), check)()
    failures: tuple[type[BaseException], ...] = (AssertionError, pytest.fail.Exception)
    with pytest.raises(failures, match=reason):
        getattr(held(kind), check)()


def test_every_check_can_fail() -> None:
    checks = {name for name in dir(RiskContract) if name.startswith("test_")}
    assert checks == {check for check, *_ in BROKEN}
