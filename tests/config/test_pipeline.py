from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mgstudy.config.document import load_document
from mgstudy.config.pipeline import PipelineConfig

PIPELINES = sorted((Path(__file__).parents[2] / "pipelines").glob("*.yaml"))


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_shipped_pipeline_is_valid_and_named_after_its_file(path: Path) -> None:
    config = load_document(path).validate(PipelineConfig)
    assert config.name == path.stem


def test_settings_of_the_source_are_carried_unread() -> None:
    config = PipelineConfig.model_validate(
        {"name": "a", "source": {"kind": "somewhere", "depth": {"deep": [1, 2]}}}
    )
    assert config.source.parameters == {"depth": {"deep": [1, 2]}}
    assert PipelineConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("content", "location", "kind"),
    [
        ({"name": "a"}, ("source",), "missing"),
        ({"name": "a", "source": {}}, ("source", "kind"), "missing"),
        ({"name": "a", "source": {"kind": 3}}, ("source", "kind"), "string_type"),
        ({"name": "../a", "source": {"kind": "b"}}, ("name",), "string_pattern_mismatch"),
        ({"name": "a" * 101, "source": {"kind": "b"}}, ("name",), "string_too_long"),
        ({"name": 3, "source": {"kind": "b"}}, ("name",), "string_type"),
        ({"name": "a", "source": {"kind": "b"}, "sorce": 1}, ("sorce",), "extra_forbidden"),
    ],
)
def test_a_wrong_pipeline_is_refused_where_it_is_wrong(
    content: dict[str, Any], location: tuple[str, ...], kind: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        PipelineConfig.model_validate(content)
    (fault,) = caught.value.errors()
    assert (fault["loc"], fault["type"]) == (location, kind)


def test_every_field_says_what_it_is() -> None:
    schema = PipelineConfig.model_json_schema()
    for model in (schema, *schema["$defs"].values()):
        assert all("description" in field for field in model["properties"].values())
