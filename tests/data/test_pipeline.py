import json
import re
from pathlib import Path
from typing import Any

import pytest

from mgstudy.config.document import load_document
from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.pipeline import pipeline_schema, validate_pipeline
from mgstudy.data.sources.base import Source, sources
from mgstudy.data.sources.synthetic import Synthetic
from mgstudy.errors import InputError


def pipeline(**source: Any) -> PipelineConfig:
    return PipelineConfig.model_validate({"name": "a", "source": source})


def validate_source(config: PipelineConfig) -> Source:
    return validate_pipeline(config).source


def said_of(error: InputError) -> list[str]:
    """The names of the values that a refusal speaks of, a line each."""
    lines = [line.split(": ") for line in str(error).splitlines()]
    assert {place for place, *_ in lines} == {"pipeline 'a'"}
    return [name for _, name, *_ in lines]


def test_a_source_is_found_by_its_name_with_its_settings_validated() -> None:
    source = validate_source(pipeline(kind="synthetic", users=30))
    assert isinstance(source, Synthetic)
    assert source.parameters == Synthetic.Parameters(users=30)


def test_a_source_can_be_named_by_its_class() -> None:
    path = "mgstudy.data.sources.synthetic:Synthetic"
    assert isinstance(validate_source(pipeline(kind=path)), Synthetic)


def test_an_unknown_source_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"source\.kind: unknown .* did you mean 'synthetic'"):
        validate_source(pipeline(kind="syntetic"))


@pytest.mark.parametrize(
    ("settings", "location"),
    [
        ({"usres": 3}, ("source", "usres")),
        ({"users": 0}, ("source", "users")),
        ({"users": "30"}, ("source", "users")),
        ({"users": True}, ("source", "users")),
        ({"interactions_per_user": float("nan")}, ("source", "interactions_per_user")),
        ({"interactions_per_user": 300, "items": 800}, ("source",)),
        (
            {"modalities": {"image": {"width": 4, "noise": -1}}},
            ("source", "modalities", "image", "noise"),
        ),
    ],
)
def test_a_wrong_setting_is_located_in_the_pipeline_file(
    settings: dict[str, Any], location: tuple[str, ...]
) -> None:
    with pytest.raises(InputError) as caught:
        validate_source(pipeline(kind="synthetic", **settings))
    assert said_of(caught.value) == [".".join(location)]


def test_schema_describes_every_setting_of_every_source() -> None:
    schema = pipeline_schema()
    referred = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(schema)))
    assert referred <= set(schema["$defs"])
    branches = schema["properties"]["source"]["oneOf"]
    kinds = []
    for branch in branches:
        settings = schema["$defs"][branch["$ref"].rpartition("/")[2]]["properties"]
        assert all("description" in setting for setting in settings.values())
        kinds.append(settings["kind"]["const"])
    assert kinds == sources.names()


@pytest.mark.parametrize(
    ("content", "location", "message"),
    [
        ({"steps": ["reindxe"]}, "steps.0", "did you mean 'reindex'"),
        (
            {"features": {"x": {"encoder": "tfidf"}}},
            "features.x.encoder",
            "unknown encoder 'tfidf'",
        ),
        (
            {"features": {"x": {"encoder": "source", "steps": ["reindex", "normalize"]}}},
            "features.x.steps.0",
            "unknown feature step 'reindex'",
        ),
    ],
)
def test_an_unknown_part_is_located_in_the_pipeline_file(content, location, message) -> None:
    source = {"kind": "synthetic"}
    config = PipelineConfig.model_validate({"name": "a", "source": source, **content})
    with pytest.raises(InputError, match=message) as caught:
        validate_pipeline(config)
    assert said_of(caught.value) == [location]


