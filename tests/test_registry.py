"""How parts are found: in their package, through entry points, and by ``package.module:Class``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from programs import finished

from mgstudy import registry as registries
from mgstudy.data.encoder import encoders, feature_steps
from mgstudy.data.sources.base import sources
from mgstudy.data.steps.base import steps
from mgstudy.errors import InputError, UnknownNameError
from mgstudy.models.base import Recommender
from mgstudy.registry import Registry, look_in, used_folders
from mgstudy.robustness.risks.base import risks
from mgstudy.study.definition.cell import REGISTRIES

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


@pytest.mark.parametrize(
    "parts",
    [*REGISTRIES.values(), risks, sources, steps, encoders, feature_steps],
    ids=lambda parts: str(parts.kind),
)
def test_every_file_bears_the_name_of_its_parts(parts: Registry[Any]) -> None:
    assert parts.names()
    for part in parts:
        _, _, file = part.__module__.rpartition(".")
        # Parts that share a file begin with its name.
        assert part.name.lower() == file or part.name.lower().startswith(f"{file}_")


def test_one_model_is_had_without_importing_another() -> None:
    program = """
import sys
from mgstudy.models.base import models
assert models.get("VBPR").name == "VBPR"
imported = {module for module in sys.modules if module.startswith("mgstudy.models.")}
print(*(model.name for model in models if model.__module__ in imported))
"""
    assert finished(sys.executable, "-c", program).stdout.split() == ["VBPR"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vbpr", "unknown model 'vbpr'; did you mean 'VBPR'?"),
        ("base", "unknown model 'base'; known: "),
        ("bpr_loss", "unknown model 'bpr_loss'; known: "),
        ("../../cli", "unknown model '../../cli'; "),
        ("", "unknown model ''; known: "),
    ],
)
def test_a_name_of_a_file_is_no_name_of_a_part(name: str, said: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        registry().get(name)
    assert str(caught.value).startswith(said)


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


def test_a_module_is_found_beside_a_file_and_there_again(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(registries, "_looked_through", [])
    monkeypatch.setattr(registries, "_used", [])
    name = f"{package.name}:Wider"
    (package / f"{package.name}.py").write_text(THIRD_PARTY.format(name="Wider"))
    with pytest.raises(InputError, match=r"put it beside the file that names it, set PYTHONPATH"):
        registry().get(name)
    look_in([package])
    assert registry().get(name).name == "Wider"
    assert used_folders() == (str(package),)
    # Nothing that lies there stands in for a module that Python finds by itself.
    assert sys.path[-1] == str(package)


def test_two_parts_of_one_name_are_refused(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(package, monkeypatch, "BPR", f"{package.name}:Wider")
    with pytest.raises(
        InputError,
        match=rf"two models are called 'BPR': mgstudy.models.bpr and {package.name}; rename one",
    ):
        registry().names()
    with pytest.raises(InputError, match="two models are called 'BPR'"):
        registry().get("BPR")


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("no_such_package:Model", "there is no no_such_package.py on Python's path"),
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


def test_the_line_of_its_own_code_that_is_wrong_is_said(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    for number, wrong in enumerate(("x = 1\nx.nothing", "x = 1\nx = (", "x = 1\nimport nothing_")):
        file = package / f"{package.name}_{number}.py"
        file.write_text(wrong)
        look_in([package])
        with pytest.raises(InputError, match=re.escape(f"{file}:2: ")):
            registry().get(f"{file.stem}:Model")


def test_a_subclass_without_a_name_of_its_own_is_no_part(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / f"{package.name}.py").write_text(THIRD_PARTY.format(name="Wider"))
    monkeypatch.syspath_prepend(package)
    with pytest.raises(InputError, match="is not a model"):
        registry().get(f"{package.name}:Unnamed")
