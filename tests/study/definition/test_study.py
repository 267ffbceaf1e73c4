"""What a study file says is tried before anything starts: read, planned, launched."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from optuna._imports import _LazyImport

from mgstudy import api
from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.definition.manifest import StudyManifest

STUDY = """\
name: s
factors: {dataset: [tiny], model: [VBPR]}
trials: 12
training: {epochs: 1, cutoffs: [5], objective: recall@5}
confirmation: null
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a dataset of 60 items and the modality ``image``."""
    folder = tmp_path_factory.mktemp("home")
    pipeline = "{name: tiny, source: {kind: synthetic, users: 60, items: 60}}"
    (folder / "tiny.yaml").write_text(pipeline)
    (folder / "study.yaml").write_text(STUDY)
    api.prepare(folder / "tiny.yaml", home=folder)
    return folder


def refused(home: Path, *overrides: str, kind: type[MgstudyError] = InputError) -> str:
    """What a plan of the study says is wrong."""
    with pytest.raises(kind) as raised:
        api.plan(api.read_study(home / "study.yaml", overrides, home))
    assert not (home / ".mgstudy" / "studies").exists()
    return str(raised.value)


RISK = "robustness.risks=[{name: swap, parameters: {%s}}]"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "robustness.risks=[gausian_noise]",
            "robustness.risks.0: unknown risk 'gausian_noise'; did you mean 'gaussian_noise'?",
        ),
        (RISK % "severities: [-1]", "should be greater than or equal to 0, got -1"),
        (RISK % "severities: []", "severities: is empty, expected at least one entry"),
        (RISK % "severities: [0.1, many]", "severities.1: input should be a valid number"),
        (RISK % "severties: [1]", "severties: unknown key; did you mean 'severities'?"),
        (RISK % "seeds: [-1]", "should be greater than or equal to 0, got -1"),
        (RISK % "modalities: [audio]", "modalities: unknown modality 'audio'; known: image"),
        (
            "robustness.risks=[{name: gaussian_noise, parameters: {severities: [1e300]}}]",
            "expected at most 1,000,000, got 1e+300: features would not be finite",
        ),
        ("robustness.risks=[nosuch.module:Risk]", "cannot import risk 'nosuch.module:Risk'"),
        (
            "training.objective=recall@60",
            "training.objective: recall@60 ranks all 60 items of tiny, where no model is better",
        ),
        ("tracking.experiment=../../x", "expected printable characters, no `..` and nothing empty"),
        ("tracking.experiment=/", "expected printable characters, no `..` and nothing empty"),
        ("tracking.uri=${NOSUCH}", "tracking.uri: ${NOSUCH}: the environment variable ${NOSUCH}"),
        ("tracking.uri='http://'", "tracking.uri: http://: names no host"),
        ("tracking.uri='http://[::1'", "tracking.uri: http://[::1: Invalid IPv6 URL"),
        ("tracking.uri='http://h:abc'", "tracking.uri: http://h:***: its port is no number"),
        ("tracking.uri='http://h:99999'", "Port out of range 0-65535"),
        ("tracking.uri='postgresql://h:abc/d'", "postgresql://h:***/d: its port is no number from"),
        ("tracking.uri='sqlite://'", "tracking.uri: sqlite://: has no file, so nothing would be"),
        ("tracking.uri='sqlite:////dev/null/x.db'", "/dev/null takes no files"),
        ("tracking.uri='sqlite:////dev/null'", "is a pipe, socket or device, expected a file"),
        ("tracking.uri=mlruns", "tracking.uri: mlruns: MLflow does not record in folders"),
        ("storage='sqlite://'", "storage: sqlite:// has no file, so nothing would be kept"),
        ("storage='sqlite:///:memory:'", "has no file, so nothing would be kept"),
        ("storage='sqlite:///file:x?mode=memory&uri=true'", "has no file"),
        ("storage='journal:///'", "storage: journal:/// has no file, so nothing would be kept"),
        ("storage='sqlite:////dev/zero'", "is a pipe, socket or device, expected a file"),
        ("storage='journal:////dev/null'", "is a pipe, socket or device, expected a file"),
        ("storage='journal:////dev/null/x'", "/dev/null takes no files"),
        ("storage='oracle://x'", "storage: storage oracle://x: studies are kept in"),
        ("storage='postgresql://u:${NOSUCH}@h/d'", "variable ${NOSUCH} is not set"),
        (
            "space.model.embedding_size={integer: [8, 5000]}",
            "space.model.embedding_size: 5,000 is more than 4,096 columns, layers or neighbours; "
            "set $MGSTUDY_MODEL_SIZE to allow more",
        ),
        (
            "space.optimizer.learning_rate=1e300",
            "space.optimizer.learning_rate: expected at most 1,000,000, got 1e+300",
        ),
        ("resources.cpu=1000000", "no trial fits: one takes 1e+06 CPU"),
    ],
)
def test_what_can_be_known_is_refused_at_once(override: str, told: str, home: Path) -> None:
    assert told in refused(home, override)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("{n_startup_trials: abc}", "n_startup_trials: input should be a valid integer, got 'abc'"),
        (
            "{n_startup_trials: -5}",
            "n_startup_trials: expected a whole number from 0 to 100,000, got",
        ),
        ("{n_ei_candidates: 1000000000}", "from 0 to 100,000, got 1000000000"),
        ("{multivariate: abc}", "multivariate: expected `true` or `false`, got 'abc'"),
        ("{constraints_func: abc}", "constraints_func: input should be callable, got 'abc'"),
        (
            "{n_startup_trials: 1000, n_ei_candidates: 0}",
            ": sampler: TPESampler fails: ValueError: ",
        ),
        ("{n_startup: 3}", "n_startup: TPESampler has no such argument; did you mean"),
    ],
)
def test_arguments_of_samplers_are_what_the_sampler_takes(
    arguments: str, told: str, home: Path
) -> None:
    sampler = f"sampler={{name: TPESampler, arguments: {arguments}}}"
    assert told in refused(home, sampler)


@pytest.mark.parametrize(
    ("pruner", "told"),
    [
        (
            "{name: PatientPruner, arguments: {patience: 1, wrapped_pruner: MedianPruner}}",
            "pruner.arguments.wrapped_pruner: expected a mapping with `name`, got 'MedianPruner'",
        ),
        (
            "{name: PatientPruner, arguments: {patience: 1, wrapped_pruner: {name: MedianPruner, "
            "arguments: {n_startup_trials: x}}}}",
            "wrapped_pruner.arguments.n_startup_trials: input should be a valid integer, got 'x'",
        ),
        (
            "{name: PatientPruner, arguments: {patience: 1, wrapped_pruner: {name: 5}}}",
            "wrapped_pruner.name: input should be a valid string, got 5",
        ),
        (
            "{name: PatientPruner, arguments: {wrapped_pruner: {name: NopPruner, arguments: 3}}}",
            "wrapped_pruner.arguments: expected a mapping, got 3",
        ),
        ("{name: HyperbandPruner, arguments: {max_resource: x}}", "should be integer or 'auto'"),
        (
            "{name: HyperbandPruner, arguments: {min_resource: 5, max_resource: 3}}",
            "pruner.arguments: HyperbandPruner stops no trial: min_resource 5 is more than max_res",
        ),
        (
            "{name: PatientPruner, arguments: {patience: 1, wrapped_pruner: {name: HyperbandPruner,"
            " arguments: {reduction_factor: 1, max_resource: 9}}}}",
            ": pruner: HyperbandPruner fails: ZeroDivisionError: ",
        ),
        ("{name: PercentilePruner, arguments: {percentile: 101}}", "between 0 and 100 inclusive"),
    ],
)
def test_arguments_of_pruners_are_what_the_pruner_takes(pruner: str, told: str, home: Path) -> None:
    assert told in refused(home, f"pruner={pruner}")


@pytest.mark.parametrize(
    "override",
    [
        "sampler={name: CmaEsSampler, arguments: {n_startup_trials: 2, popsize: 5}}",
        "sampler={name: QMCSampler, arguments: {qmc_type: halton}}",
        "sampler={name: PartialFixedSampler, arguments: {fixed_params: {a: 1}, base_sampler: "
        "{name: RandomSampler}}}",
        "pruner={name: ThresholdPruner, arguments: {lower: -1}}",
        "pruner=WilcoxonPruner",
        "robustness={}",
        "training.objective=recall@59",
        "storage=sqlite:///new/optuna.db",
    ],
)
def test_what_can_be_used_is_planned(override: str, home: Path) -> None:
    study = api.read_study(home / "study.yaml", [override], home)
    assert api.plan(study)["trials_to_run"] == 12
    assert not Path("new").exists()


def test_a_package_that_a_sampler_needs_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Optuna imports it when there is something to learn from, not when the sampler is made.
    monkeypatch.setattr("optuna.samplers._cmaes.cmaes", _LazyImport("cmaes"))
    monkeypatch.setitem(sys.modules, "cmaes", None)
    space = "space.optimizer.weight_decay={float: [0.1, 0.2]}"
    told = refused(home, space, "sampler=CmaEsSampler")
    assert told.endswith(": sampler: CmaEsSampler needs the package cmaes: pip install cmaes")


@pytest.mark.parametrize("name", ["their_sampler", "their_pruner"])
def test_what_breaks_at_its_use_is_said(
    name: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_sampler.py").write_text(
        "from optuna.samplers import RandomSampler\n"
        "class Part(RandomSampler):\n"
        "    def after_trial(self, *given): raise ArithmeticError('a bug')\n"
    )
    (tmp_path / "their_pruner.py").write_text(
        "from optuna.pruners import NopPruner\n"
        "class Part(NopPruner):\n"
        "    def prune(self, *given): raise ArithmeticError('a bug')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    field = name.removeprefix("their_")
    told = refused(home, f"{field}={name}:Part")
    assert told == f"--set {field}={name}:Part: {field}: {name}:Part fails: ArithmeticError: a bug"


PICKY = """\
from mgstudy.config.parameters import parameter
from mgstudy.models.bpr import BPR
from mgstudy.training.gradient.plain import Plain
from mgstudy.training.optimizers.adam import Adam
from mgstudy.training.robust.feature_noise import FeatureNoise

