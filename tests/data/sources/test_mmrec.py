import os
import pickle
import re

import numpy as np
import pytest

from mgstudy.data.pipeline import validate_pipeline
from mgstudy.data.prepare import prepare
from mgstudy.errors import InputError


def source_of(raw, **settings):
    return validate_pipeline(raw.pipeline(**settings)).source.resolved()


def test_reads_the_three_columns_wherever_they_stand(raw) -> None:
    raw.interactions.write_text(
        "\ufeffrating\titemID\tuserID\ttimestamp\tx_label\r\n"
        "5.0\t3\t0\tyesterday\t0\r\n\r\n1.5\t0\t2\t\t2\r\n",
        "utf-8",
    )
    read = source_of(raw).interactions()
    assert list(zip(read.users, read.items, read.splits, strict=True)) == [(0, 3, 0), (2, 0, 2)]
    assert (read.user_count, read.item_count) == (3, 4)


def test_finds_the_usual_files_in_the_usual_order(raw) -> None:
    source = source_of(raw)
    assert source.parameters.interactions == "toy.inter"
    assert list(source.feature_recipes()) == ["image", "audio"]


def test_modalities_have_the_order_of_the_mapping(raw) -> None:
    files = {"sound": "audio_feat.npy", "frame": "image_feat.npy"}
    source = source_of(raw, modalities=files)
    assert list(source.feature_recipes()) == ["sound", "frame"]
    assert np.array_equal(source.features("frame", 5), raw.features["image"])


def test_a_dataset_may_have_no_modality(raw, workspace) -> None:
    assert prepare(raw.pipeline(modalities={}), workspace).features == {}


def second_row(user, item, label):
    """Spoil the second row, which is line 3."""

    def spoil(raw) -> None:
        rows = [list(row) for row in raw.rows]
        rows[1] = [user, item, label]
        raw.write_rows(rows)

    return spoil


def text(content: bytes):
    return lambda raw: raw.interactions.write_bytes(content)


def rows(*rows):
    return lambda raw: raw.write_rows(rows)


def image(table):
    return lambda raw: raw.write_features("image", np.asarray(table))


def image_bytes(change):
    def spoil(raw) -> None:
        path = raw.feature_file("image")
        path.write_bytes(change(path.read_bytes()))

    return spoil


def claimed_shape(shape: bytes):
    """Another shape in the header, which keeps its length."""
    written, claimed = (text.ljust(30) for text in (b"(5, 3), }", shape + b", }"))
    return image_bytes(lambda content: content.replace(written, claimed))


def pickled_objects(raw) -> None:
    np.save(raw.feature_file("image"), np.array([{}, 1], dtype=object), allow_pickle=True)


def archive(raw) -> None:
    np.savez(raw.path / "archive.npz", raw.features["image"])
    (raw.path / "archive.npz").replace(raw.feature_file("image"))


def link_to_nowhere(raw) -> None:
    raw.feature_file("image").unlink()
    raw.feature_file("image").symlink_to("nowhere")


def pipe(raw) -> None:
    raw.feature_file("image").unlink()
    os.mkfifo(raw.feature_file("image"))


def with_value(value, row, column, dtype=np.float32):
    def spoil(raw) -> None:
        table = raw.features["image"].astype(dtype)
        table[row, column] = value
        raw.write_features("image", table)

    return spoil


HEADER = b"userID\titemID\tx_label\n"

