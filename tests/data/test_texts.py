"""Texts of items: made beside the features, fingerprinted, and read when they are asked for."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from states import summary_of

from mgstudy import api
from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.dataset import Dataset
from mgstudy.data.loading import load_dataset
from mgstudy.data.prepare import prepare, repair
from mgstudy.data.sources.synthetic import Synthetic
from mgstudy.data.tables import TableStore
from mgstudy.errors import InputError
from mgstudy.study.definition.manifest import DatasetEntry
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.workspace import Workspace


def shop(folder: Path, titles: dict[str, str], **texts) -> PipelineConfig:
    """A small shop: items a to e, which all users have, and a file of their records."""
    log = [f"u{user},{item}" for user in range(4) for item in "eabdc"]
    (folder / "log.csv").write_text("\n".join(["user,item", *log]) + "\n", "utf-8")
    rows = [f"{item},{title}" for item, title in titles.items()]
    (folder / "items.csv").write_text("\n".join(["item,title", *rows]) + "\n", "utf-8")
    content = {
        "name": "shop",
        "source": {
            "kind": "table",
            "interactions": str(folder / "log.csv"),
            "items": str(folder / "items.csv"),
        },
        "steps": ["reindex", {"split_per_user_random": {"ratios": [0.6, 0.2, 0.2]}}],
        "texts": texts or {"description": {"template": "It is {title}."}},
    }
    return PipelineConfig.model_validate(content)


TITLES = {"a": "Apple", "b": "Börek", "c": "Corn", "d": "Date", "e": "Egg"}


def texts_of(dataset: Dataset, name: str = "description") -> list[str]:
    return list(dataset.texts[name].read())


def test_texts_stand_by_item_id(tmp_path: Path) -> None:
    """Items are numbered in order of first appearance: e, a, b, d, c."""
    workspace = Workspace(tmp_path / "home")
    prepare(shop(tmp_path, TITLES), workspace)
    expected = [f"It is {title}." for title in ("Egg", "Apple", "Börek", "Date", "Corn")]
    assert texts_of(load_dataset(workspace, "shop")) == expected


def test_a_dataset_travels_without_its_texts(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    prepare(shop(tmp_path, dict.fromkeys("abcde", "long " * 1000)), workspace)
    dataset = load_dataset(workspace, "shop")
    assert len(texts_of(dataset)[0]) > 4_000
    assert len(pickle.dumps(dataset)) < 10_000


def test_a_changed_record_changes_the_fingerprint_and_nothing_else(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    config = shop(tmp_path, TITLES)
    before = prepare(config, workspace)
    entry = DatasetEntry.of(load_dataset(workspace, "shop"))
    assert prepare(config, workspace) == before
    after = prepare(shop(tmp_path, {**TITLES, "a": "Apricot"}), workspace)
    assert after.interactions == before.interactions
    changed = load_dataset(workspace, "shop")
    assert texts_of(changed)[1] == "It is Apricot."
    assert DatasetEntry.of(changed) == entry.model_copy(
        update={"texts": {"description": after.texts["description"].key}}
    )
    assert after.texts != before.texts


def test_texts_that_a_study_began_with_are_kept(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    before = prepare(shop(tmp_path, TITLES), workspace)
    entry = DatasetEntry.of(load_dataset(workspace, "shop"))
    manifest = summary_of([]).manifest.model_copy(update={"datasets": {"shop": entry}})
    manifest.write(StudyFolder.of(workspace, "s"))
    prepare(shop(tmp_path, {**TITLES, "a": "Apricot"}), workspace)
    assert api.clean_cache(workspace.home) == []
    assert TableStore(workspace.tables).check(before.texts["description"].key)


def test_a_missing_text_is_an_error_until_it_is_said_to_be_empty(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    titles = {item: title for item, title in TITLES.items() if item != "b"}
    with pytest.raises(InputError, match=r"item 'b' .* no text 'title', .* texts.title.missing"):
        prepare(shop(tmp_path, titles, title={"template": "{title}!"}), workspace)
    empty = shop(tmp_path, titles, title={"template": "{title}!", "missing": "empty"})
    prepare(empty, workspace)
    assert texts_of(load_dataset(workspace, "shop"), "title")[2] == ""


def test_a_damaged_table_is_made_again(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    manifest = prepare(shop(tmp_path, TITLES), workspace)
    path = TableStore(workspace.tables).path(manifest.texts["description"].key)
    path.write_bytes(path.read_bytes()[:-1])
    assert repair(manifest, workspace) == manifest
    path.unlink()
    assert texts_of(load_dataset(workspace, "shop"))[0] == "It is Egg."


def test_a_source_without_records_has_no_texts(tmp_path: Path) -> None:
    config = shop(tmp_path, TITLES)
    source = config.source.model_copy(update={"items": None})
    without = config.model_copy(update={"source": source})
    with pytest.raises(InputError, match=r"no records of items.*`texts`"):
        prepare(without, Workspace(tmp_path / "home"))


def test_titles_of_generated_items_name_their_factors() -> None:
    source = Synthetic(Synthetic.Parameters(items=30, interactions_per_user=5))
    factors = source.item_factors()
    for _, key, record in source.item_records(["title"], {"0", "17"}):
        ascending = np.argsort(factors[int(key)])
        expected = [f"strong-f{ascending[-1]}", f"strong-f{ascending[-2]}"]
        expected += [f"weak-f{ascending[0]}", f"weak-f{ascending[1]}"]
        assert sorted(record["title"].split()) == sorted(expected)


def test_texts_in_memory_are_fingerprinted(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    prepare(shop(tmp_path, TITLES), workspace)
    dataset = replace(load_dataset(workspace, "shop"), texts={})
    one, same, other = (
        dataset.with_texts({"title": texts}).texts["title"].fingerprint
        for texts in (["a", "b"], ["a", "b"], ["a", "c"])
    )
    assert one == same != other
