"""Bootstrap samples of users."""

from __future__ import annotations

import numpy as np

from mgstudy.robustness.bootstrap import resampled_means


def test_samples_spread_as_the_standard_error_says() -> None:
    values = np.random.default_rng(0).exponential(size=400)
    means = resampled_means(values, resamples=4000)
    assert means.shape == (4000,)
    error = values.std() / np.sqrt(400)
    assert abs(means.mean() - values.mean()) < 4 * error / np.sqrt(4000)
    assert abs(means.std() / error - 1) < 0.05


def test_everything_is_measured_on_the_same_users() -> None:
    values = np.random.default_rng(0).random(50)
    np.testing.assert_allclose(
        resampled_means(3 * values + 1, 100), 3 * resampled_means(values, 100) + 1, rtol=1e-6
    )
    np.testing.assert_allclose(resampled_means(np.full(50, 0.25), 100), 0.25)