BAD_INPUT = {
    "negative user": (second_row(-1, 1, 0), "toy.inter: line 3: userID is -1"),
    "negative item": (second_row(0, -7, 0), "toy.inter: line 3: itemID is -7"),
    "fraction": (second_row("1.5", 1, 0), "toy.inter: line 3: userID is '1.5', expected an int"),
    "word": (second_row(0, "B00X", 0), "toy.inter: line 3: itemID is 'B00X'"),
    "nothing": (second_row("", 1, 0), "toy.inter: line 3: userID is missing"),
    "huge": (second_row(0, 10**20, 0), "toy.inter: line 3: itemID is 100000000000000000000"),
    "hexadecimal": (second_row("0x1", 1, 0), "line 3: userID is '0x1', expected an integer from 0"),
    "a stray user": (
        second_row(500, 1, 0),
        "line 3: userID is 500, expected at most 499, as 5 different ones occur and ids count from "
        "0 without gaps; set $MGSTUDY_IDS_PER_ID",
    ),
    "a stray item": (second_row(0, 10**6, 0), "line 3: itemID is 1000000, expected at most 599"),
    "beyond 31 bits": (second_row(2**31, 1, 0), "toy.inter: line 3: userID is 2147483648"),
    "label": (second_row(0, 1, 3), "toy.inter: line 3: x_label is 3, expected 0 (train)"),
    "label word": (second_row(0, 1, "train"), "toy.inter: line 3: x_label is 'train'"),
    "few fields": (text(HEADER + b"0\t0\t0\n1\t1\n"), "line 3: has 2 fields, expected 3"),
    "after an empty line": (text(HEADER + b"0\t0\t0\n\n0\tx\t0\n"), "line 4: itemID is 'x'"),
    "no column": (
        text(b"userID\titemID\trating\n0\t0\t1\n"),
        "toy.inter: line 1: no column 'x_label'; the header has 'userID', 'itemID', 'rating', "
        "split at tabs",
    ),
    "commas": (text(b"userID,itemID,x_label\n0,0,0\n"), "has 'userID,itemID,x_label'"),
    "latin-1": (text(HEADER + b"0\t0\t0\n0\t\xe9\t0\n"), "line 3: not UTF-8 text (byte 3"),
    "latin-1 in an ignored column": (
        text(b"userID\titemID\tx_label\ttitle\n0\t0\t0\tcaf\xe9\n"), "line 2: not UTF-8 text (byte"
    ),
    "utf-16": (text("userID".encode("utf-16")), "toy.inter: line 1: not UTF-8"),
    "header only": (text(HEADER), "toy.inter: holds no record"),
    "empty file": (text(b""), "toy.inter: the file is empty"),
    "no file": (lambda raw: raw.interactions.unlink(), "expected one *.inter file, found none"),
    "two files": (
        lambda raw: (raw.path / "b.inter").write_bytes(HEADER),
        "found several (b.inter, toy.inter); name it in source.interactions",
    ),
    "no training": (rows((0, 0, 1), (0, 1, 2)), "toy.inter: the train split is empty"),
    "no validation": (
        rows((0, 0, 0), (0, 4, 2)), "toy.inter: the validation split is empty"
    ),
    "no test": (
        rows((0, 0, 0), (0, 1, 1), (1, 4, 2)),
        "toy.inter: the test split is empty: all 1 are of users without training interactions",
    ),
    "item without features": (
        image(np.zeros((4, 3))),
        "line 10: itemID is 4, expected the number of one of the 4 rows of image_feat.npy",
    ),
    "features without item": (
        image(np.zeros((6, 3))),
        "image_feat.npy: has 6 rows, but the highest itemID in toy.inter is 4: expected 5 rows",
    ),
    "nan": (with_value(np.nan, 2, 1), "image_feat.npy: row 2, column 1: is nan"),
    "infinity": (with_value(-np.inf, 4, 0), "image_feat.npy: row 4, column 0: is -inf"),
    "too large": (
        with_value(1e300, 1, 2, np.float64),
        "image_feat.npy: row 1, column 2: 1e+300 is beyond float32",
    ),
    "one dimension": (image(np.zeros(5)), "image_feat.npy: has shape [5], expected one row"),
    "no width": (image(np.zeros((5, 0))), "image_feat.npy: has shape [5, 0]"),
    "integers": (image(np.zeros((5, 2), int)), "image_feat.npy: holds int64, expected float16"),
    "pickled objects": (pickled_objects, "image_feat.npy: holds pickled Python objects"),
    "pickle": (
        image_bytes(lambda _: pickle.dumps([1.0])),
        "image_feat.npy: not a .npy file (pickles are never loaded)",
    ),
    "cut short": (
        image_bytes(lambda content: content[:-5]), "image_feat.npy: not a complete .npy array"
    ),
    "bytes left over": (
        image_bytes(lambda content: content[:128] + b"\r" + content[128:]),
        "image_feat.npy: has 189 bytes, its header promises 188; download it again in binary mode",
    ),
    "a header of nonsense": (
        claimed_shape(b"((((("),
        "image_feat.npy: not a complete .npy array: ",
    ),
    "a shape beyond memory": (
        claimed_shape(b"(5, 9999999999999)"),
        "image_feat.npy: not a complete .npy array: ",
    ),
    "a shape of truth values": (
        claimed_shape(b"(5, None)"),
        "image_feat.npy: not a complete .npy array: ",
    ),
    "a zip": (image_bytes(lambda _: b"PK\x03\x04none"), "image_feat.npy: an archive of several"),
    "a link to nowhere": (
        link_to_nowhere, "image_feat.npy: no such file (the link leads nowhere); the folder holds"
    ),
    "a pipe": (pipe, "image_feat.npy: is a pipe, socket or device, expected a file"),
    "empty array file": (image_bytes(lambda _: b""), "image_feat.npy: not a .npy file"),
    "archive": (archive, "image_feat.npy: an archive of several arrays"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_refused_in_one_line_and_leaves_no_dataset(
    raw, workspace, spoil, message
) -> None:
    spoil(raw)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        prepare(raw.pipeline(), workspace)
    assert str(raw.path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not workspace.datasets.exists()
    assert not list(workspace.tables.glob("*.partial"))


def test_a_limit_on_ids_can_be_raised(raw, monkeypatch) -> None:
    raw.write_rows([*raw.rows, (9999, 0, 0)])
    monkeypatch.setenv("MGSTUDY_IDS_PER_ID", "2000")
    assert source_of(raw).interactions().user_count == 10_000


def test_a_missing_file_is_named_with_what_is_there(raw, workspace) -> None:
    with pytest.raises(InputError, match=r"text\.npy: no such file; the folder holds audio_feat"):
        prepare(raw.pipeline(modalities={"text": "text.npy"}), workspace)
    assert not workspace.state.exists()


def test_a_missing_folder_says_what_to_set(raw, workspace) -> None:
    with pytest.raises(InputError, match=r"no such folder; set source\.path"):
        prepare(raw.pipeline(path=str(raw.path / "elsewhere")), workspace)
    assert not workspace.state.exists()
