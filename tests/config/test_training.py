from typing import Any

import pytest
from pydantic import ValidationError

from mgstudy.config.metrics import ranking_metrics
from mgstudy.config.training import MEASURES, Metric, TrainingSettings, parse_metric
from mgstudy.errors import InputError


def test_published_defaults() -> None:
    settings = TrainingSettings()
    assert (settings.epochs, settings.batch_size, settings.objective) == (1000, 2048, "recall@20")
    assert settings.early_stopping is not None and settings.early_stopping.patience == 20
    assert settings.clip_norm is None
    assert {str(metric) for metric in settings.metrics} >= {"recall@5", "ndcg@50", "map@10"}


def test_the_objective_is_always_computed() -> None:
    settings = TrainingSettings(objective="ndcg@7", measures=("recall",), cutoffs=(10, 5, 10))
    assert [str(metric) for metric in settings.metrics] == ["recall@5", "recall@10", "ndcg@7"]


def test_an_objective_named_twice_is_one() -> None:
    settings = TrainingSettings.model_validate({"objective": {"maximize": ["recall@20"] * 2}})
    assert settings.objectives == ("recall@20",) and not settings.further_objectives
    more = {"maximize": ["recall@20", "coverage@5", "ndcg@020", "recall@020"]}
    settings = TrainingSettings.model_validate({"objective": more, "measures": ["recall"]})
    assert settings.objectives == ("recall@20", "coverage@5", "ndcg@20")
    assert str(settings.metrics[-1]) == "ndcg@20"
    assert TrainingSettings.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"objective": "recal@20"}, r"did you mean 'recall'\?"),
        ({"measures": ["recall", "ndgc"]}, r"did you mean 'ndcg'\?"),
        ({"cutoffs": [5, 0]}, "expected 1 to 1,000,000 for a cutoff, got 0"),
        ({"batch_size": 0}, "greater than or equal to 1"),
        ({"clip_norm": float("inf")}, "finite number"),
        ({"early_stopping": {"patiense": 3}}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_setting_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainingSettings.model_validate(given)


def test_settings_survive_json() -> None:
    settings = TrainingSettings(early_stopping=None, cutoffs=(3,))
    assert TrainingSettings.model_validate_json(settings.model_dump_json()) == settings


# The names of metrics.


def test_what_is_computed_by_default_is_installed() -> None:
    assert set(MEASURES) <= set(ranking_metrics.names())


def test_a_name_is_read_and_written_alike() -> None:
    assert parse_metric("hit_rate@7") == Metric("hit_rate", 7)
    assert str(parse_metric("hit_rate@7")) == "hit_rate@7"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("recal@20", r"unknown metric 'recal'; did you mean 'recall'\?"),
        ("lift@20", r"unknown metric 'lift'; known: auc, coverage, entropy"),
        ("recall-tial@20", r"unknown group 'tial'; did you mean 'tail'"),
        ("recall", "metric 'recall' needs a cutoff"),
        ("recall@0", "metric 'recall@0' needs a cutoff"),
        ("recall@-5", "metric 'recall@-5' needs a cutoff"),
        ("recall@²", "metric 'recall@²' needs a cutoff"),
        ("recall@20@10", "metric 'recall@20@10' needs a cutoff"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_metric(name)


def test_fairness_has_the_level_that_it_has_by_chance_beside_it() -> None:
    settings = TrainingSettings(
        objective="fairness@5", measures=("recall", "fairness"), cutoffs=(5,)
    )
    assert [str(metric) for metric in settings.metrics] == [
        "recall@5", "fairness@5", "fairness_chance@5",
    ]  # fmt: skip
