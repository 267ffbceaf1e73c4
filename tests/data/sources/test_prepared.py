from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.dataset import Dataset
from mgstudy.data.loading import load_dataset
from mgstudy.data.manifest import Manifest
from mgstudy.data.prepare import prepare
from mgstudy.data.sources.prepared import Prepared
from mgstudy.errors import InputError
from mgstudy.workspace import Workspace

WIDTH = 3


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with books and films: eight items each, of which the first film has no image;
    users 8 to 11 are in both."""
    made = Workspace(tmp_path / "workspace")
    for name, users in {"books": range(12), "films": range(8, 20)}.items():
        folder = tmp_path / name
        folder.mkdir()
        rows = ["user_id:token\titem_id:token\ttimestamp:float"]
        rows += [f"u{user}\ti{(user + n) % 8}\t{n}" for user in users for n in range(6)]
        (folder / f"{name}.inter").write_text("\n".join(rows) + "\n", "utf-8")
        items = [f"i{n}\t{name} number w{n}" for n in range(8)]
        header = "item_id:token\ttitle:token_seq"
        (folder / f"{name}.item").write_text("\n".join([header, *items]) + "\n", "utf-8")
        shown = range(name == "films", 8)
        np.save(folder / "images.npy", vectors(name)[shown.start :])
        (folder / "images.txt").write_text("".join(f"i{n}\n" for n in shown), "utf-8")
        prepare_it(
            made,
            name=name,
            source={"kind": "recbole", "path": str(folder)},
            steps=[{"split_leave_out": {"by": "time"}}],
            features={
                "image": {
                    "encoder": "precomputed",
                    "file": str(folder / "images.npy"),
                    "row_keys": str(folder / "images.txt"),
                    "missing": "zero",
                }
            },
            texts={"words": {"template": "{title}"}},
        )
    return made


def vectors(name: str) -> np.ndarray[Any, Any]:
    return np.random.default_rng(len(name)).normal(size=(8, WIDTH)).round(3).astype(np.float32)


def prepare_it(workspace: Workspace, **declared: Any) -> Manifest:
    return prepare(PipelineConfig.model_validate(declared), workspace)


def domain(workspace: Workspace, name: str) -> dict[str, Any]:
    return {"kind": "prepared", "path": str(workspace.manifest(name).parent)}


def both(workspace: Workspace) -> dict[str, Any]:
    domains = {name: domain(workspace, name) for name in ("books", "films")}
    return {"kind": "cross_domain", "domains": domains}


def rows_of(dataset: Dataset, split: str) -> list[tuple[int, ...]]:
    return sorted(
        zip(*(c.tolist() for c in getattr(dataset, split).columns().values()), strict=True)
    )


def test_two_prepared_datasets_become_domains_with_splits_features_and_texts(workspace) -> None:
    prepare_it(workspace, name="both", source=both(workspace))
    joined = load_dataset(workspace, "both")
    books, films = (load_dataset(workspace, name) for name in ("books", "films"))
    assert joined.domains == ("books", "films")
    assert (joined.user_count, joined.item_count) == (20, 16)
    for split in ("train", "validation", "test"):
        sizes = [len(getattr(part, split)) for part in (books, films)]
        assert len(getattr(joined, split)) == sum(sizes)
        first = rows_of(joined.of_domain("books"), split)
        assert first == rows_of(books, split)
    expected = np.concatenate([books.features["image"], films.features["image"]])
    np.testing.assert_array_equal(joined.features["image"], expected)
    # The film without an image is known to have none, and keeps what it was filled with.
    assert np.flatnonzero(~joined.observed["image"]).tolist() == [
        8 + int(np.flatnonzero(~films.observed["image"])[0])
    ]


def test_texts_are_kept_for_encoders(workspace) -> None:
    prepare_it(
        workspace,
        name="both",
        source=both(workspace),
        features={"text": {"encoder": "tfidf_svd", "template": "{words}", "dimensions": 2}},
        texts={"words": {"template": "{words}"}},
    )
    joined = load_dataset(workspace, "both")
    assert joined.features["text"].shape == (16, 2)
    texts = joined.texts["words"].read()
    assert {text.split()[0] for text in texts[:8]} == {"books"}
    assert {text.split()[0] for text in texts[8:]} == {"films"}


def test_one_becomes_another_by_further_steps(workspace) -> None:
    steps = [{"split_leave_out": {"by": "random", "seed": 1}}]
    manifest = prepare_it(workspace, name="again", source=domain(workspace, "films"), steps=steps)
    assert "take films as prepared" in [step.name for step in manifest.steps]
    films, again = (load_dataset(workspace, name) for name in ("films", "again"))
    assert rows_of(films, "test") != rows_of(again, "test")
    np.testing.assert_array_equal(films.features["image"], again.features["image"])
    np.testing.assert_array_equal(films.observed["image"], again.observed["image"])


def test_features_that_each_domain_learnt_for_itself_are_refused(workspace, tmp_path) -> None:
    for name in ("books", "films"):
        prepare_it(
            workspace,
            name=f"{name}_words",
            source={"kind": "recbole", "path": str(tmp_path / name)},
            steps=["split_leave_out"],
            features={"text": {"encoder": "tfidf_svd", "template": "{title}", "dimensions": 1}},
        )
    domains = {name: domain(workspace, f"{name}_words") for name in ("books", "films")}
    with pytest.raises(InputError, match=r"text was not encoded alike in books .*learnt_from"):
        prepare_it(workspace, name="b", source={"kind": "cross_domain", "domains": domains})


def test_features_of_two_revisions_or_libraries_are_refused(workspace) -> None:
    path = workspace.manifest("books")
    manifest = Manifest.read(path)
    assert manifest is not None
    for encoder, name in (("sentence_transformer", "revision"), ("image_model", "library")):
        encodings = []
        for value in ("one", "other"):
            features = {"image": {"encoder": encoder, name: value}}
            written = {**manifest.pipeline.model_dump(mode="json"), "features": features}
            changed = PipelineConfig.model_validate(written)
            manifest.model_copy(update={"pipeline": changed}).write(path)
            source = Prepared(Prepared.Parameters(path=path.parent))
            encodings.append(source.encoding("image"))
        assert encodings[0] != encodings[1]


def test_what_is_no_prepared_dataset_is_refused(workspace, tmp_path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json: there is no such file; source\.path"):
        prepare_it(workspace, name="x", source={"kind": "prepared", "path": str(tmp_path)})
    prepare_it(workspace, name="both", source=both(workspace))
    with pytest.raises(InputError, match="both consists of domains"):
        prepare_it(workspace, name="x", source=domain(workspace, "both"))


def test_a_dataset_that_changed_gives_another(workspace, tmp_path) -> None:
    before = prepare_it(workspace, name="both", source=both(workspace))
    path = tmp_path / "books" / "books.inter"
    path.write_text(path.read_text("utf-8") + "u0\ti7\t9\n", "utf-8")
    declared = Manifest.read(workspace.manifest("books"))
    assert declared is not None
    prepare(declared.pipeline, workspace)
    after = prepare_it(workspace, name="both", source=both(workspace))
    assert after.interactions.key != before.interactions.key