def picky(part):
    class Picky(part):
        name = "picky"

        class Parameters(part.Parameters):
            taste: int = parameter(0, "what is liked")

        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            if any(getattr(one, "taste", 0) > 2 for one in given):
                raise KeyError("no taste")

    return Picky

Model, Gradient, Robust, Optimizer = map(picky, (BPR, Plain, FeatureNoise, Adam))
"""


@pytest.mark.parametrize("factor", ["model", "gradient", "robust", "optimizer"])
def test_parts_are_built_with_each_of_their_values(
    factor: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "picky.py").write_text(PICKY)
    monkeypatch.syspath_prepend(tmp_path)
    name = factor.capitalize()
    others = [] if factor == "model" else ["factors.model=[VBPR]"]

    def level(taste: str) -> str:
        return f"factors.{factor}=[{{name: 'picky:{name}', parameters: {{taste: {taste}}}}}]"

    api.read_study(home / "study.yaml", [*others, level("{choice: [0, 1, 2]}")], home)
    told = refused(home, *others, level("{choice: [0, 1, 3]}"))
    place = f"factors.{factor}.0{'.0' if factor == 'robust' else ''}"
    assert f": {place}: {name} cannot be built with " in told
    assert "taste=3" in told
    assert told.endswith(": KeyError: 'no taste'")


MINE = """
from mgstudy.models.bpr import BPR