def test_a_second_split_is_refused_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    steps = ["split_leave_out: {k: 1, by: random}", "reindex", "split_per_user_random"]
    path.write_text(
        "\n".join(["name: t", "source: {kind: synthetic}", "steps:", *(f"- {s}" for s in steps)])
    )
    document = load_document(path)
    with pytest.raises(InputError) as caught:
        validate_pipeline(document.validate(PipelineConfig), document)
    said = "steps.2: the interactions are split already, by steps.0; keep one"
    assert str(caught.value) == f"{path}:6: {said}"


@pytest.mark.parametrize(
    ("content", "location"),
    [
        ({"steps": [{"k_core": {"usrs": 3}}]}, "steps.0.k_core.usrs"),
        ({"steps": ["reindex", {"k_core": {"users": 0}}]}, "steps.1.k_core.users"),
        ({"steps": ["rating_threshold"]}, "steps.0.rating_threshold.minimum"),
        (
            {"steps": [{"split_per_user_random": {"ratios": [0.8, 0.1, 0.2]}}]},
            "steps.0.split_per_user_random.ratios",
        ),
        (
            {"features": {"x": {"encoder": "source", "mising": "mean"}}},
            "features.x.mising",
        ),
    ],
)
def test_a_wrong_setting_of_a_step_or_encoder_is_located(content, location) -> None:
    source = {"kind": "synthetic"}
    config = PipelineConfig.model_validate({"name": "a", "source": source, **content})
    with pytest.raises(InputError) as caught:
        validate_pipeline(config)
    assert said_of(caught.value) == [location]


PIPELINES = sorted((Path(__file__).parents[2] / "pipelines").glob("*.yaml"))


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_the_parts_of_shipped_pipelines_exist_and_are_set_as_they_can_be(path: Path) -> None:
    config = load_document(path).validate(PipelineConfig)
    validate_pipeline(config)


def test_shipped_pipelines_follow_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = pipeline_schema()
    for path in PIPELINES:
        jsonschema.validate(load_document(path).data, schema)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([], ["source.usres", "features.x.steps.0", "features.x.steps.1"]),
        (
            ["reindxe", {"k_core": {"users": 0}}],
            ["source.usres", "steps.0", "steps.1.k_core.users"],
        ),
    ],
)
def test_wrong_parts_are_said_together_the_first_of_them(steps: list[Any], said: list[str]) -> None:
    content = {
        "source": {"kind": "synthetic", "usres": 3},
        "steps": steps,
        "features": {"x": {"encoder": "source", "steps": ["reindex", "pcaa"]}},
    }
    with pytest.raises(InputError) as caught:
        validate_pipeline(PipelineConfig.model_validate({"name": "a", **content}))
    assert said_of(caught.value) == said
    assert str(caught.value).endswith(" (and 2 more mistakes)") == bool(steps)


@pytest.mark.parametrize("modality", ["copy", "model_config", "json", "schema"])
def test_a_modality_may_have_any_name(modality: str, recwarn) -> None:
    features = {modality: {"encoder": "source"}}
    source = {"kind": "synthetic", "modalities": {modality: {"width": 2}}}
    config = {"name": "a", "source": source, "features": features}
    assert list(validate_pipeline(PipelineConfig.model_validate(config)).features) == [modality]
    assert not recwarn


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"source": {"kind": ".x:y"}}, r"source\.kind: cannot import source '\.x:y'"),
        (
            {"source": {"kind": "table", "interactions": "a", "delimiter": "\n"}},
            r"source\.delimiter: string should match pattern",
        ),
        (
            {"features": {"x": {"encoder": "tfidf_svd", "template": "{a}", "seed": 2**32}}},
            r"features\.x\.seed: input should be less than 4294967296",
        ),
        (
            {"features": {"x": {"encoder": "precomputed", "file": "a.b", "width": 10**12}}},
            r"features\.x\.width: input should be less than or equal to 1048576",
        ),
    ],
)
def test_a_setting_out_of_range_is_located(content, said) -> None:
    content = {"name": "a", "source": {"kind": "synthetic"}, **content}
    with pytest.raises(InputError, match=said):
        validate_pipeline(PipelineConfig.model_validate(content))
