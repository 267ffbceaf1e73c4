import pytest

from mgstudy.config.metrics import MEASURES, Metric, parse_metric
from mgstudy.errors import InputError
from mgstudy.training.evaluation import MEASURE_FUNCTIONS


def test_every_measure_has_a_function() -> None:
    assert set(MEASURES) == set(MEASURE_FUNCTIONS)


def test_a_name_is_read_and_written_alike() -> None:
    assert parse_metric("hit_rate@7") == Metric("hit_rate", 7)
    assert str(parse_metric("hit_rate@7")) == "hit_rate@7"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("recal@20", r"unknown metric 'recal'; did you mean 'recall'\?"),
        ("auc@20", r"unknown metric 'auc'; known: hit_rate, map"),
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
