import numpy as np
import pytest

from mgstudy.fingerprint import fingerprint, fingerprint_arrays


def test_fingerprint_is_that_of_the_content_on_every_machine() -> None:
    content = {"b": [1, 2.5, None], "a": {"é": True}}
    assert fingerprint(content) == fingerprint(dict(reversed(content.items())))
    assert fingerprint(content) == "76199a22080b039a5007ccf197e5cece"


@pytest.mark.parametrize(
    "other", [{"a": 2}, {"a": 1.0}, {"a": "1"}, {"a": [1]}, {"b": 1}, {"a": 1, "b": None}, {}]
)
def test_other_content_has_another_fingerprint(other: dict[str, object]) -> None:
    assert fingerprint(other) != fingerprint({"a": 1})


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint({"a": float("nan")})
    with pytest.raises(TypeError):
        fingerprint({"a": object()})


def test_arrays_are_told_apart_by_name_dtype_shape_and_content() -> None:
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert fingerprint_arrays({"a": table}) == fingerprint_arrays({"a": np.asfortranarray(table)})
    others = [
        {"b": table},
        {"a": table.astype(np.float64)},
        {"a": table.reshape(3, 2)},
        {"a": table + 1},
        {"a": table, "b": np.empty(0)},
    ]
    assert len({fingerprint_arrays(arrays) for arrays in ({"a": table}, *others)}) == 6