class Mine(BPR):
    name = "Mine"

    def loss(self, batch):
        {loss}

    def scorer(self):
        return {scorer}
"""
INHERITED = {"loss": "return super().loss(batch)", "scorer": "super().scorer()"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"loss": "return self.nothing"}, "{file}:8: AttributeError: "),
        ({"loss": "return 0.0"}, "`loss` gives a float, expected one number with a gradient"),
        (
            {"loss": "return super().loss(batch) / 0"},
            "`loss` gives inf on a few users and items",
        ),
        (
            {"scorer": "lambda users: super(Mine, self).scorer()(users)[:, :2]"},
            "`scorer` gives a tensor of (2, 2) for 2 users, expected a tensor of (2, ",
        ),
    ],
)
def test_a_model_of_ones_own_is_found_beside_the_study_file_and_tried_out(
    changed: dict[str, str],
    said: str,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"mine_{tmp_path.name}"
    for suffix, parts in (("", {}), ("_wrong", changed)):
        (home / f"{name}{suffix}.py").write_text(MINE.format(**INHERITED | parts))
    study = api.read_study(home / "study.yaml", [f"factors.model=['{name}:Mine']"], home)
    manifest = StudyManifest.of(study, {"uri": None, "experiment": "s"})
    assert str(home) in manifest.modules_in
    told = refused(home, f"factors.model=['{name}_wrong:Mine']")
    assert "factors.model.0: Mine cannot be used with " in told
    assert said.format(file=home / f"{name}_wrong.py") in told


@pytest.mark.parametrize("content", ["raise SystemError('no')", "this is no Python"])
def test_a_module_that_cannot_be_imported_is_said(
    content: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_part.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    for override in ("sampler=broken_part:A", "factors.model=[broken_part:A]"):
        told = refused(home, override)
        assert "cannot import" in told
        assert "broken_part:A" in told


def test_files_that_are_no_storage_are_refused(home: Path) -> None:
    (home / "text").write_text("no database")
    for kind in ("sqlite", "journal"):
        told = refused(home, f"storage={kind}:///{home}/text")
        assert f"storage: {kind}:///{home}/text cannot be opened: " in told
    told = refused(home, f"storage=sqlite:///{home}/text/optuna.db")
    assert f"{home}/text takes no files" in told
    assert (home / "text").read_text() == "no database"


def test_a_server_that_is_away_is_no_mistake_of_the_file(home: Path) -> None:
    told = refused(home, "storage=postgresql://u:secret@localhost:1/d", kind=MgstudyError)
    url = "postgresql://u:***@localhost:1/d"
    assert told.startswith(f"--set storage={url}: storage: {url} cannot be opened: ")


def test_a_launch_whose_cluster_is_away_leaves_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(shutil.copytree(home, tmp_path / "home"))
    monkeypatch.setenv("RAY_ADDRESS", "localhost:1")
    with pytest.raises(MgstudyError, match="no Ray cluster answers at RAY_ADDRESS=localhost:1"):
        api.launch(api.read_study(own / "study.yaml", home=own))
    assert not (own / ".mgstudy" / "studies" / "s").exists()
    assert not (own / "mlflow.db").exists()


@pytest.mark.parametrize("where", ["gradient.mirror_gradient.variant", "gradient.variant"])
def test_a_space_that_every_level_overrides_is_checked(where: str, home: Path) -> None:
    level = "{name: mirror_gradient, parameters: {variant: update_scaled}}"
    told = refused(home, f"space.{where}=loss_scale", f"factors.gradient=[plain, {level}]")
    assert f": space.{where}: 'loss_scale' is not valid: " in told


def test_labels_too_long_together_are_refused(home: Path) -> None:
    def level(name: str, letter: str) -> str:
        return f"{{name: {name}, label: {letter * 100}}}"

    methods = ", ".join(
        level(name, letter)
        for name, letter in (("feature_noise", "a"), ("modality_dropout", "b"), ("r_drop", "c"))
    )
    told = refused(home, f"factors.robust=[[{methods}]]")
    assert "has 302 characters, expected at most 255; give its parts a shorter `label`" in told
    told = refused(
        home,
        f"name={'s' * 100}",
        f"factors.model=[{level('VBPR', 'm')}]",
        f"factors.gradient=[{level('mirror_gradient', 'g')}]",
        f"factors.optimizer=[{level('adam', 'o')}]",
        f"factors.robust=[[{methods[: methods.rindex(', {')]}]]",
    )
    assert "expected at most 512; shorten one by a `label`" in told


@pytest.mark.parametrize(
    "override", ["storage=sqlite:///{home}/text2", "tracking.uri=mlruns", "resources.cpu=1000000"]
)
def test_a_launch_that_is_refused_leaves_nothing(override: str, home: Path) -> None:
    (home / "text2").write_text("no database")
    study = api.read_study(home / "study.yaml", [override.format(home=home)], home)
    with pytest.raises(InputError):
        api.launch(study)
    assert not (home / ".mgstudy" / "studies").exists()


def test_a_dataset_of_two_domains_is_planned_for_what_needs_them(home: Path) -> None:
    pipeline = (
        "{name: two, source: {kind: synthetic, users: 60, items: 80, domains: 2, overlap: 0.2, "
        "interactions_per_user: 8.0}}"
    )
    (home / "two.yaml").write_text(pipeline)
    api.prepare(home / "two.yaml", home=home)

    def planned(*overrides: str) -> dict[str, Any]:
        levels = "factors={dataset: [two, tiny], model: [SIEOUG, LightGCN]}"
        return api.plan(api.read_study(home / "study.yaml", [levels, *overrides], home))

    plan = planned()
    assert len(plan["cells"]) == 3
    (left_out,) = plan["left_out"]
    assert left_out["reason"] == "SIEOUG needs two domains, dataset 'tiny' has none"
    (note,) = plan["notes"]
    assert "two has the domains left and right" in note and "recall-domains@5" in note
    alone = ["factors.dataset=[two]", "training.objective=recall-domains@5"]
    assert planned(*alone)["notes"] == []
    assert "tiny has no domains" in refused(home, "training.objective=recall-domains@5")
    with pytest.raises(InputError, match="ranks all 40 items of two"):
        planned("factors.dataset=[two]", "training.objective=recall-domains@40")
    # What a level switches off is not searched there.
    alone.append(
        "factors.model=[SIEOUG, {name: SIEOUG, label: alone, parameters: {transfer: none}}]"
    )
    both, without = api.read_study(home / "study.yaml", alone, home).plan.cells
    given_up = {f"model.SIEOUG.{name}" for name in ("hyperedges", "overlap_weight")}
    assert given_up <= both.searched.keys()
    assert given_up <= without.fixed.keys()
    assert "model.SIEOUG.regularization" in without.searched
