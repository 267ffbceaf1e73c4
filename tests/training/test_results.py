import math

from mgstudy.config.training import EarlyStopping
from mgstudy.training.results import EarlyStopper


def stops_after(values: list[float], **settings: float) -> int | None:
    """Epochs after which a training with these validations stops."""
    stopper = EarlyStopper(EarlyStopping.model_validate({"minimum_epochs": 0, **settings}))
    for epoch, value in enumerate(values):
        stopper.update(epoch, value)
        if stopper.should_stop(epoch + 1):
            return epoch + 1
    return None


def test_stops_when_the_patience_is_exceeded_as_published() -> None:
    assert stops_after([0.5, *[0.4] * 30], patience=20) == 1 + 21
    assert stops_after([0.5, *[0.4] * 20], patience=20) is None


def test_only_what_is_strictly_better_improves() -> None:
    assert stops_after([0.0, 0.1, 0.1, 0.2, 0.2, 0.2], patience=1) == 6
    assert stops_after([0.1, 0.1 + 1e-12, 0.1 + 2e-12], patience=0) is None


def test_a_threshold_counts_small_gains_as_none() -> None:
    assert stops_after([0.1, 0.10004, 0.1001], patience=0, minimum_improvement=5e-5) == 2


def test_a_dip_before_the_minimum_of_epochs_is_survived() -> None:
    dip = [0.06, *[0.05] * 20, *[0.07 + 0.001 * i for i in range(20)]]
    assert stops_after(dip, patience=5) == 7
    assert stops_after(dip, patience=5, minimum_epochs=30) is None
    assert stops_after([0.06, *[0.05] * 50], patience=5, minimum_epochs=30) == 30


def test_without_a_rule_the_best_is_remembered() -> None:
    stopper = EarlyStopper(None)
    assert (stopper.best_epoch, stopper.best_value) == (None, -math.inf)
    assert [stopper.update(epoch, value) for epoch, value in enumerate([0.0, 0.2, 0.1])] == [
        True,
        True,
        False,
    ]
    assert (stopper.best_epoch, stopper.best_value) == (1, 0.2)
    assert not stopper.should_stop(3)


def test_continues_from_its_state() -> None:
    first, second = EarlyStopper(EarlyStopping(patience=1)), EarlyStopper(EarlyStopping(patience=1))
    for epoch, value in enumerate([0.2, 0.1]):
        first.update(epoch, value)
    second.load_state_dict(first.state_dict())
    assert not second.should_stop(30)
    assert not second.update(2, 0.15)
    assert second.should_stop(30) and not second.should_stop(29)
