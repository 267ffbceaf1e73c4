"""How parts are found: in their package, through entry points, and by ``package.module:Class``."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgstudy.errors import InputError, UnknownNameError
from mgstudy.models.base import Recommender
from mgstudy.registry import Registry

THIRD_PARTY = """
from mgstudy.models.bpr import BPR

class Wider(BPR):
    name = "{name}"

class Unnamed(BPR):
    pass
"""


def registry() -> Registry[Recommender]:
    return Registry(
        kind="model",
        base=Recommender,  # type: ignore[type-abstract]
        package="mgstudy.models",
        entry_point_group="mgstudy.models",
    )


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, target: str) -> None:
    """Put a package with one entry point where Python finds it, as an installation does."""
    (folder / f"{folder.name}.py").write_text(THIRD_PARTY.format(name=name))
    metadata = folder / f"{folder.name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {folder.name}\nVersion: 1.0\n"
    )
    (metadata / "entry_points.txt").write_text(f"[mgstudy.models]\nwider = {target}\n")
    monkeypatch.syspath_prepend(folder)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / f"third_party_{tmp_path.name}"
    folder.mkdir()
    return folder


def test_an_entry_point_adds_a_part(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = registry().names()
    install(package, monkeypatch, "Wider", f"{package.name}:Wider")
    parts = registry()
    assert set(parts.names()) == {*before, "Wider"}
    assert parts.names() == sorted(parts.names(), key=str.lower)
    assert parts.get("Wider").__module__ == package.name


def test_a_class_named_by_its_path_needs_no_entry_point(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / f"{package.name}.py").write_text(THIRD_PARTY.format(name="Wider"))
    monkeypatch.syspath_prepend(package)
    parts = registry()
    assert parts.get(f"{package.name}:Wider").name == "Wider"
    assert "Wider" not in parts.names()
    with pytest.raises(UnknownNameError, match="unknown model 'Wider'"):
        parts.get("Wider")


def test_two_parts_of_one_name_are_refused(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(package, monkeypatch, "BPR", f"{package.name}:Wider")
    with pytest.raises(
        InputError,
        match=rf"two models are called 'BPR': mgstudy.models.bpr and {package.name}; rename one",
    ):
        registry().names()


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("no_such_package:Model", "No module named 'no_such_package'"),
        ("mgstudy.models.bpr:NoSuchClass", "has no attribute 'NoSuchClass'"),
        (":BPR", "Empty module name"),
        ("mgstudy.models.losses:bpr_loss", "is not a model"),
        ("mgstudy.models.base:EmbeddingRecommender", "is not a model"),
        ("mgstudy.models.base:Batch", "is not a model"),
    ],
)
def test_a_path_that_leads_to_no_part_is_one_clear_line(path: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        registry().get(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_subclass_without_a_name_of_its_own_is_no_part(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / f"{package.name}.py").write_text(THIRD_PARTY.format(name="Wider"))
    monkeypatch.syspath_prepend(package)
    with pytest.raises(InputError, match="is not a model"):
        registry().get(f"{package.name}:Unnamed")
