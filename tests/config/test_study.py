from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mgstudy.config.document import parse_document
from mgstudy.config.study import StudyConfig
from mgstudy.errors import InputError


def study(**sections: str) -> StudyConfig:
    """A study from pieces of YAML; ``factors__model`` stands for the key under ``factors``."""
    return parse_document(yaml_text(**sections), "s.yaml").validate(StudyConfig)


def yaml_text(**sections: str) -> str:
    factors = {"dataset": "[a]", "model": "[BPR]"}
    rest = {"name": "s", "trials": "3"}
    for key, text in sections.items():
        section, _, name = key.rpartition("__")
        (factors if section else rest)[name] = text
    lines = [f"  {key}: {text}" for key, text in factors.items()]
    return "\n".join(["factors:", *lines, *(f"{key}: {text}" for key, text in rest.items())])


def test_the_smallest_study_has_every_default() -> None:
    config = study()
    factors = ("dataset", "model", "gradient", "robust", "optimizer", "seed")
    labels = {factor: config.factors.labels(factor) for factor in factors}
    assert labels == {
        "dataset": ["a"],
        "model": ["BPR"],
        "gradient": ["plain"],
        "robust": ["none"],
        "optimizer": ["adam"],
        "seed": ["999"],
    }
    assert StudyConfig.model_validate_json(config.model_dump_json()) == config


