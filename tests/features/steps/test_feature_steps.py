import numpy as np
import pytest

from mgstudy.errors import InputError
from mgstudy.features.steps.normalize import Normalize
from mgstudy.features.steps.pca import PrincipalComponents


def table(rows: int, width: int) -> np.ndarray:
    made = np.random.default_rng(0).normal(3, 1, size=(rows, width)).astype(np.float32)
    made.setflags(write=False)
    return made


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_components_are_those_of_the_singular_value_decomposition(shape) -> None:
    raw = table(*shape)
    reduced = PrincipalComponents(PrincipalComponents.Parameters(dimensions=3)).apply(raw)
    left, sizes, _ = np.linalg.svd(raw.astype(np.float64) - raw.mean(axis=0, dtype=np.float64))
    expected = left[:, :3] * sizes[:3]
    assert np.allclose(np.abs(reduced), np.abs(expected), atol=1e-4)


def test_more_dimensions_than_the_table_has_are_refused() -> None:
    step = PrincipalComponents(PrincipalComponents.Parameters(dimensions=7))
    with pytest.raises(InputError, match="40 × 6 cannot be reduced to 7"):
        step.apply(table(40, 6))


def test_rows_have_length_1_and_a_row_of_zeros_stays() -> None:
    raw = np.array([[3, 4], [0, 0]], np.float32)
    assert Normalize(Normalize.Parameters()).apply(raw).tolist() == [[0.6, 0.8], [0, 0]]


def test_columns_have_deviation_1_or_range_1() -> None:
    raw = np.array([[1, 5], [3, 5]], np.float32)
    for by, expected in (
        ("column_deviation", [[-1, 0], [1, 0]]),
        ("column_range", [[0, 0], [1, 0]]),
    ):
        step = Normalize(Normalize.Parameters.model_validate({"by": by}))
        assert step.apply(raw).tolist() == expected


@pytest.mark.filterwarnings("error")
def test_rows_that_are_all_the_same_have_no_component() -> None:
    rows = np.ones((12, 4), np.float32)
    step = PrincipalComponents(PrincipalComponents.Parameters(dimensions=2))
    assert not step.fitted(rows)(rows).any()
