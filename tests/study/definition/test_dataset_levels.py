"""Levels of the dataset factor whose features are changed before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mgstudy.api import prepare
from mgstudy.config.document import parse_document
from mgstudy.errors import InputError
from mgstudy.study.definition.manifest import DatasetEntry
from mgstudy.study.definition.study import Study, check_study
from mgstudy.study.search.cell_record import protocol
from mgstudy.workspace import Workspace

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """With the synthetic dataset, small."""
    home = tmp_path_factory.mktemp("home")
    prepare(ROOT / "pipelines/synthetic.yaml", ["source.users=120", "source.items=80"], home)
    return Workspace.resolve(home)


def check(features: str, workspace: Workspace) -> Study:
    text = f"""name: noise
factors:
  dataset:
    - synthetic
    - {{name: synthetic, label: noisy, features: {features}}}
  model: [VBPR]
  gradient: [plain, mirror_gradient]
trials: 2
"""
    return check_study(parse_document(text, "noise.yaml"), workspace)


def test_a_changed_level_is_a_dataset_of_its_own(workspace: Workspace) -> None:
    study = check("{gaussian_noise: {severity: 0.5, seed: 1}}", workspace)
    assert [cell.levels["dataset"] for cell in study.plan.cells] == ["synthetic"] * 2 + [
        "noisy"
    ] * 2
    assert [cell.dataset for cell in study.plan.cells] == ["synthetic"] * 2 + ["noisy"] * 2
    clean, noisy = study.datasets["synthetic"], study.datasets["noisy"]
    assert clean.fingerprint == noisy.fingerprint
    for modality, fingerprint in clean.feature_fingerprints.items():
        assert noisy.feature_fingerprints[modality] != fingerprint
    spread = (noisy.features["image"] - clean.features["image"]).std()
    assert spread == pytest.approx(0.5 * clean.features["image"].std(), rel=0.05)


def test_only_named_modalities_change(workspace: Workspace) -> None:
    study = check("{swap: {severity: 0.5, modalities: [text]}}", workspace)
    clean, noisy = (study.datasets[name].feature_fingerprints for name in ("synthetic", "noisy"))
    assert clean["image"] == noisy["image"] and clean["text"] != noisy["text"]


def refused(make: Callable[[], Study], place: str, said: str) -> None:
    """It is refused in one line that says where and what."""
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value).startswith(place)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ("{gausian_noise: {severity: 1}}", "unknown risk 'gausian_noise'; did you mean"),
        ("{gaussian_noise: {severity: -1}}", "severity: -1 is not valid"),
        (
            "{gaussian_noise: {severity: 1e300}}",
            "severity 1e+300 makes image features",
        ),
        ("{swap: {severity: 1.5}}", "severity: 1.5 is not valid"),
        ("{swap: {severity: [0.1, 0.2]}}", "severity: expected one number"),
        ("{swap: {seed: 1}}", "`severity` is missing"),
        ("{swap: {severity: 0.5, severities: [1]}}", "swap has no such parameter; did you mean"),
        ("{swap: {severity: 0.5, modalities: [audio]}}", "unknown modality 'audio'"),
        ("{fgsm: {severity: 0.1}}", "attacks a trained model"),
    ],
)
def test_a_wrong_level_is_refused_with_its_line(
    features: str, said: str, workspace: Workspace
) -> None:
    refused(lambda: check(features, workspace), "noise.yaml:5: factors.dataset.1.features", said)


def test_a_changed_level_leaves_the_other_cells_as_they_were(workspace: Workspace) -> None:
    text = "name: noise\nfactors: {dataset: [synthetic], model: [VBPR]}\ntrials: 2\n"
    (alone,) = check_study(parse_document(text, "noise.yaml"), workspace).plan.cells
    beside = check("{swap: {severity: 0.5}}", workspace).plan.cells[0]
    assert (beside.key, beside.seed, beside.spaces) == (alone.key, alone.seed, alone.spaces)


def level(settings: str, workspace: Workspace) -> Study:
    text = f"""name: gaps
factors:
  dataset:
    - synthetic
    - {{name: synthetic, label: gaps, missing: {settings}}}
  model: [VBPR]
trials: 2
"""
    return check_study(parse_document(text, "gaps.yaml"), workspace)


def test_a_level_can_take_modalities_away(workspace: Workspace) -> None:
    study = level("{pattern: protected, rate: 0.4}", workspace)
    clean, gaps = study.datasets["synthetic"], study.datasets["gaps"]
    assert clean.observed_fingerprint is None
    lacking = [int((~observed).sum()) for observed in gaps.observed.values()]
    assert sum(lacking) == int(80 * len(gaps.features) * 0.4)
    assert gaps.fingerprint == clean.fingerprint
    assert protocol(study.config, gaps) != protocol(study.config, clean)
    entry = DatasetEntry.of(gaps)
    assert entry.observed == gaps.observed_fingerprint
    again = level("{pattern: protected, rate: 0.4, seed: 0}", workspace).datasets["gaps"]
    assert DatasetEntry.of(again) == entry


def test_the_same_tables_with_other_items_lacking_are_another_protocol(
    workspace: Workspace,
) -> None:
    study = level("{pattern: independent, image: 0.2}", workspace)
    gaps = study.datasets["gaps"]
    other = replace(gaps, observed={"text": gaps.observed["image"]})
    assert other.feature_fingerprints == gaps.feature_fingerprints
    assert protocol(study.config, other) != protocol(study.config, gaps)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{pattern: protected, rate: 0.6}", "reaches a rate of"),
        ("{pattern: protected}", "give either `rate` or the shares"),
        ("{pattern: protected, image: 0.1}", "`protected` has a `rate`"),
        ("{pattern: independent, rate: 0.1, image: 0.1}", "give either `rate` or"),
        ("{pattern: independent, image: 1.5}", "expected a share from 0 to 1"),
        ("{pattern: independent, speech: 0.5}", "unknown modality 'speech'"),
        ("{pattern: scattered, rate: 0.5}", "protected"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_its_line(
    settings: str, said: str, workspace: Workspace
) -> None:
    refused(lambda: level(settings, workspace), "gaps.yaml:5: factors.dataset.1", said)