def test_levels_are_called_by_their_label_or_their_short_name() -> None:
    config = study(
        factors__model="[BPR, my_package.models:Mine, {name: BPR, label: wide}]",
        factors__robust="[none, r_drop, [r_drop, {name: feature_noise, label: noise}]]",
    )
    assert config.factors.labels("model") == ["BPR", "Mine", "wide"]
    assert config.factors.labels("robust") == ["none", "r_drop", "r_drop+noise"]


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"factors__model": "[BPR, BPR]"}, "model has two levels called 'BPR'; give one a `label`"),
        ({"factors__seed": "[1, 1]"}, "seed has two levels called '1'; keep one"),
        ({"factors__robust": "[none, []]"}, "robust has two levels called 'none'"),
        ({"factors__model": "[]"}, "s.yaml:3: factors.model: is empty, expected at least one ent"),
        ({"factors__gradient": "[]"}, "s.yaml:4: factors.gradient: is empty, expected at least o"),
        ({"factors__robust": "[]"}, "s.yaml:4: factors.robust: is empty, expected at least one e"),
        ({"factors__robust": "[false]"}, "s.yaml:4: factors.robust.0: expected a mapping, got F"),
        ({"factors__dataset": "[7]"}, "s.yaml:2: factors.dataset.0: input should be a valid str"),
        ({"factors__seed": "[-1]"}, "s.yaml:4: factors.seed.0: input should be greater than or"),
        ({"factors__seed": "[4294967296]"}, "factors.seed.0: input should be less than 4294967296"),
        ({"factors__seed": "[true]"}, "s.yaml:4: factors.seed.0: input should be a valid integer"),
        ({"factors__sead": "[1]"}, "s.yaml:4: factors.sead: unknown key; did you mean 'seed'?"),
        (
            {"factors__model": "[{name: BPR, label: ../../x}]"},
            "s.yaml:3: factors.model.0.label: expected letters, digits and `_.-`, got '../../x'",
        ),
        (
            {"factors__model": "[{name: BPR, label: a/b}]"},
            "factors.model.0.label: expected letters",
        ),
        ({"name": "../s"}, "name: string should match pattern"),
        ({"name": "a" * 101}, "name: string should have at most 100 characters, got a text"),
        ({"name": '"s\\n"'}, "name: string should match pattern"),
        (
            {"factors__model": '[{name: BPR, label: "a\\n"}]'},
            "factors.model.0.label: expected letters, digits and `_.-`, got 'a\\n'",
        ),
        (
            {"factors__model": f"[{{name: BPR, label: {'a' * 101}}}]"},
            "factors.model.0.label: a name of 101 characters, expected at most 100",
        ),
        (
            {"factors__dataset": f"[{{name: a, label: {'a' * 101}, features: {{swap: {{}}}}}}]"},
            "string should have at most 100 characters",
        ),
        ({"trials": "0"}, "s.yaml:5: trials: input should be greater than or equal to 1, got 0"),
        ({"trials": "yes"}, "s.yaml:5: trials: input should be a valid integer, got 'yes'"),
        ({"trials": "true"}, "s.yaml:5: trials: input should be a valid integer, got True"),
        ({"trials": "'3'"}, "s.yaml:5: trials: input should be a valid integer, got '3'"),
        (
            {"trials": f"1{'0' * 18}"},
            "s.yaml:5: trials: input should be less than or equal to 10000",
        ),
        (
            {"confirmation": f"{{seeds: 1{'0' * 18}}}"},
            "s.yaml:6: confirmation.seeds: input should be less than or equal to 1000000, got",
        ),
        (
            {"trials": f"1{'0' * 400}"},
            "s.yaml:5: trials: '100000000000000000000000000000000000000000000000000000000...' is a "
            "whole number of more than 64 bits",
        ),
        ({"confirmation": "{shared: yes}"}, "confirmation.shared: expected `true` or `false`, got"),
        (
            {"checkpoints": "{keep_last: no}"},
            "checkpoints.keep_last: expected `true` or `false`, g",
        ),
        ({"training": "{epochs: true}"}, "training.epochs: input should be a valid integer"),
        ({"training": "{batch_size: '64'}"}, "training.batch_size: input should be a valid integ"),
        (
            {"training": "{objective: recal@20}"},
            "s.yaml:6: training.objective: unknown metric 'recal'; did you mean 'recall'?",
        ),
        ({"training": "{objective: recall}"}, "training.objective: metric 'recall' needs a cutoff"),
        (
            {"resources": "{gpu: -1}"},
            "resources.gpu: input should be greater than or equal to 0 or input should be 'auto' "
            "or 'packed', got -1",
        ),
        ({"resources": "{gpu: 1.5}"}, "resources.gpu: a trial takes a share of one GPU or whole"),
        ({"resources": "{gpu: true}"}, "resources.gpu: input should be a valid number or"),
        ({"resources": "{cpu: 0}"}, "resources.cpu: input should be greater than 0, got 0"),
        ({"sampler": "{nam: x}"}, "sampler.nam: unknown key; did you mean 'name'?"),
        ({"pruner": "3"}, "s.yaml:6: pruner: expected a mapping, got 3"),
    ],
)
def test_a_wrong_study_is_refused_where_it_is_wrong(sections: dict[str, str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        study(**sections)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == (2 if "nam:" in str(sections) else 1)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("sqlite:///mlflow.db", "sqlite:///{here}/mlflow.db"),
        ("sqlite+pysqlite:///a/m.db?timeout=9", "sqlite+pysqlite:///{here}/a/m.db?timeout=9"),
        ("journal:///study.log", "journal:///{here}/study.log"),
        *(
            (url, url)
            for url in (
                *("sqlite:////m.db", "sqlite:///${HOME}/m.db", "sqlite:///:memory:", "sqlite://"),
                *("journal:///", "http://host:5000", "postgresql://host/m"),
            )
        ),
    ],
)
def test_a_file_is_the_same_one_from_any_folder(
    given: str, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read = study(storage=f"'{given}'", tracking=f"{{uri: '{given}'}}")
    assert read.storage == read.tracking.uri == kept.replace("{here}", str(tmp_path))


@pytest.mark.parametrize("missing", ["name", "factors", "trials"])
def test_what_has_no_default_must_be_there(missing: str) -> None:
    content: dict[str, Any] = parse_document(yaml_text(), "s.yaml").data
    document = parse_document(yaml_text(), "s.yaml")
    document.data = {key: value for key, value in content.items() if key != missing}
    with pytest.raises(InputError, match=f"{missing}: is missing"):
        document.validate(StudyConfig)
