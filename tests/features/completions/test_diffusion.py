"""What the diffusion completion learns, keeps and says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.features.completions.base import complete, held_out_errors
from mgstudy.features.completions.diffusion import Diffusion, Pretraining, Scaling
from mgstudy.features.completions.mean import Mean


def test_reducing_and_restoring_keeps_rows_and_is_learnt_from_known_ones() -> None:
    table = np.random.default_rng(0).normal(size=(60, 7)).astype(np.float32)
    known = np.arange(60) < 40
    scaling = Scaling.of(table, known, seed=0)
    reduced = scaling.reduced(table)
    assert reduced[known].min() == pytest.approx(0, abs=1e-6)
    assert reduced[known].max() == pytest.approx(1, abs=1e-6)
    assert np.allclose(scaling.restored(reduced), table, atol=1e-4)
    others = np.where(known[:, None], table, 100).astype(np.float32)
    assert np.array_equal(Scaling.of(others, known, seed=0).start, scaling.start)


@pytest.fixture(scope="module")
def tied() -> Dataset:
    """60 items of two kinds, which both modalities tell; a fifth of them lacks the image."""
    random = np.random.default_rng(1)
    kinds = random.integers(2, size=60)
    features = {
        name: (random.normal(size=(2, 6))[kinds] + random.normal(scale=0.1, size=(60, 6)))
        for name in ("image", "text")
    }
    none = Interactions(np.array([0]), np.array([0]))
    made = Dataset.from_arrays(
        "tied", 1, 60, none, none, none, {n: t.astype(np.float32) for n, t in features.items()}
    )
    return replace(made, observed={"image": np.arange(60) % 5 != 0})


QUICK = {"positions": 8, "sampling_steps": 2}


def test_training_lowers_what_diffusion_and_reconstruction_lose(tied: Dataset) -> None:
    scalings = {n: Scaling.of(t, tied.observed[n], 0) for n, t in tied.features.items()}
    truth = {n: torch.from_numpy(scalings[n].reduced(t)) for n, t in tied.features.items()}
    nothing = {name: np.zeros(60, dtype=bool) for name in truth}
    settings = Diffusion.Parameters(epochs=20, learning_rate=5e-3, refresh_every=20, **QUICK)
    torch.manual_seed(0)
    training = Pretraining(truth, tied.observed, nothing, settings)

    def lost() -> float:
        torch.manual_seed(3)
        return sum(loss.item() for loss in training.generator.losses(truth, training.known))

    before = lost()
    made = training.run(lambda *_: None)
    assert lost() < 0.75 * before
    for name, known in training.known.items():
        assert torch.equal(made[name][known], truth[name][known])
    assert made["image"][~training.known["image"]].abs().sum() > 0


def test_progress_is_told(tied: Dataset) -> None:
    said: list[tuple[str, int, int]] = []
    complete(
        tied, Diffusion(Diffusion.Parameters(epochs=2, **QUICK)), lambda *words: said.append(words)
    )
    assert said == [("pretrain diffusion", 1, 2), ("pretrain diffusion", 2, 2)]


def test_the_error_on_held_out_rows_is_kept(tied: Dataset) -> None:
    diffusion = Diffusion(Diffusion.Parameters(epochs=1, held_out=0.2, **QUICK))
    errors = held_out_errors(tied, diffusion)
    assert list(errors) == ["image"] and 0 < errors["image"] < 10
    assert not held_out_errors(tied, Mean())


def test_without_held_out_rows_no_error_is_told(tied: Dataset) -> None:
    alone = Diffusion(Diffusion.Parameters(epochs=1, held_out=0, **QUICK))
    assert not alone.completed(tied, lambda *_: None).errors
