from __future__ import annotations

from mgstudy.tracking.models import registered_name


def name(gradient: str, robust: str = "none") -> str:
    return registered_name("tiktok", {"model": "BPR", "gradient": gradient, "robust": robust})


def test_plain_labels_are_joined_by_dots() -> None:
    assert name("plain", "r_drop+edge-dropout") == "tiktok-BPR.plain.r_drop+edge-dropout"


def test_labels_that_differ_in_what_a_name_cannot_hold_have_different_names() -> None:
    labels = [("a/b", "c"), ("a:b", "c"), ("a.b", "c"), ("a", "b.c"), ("a", "b/c")]
    names = [name(*pair) for pair in labels]
    assert len(set(names)) == len(labels)
    assert all(found.startswith("tiktok-BPR.a.b.c-") for found in names)
    assert not any(character in found for found in names for character in "/:")
    assert names == [name(*pair) for pair in labels]
