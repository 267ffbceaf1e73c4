"""The shipped Amazon pipeline on small files in Amazon's formats, and what can be wrong in them."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mgstudy.data.layouts import read_ids
from mgstudy.data.loading import load_dataset
from mgstudy.data.manifest import Manifest
from mgstudy.workspace import Workspace

PIPELINE = Path(__file__).parents[2] / "pipelines" / "amazon_baby.yaml"
USERS, ITEMS, WIDTH = 24, 14, 4
WITHOUT_IMAGE = 5


def asin(item: int) -> str:
    return f"B{item:09d}"


class Amazon:
    """Ratings, metadata and image features of a small category, valid until a test spoils them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        random = np.random.default_rng(0)
        chosen = [random.choice(ITEMS, size=10, replace=False) for _ in range(USERS)]
        self.rows = [
            (f"U{user}", asin(item), float(random.integers(1, 6)), 10**9 + 1000 * user + order)
            for user, items in enumerate(chosen)
            for order, item in enumerate(items)
        ]
        # Twice at the same time counts once, and neither this user nor this item is in the core.
        self.rows += [self.rows[0], ("lonely", asin(99), 5.0, 10**9)]
        self.records = [
            f"{{'asin': '{asin(item)}', 'title': \"It's number {item}\", "
            f"'categories': [['Baby', 'Kind {item % 3}'], ['Other']]}}"
            for item in range(ITEMS)
        ]
        self.vectors = random.normal(size=(ITEMS, WIDTH)).astype("<f4")

    def write(self) -> None:
        ratings = "".join(f"{','.join(map(str, row))}\n" for row in self.rows)
        (self.folder / "ratings_Baby.csv").write_text(ratings, "utf-8")
        metadata = gzip.compress("\n".join(self.records).encode())
        (self.folder / "meta_Baby.json.gz").write_bytes(metadata)
        (self.folder / "image_features_Baby.b").write_bytes(
            b"".join(
                asin(item).encode() + self.vectors[item].tobytes()
                for item in range(ITEMS)
                if item != WITHOUT_IMAGE
            )
        )


@pytest.fixture
def amazon(tmp_path: Path) -> Amazon:
    folder = tmp_path / "data"
    folder.mkdir()
    return Amazon(folder)


@pytest.fixture
def prepare(amazon, workspace, command) -> Callable[..., tuple[int, str]]:
    """Type ``mgstudy prepare``; the exit code, and what it said to be wrong."""

    def prepare(*overrides: str) -> tuple[int, str]:
        amazon.write()
        folder = amazon.folder
        settings = [
            f"source.reviews={folder}/ratings_Baby.csv",
            f"source.metadata={folder}/meta_Baby.json.gz",
            f"features.image.file={folder}/image_features_Baby.b",
            f"features.image.width={WIDTH}",
            "features.text.encoder=tfidf_svd",
            "features.text.template='{title} {category_path}'",
            "features.text.dimensions=3",
            *overrides,
        ]
        arguments = [argument for setting in settings for argument in ("--set", setting)]
        pipeline = folder / "pipeline.yaml"
        text = PIPELINE.read_text("utf-8").replace("    model: all-MiniLM-L6-v2\n", "")
        pipeline.write_text(text, "utf-8")
        code, _, err = command("prepare", pipeline, "--home", workspace.home, *arguments)
        return code, err

    return prepare


def test_dataset(amazon, prepare, workspace: Workspace) -> None:
    assert prepare() == (0, "")
    manifest = Manifest.read(workspace.manifest("amazon_baby"))
    assert manifest is not None
    assert (manifest.counts.users, manifest.counts.items) == (USERS, ITEMS)
    assert [(step.rows_in, step.rows_out) for step in manifest.steps][:3] == [
        (242, 242), (242, 241), (241, 240)
    ]  # fmt: skip
    # Ten of each user: one each is held out.
    counts = manifest.counts
    assert (counts.train, counts.validation, counts.test) == (8 * USERS, USERS, USERS)

    names = read_ids(workspace.tables / f"{manifest.id_maps['item_ids'].key}.parquet").to_pylist()
    assert names == list(dict.fromkeys(row[1] for row in amazon.rows[:-1]))
    features = load_dataset(workspace, "amazon_baby").features
    with_image = [item for item in range(ITEMS) if item != WITHOUT_IMAGE]
    for row, name in enumerate(names):
        item = int(name[1:])
        mean = amazon.vectors[with_image].mean(axis=0)
        expected = mean if item == WITHOUT_IMAGE else amazon.vectors[item]
        assert np.allclose(features["image"][row], expected, atol=1e-6)
    assert manifest.features["image"].missing == 1
    assert manifest.features["text"].shape == (ITEMS, 3)


def spoiled_rows(position: int, row: tuple) -> Callable[[Amazon], None]:
    def spoil(amazon: Amazon) -> None:
        amazon.rows[position] = row

    return spoil


def repeat_record(amazon: Amazon) -> None:
    amazon.records.append(amazon.records[2])


def cut_record(amazon: Amazon) -> None:
    amazon.records[3] = amazon.records[3][:-1]


def lose_record(amazon: Amazon) -> None:
    del amazon.records[4]


def spoil_vector(amazon: Amazon) -> None:
    amazon.vectors[6, 1] = np.nan


def narrow_vectors(amazon: Amazon) -> None:
    amazon.vectors = amazon.vectors[:, :3]


def few_rows(amazon: Amazon) -> None:
    amazon.rows = amazon.rows[:20]


BAD = {
    "a line cut short": (
        spoiled_rows(6, ("U0", asin(1))), "ratings_Baby.csv: line 7: has 2 fields, expected 4"
    ),
    "milliseconds": (
        spoiled_rows(8, ("U0", asin(1), 5.0, 10**12)),
        "ratings_Baby.csv: line 9: timestamp is 1000000000000, which looks like milliseconds",
    ),
    "a record cut short": (cut_record, "meta_Baby.json.gz: line 4: neither JSON nor a Python"),
    "an ASIN twice": (repeat_record, "meta_Baby.json.gz: line 15: item 'B000000002' has a record"),
    "an item without metadata": (
        lose_record, "meta_Baby.json.gz: item 'B000000004' has interactions but no text features"
    ),
    "NaN": (spoil_vector, "image_features_Baby.b: record 5 (from 0), column 1: is nan"),
    "vectors of another width": (narrow_vectors, "image_features_Baby.b: record "),
    "nothing in the core": (few_rows, "ratings_Baby.csv: nothing is left of 20 interactions"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_no_dataset(
    amazon, prepare, workspace, spoil, message
) -> None:
    spoil(amazon)
    code, said = prepare("features.text.missing=error")
    assert code == 2
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
    assert not workspace.manifest("amazon_baby").exists()
    assert not list(workspace.state.rglob("*.partial"))


def test_a_declared_share_of_lines_may_be_malformed(amazon, prepare, workspace) -> None:
    amazon.rows[100] = ("U10",)
    assert prepare("source.malformed_share=0.01") == (0, "")
    manifest = Manifest.read(workspace.manifest("amazon_baby"))
    assert manifest is not None
    assert manifest.steps[0].counts == {"malformed lines": 1}
