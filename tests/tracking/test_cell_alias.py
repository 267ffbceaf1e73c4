from __future__ import annotations

import re

from mgstudy.tracking.models import cell_alias


def alias(gradient: str, robust: str = "none") -> str:
    return cell_alias({"model": "BPR", "gradient": gradient, "robust": robust})


def test_plain_labels_are_joined_by_hyphens() -> None:
    assert alias("mirror_gradient") == "BPR-mirror_gradient-none"


def test_a_dataset_may_have_hyphens_and_no_alias_is_too_long_for_mlflow() -> None:
    assert cell_alias({"dataset": "ml-100k", "model": "BPR"}) == "ml-100k-BPR"
    long = {alias("x" * 255, robust * 255) for robust in "yz"}
    assert len(long) == 2 and all(len(name) < 255 for name in long)


def test_labels_that_differ_in_what_an_alias_cannot_hold_have_different_aliases() -> None:
    labels = [("a/b", "c"), ("a:b", "c"), ("a.b", "c"), ("a-b", "c"), ("a", "b-c"), ("a", "b+c")]
    found = [alias(*pair) for pair in labels]
    assert len(set(found)) == len(labels)
    assert all(re.fullmatch(r"BPR-a[_-]b[_-]c-[0-9a-f]{8}", name) for name in found)
    assert found == [alias(*pair) for pair in labels]
