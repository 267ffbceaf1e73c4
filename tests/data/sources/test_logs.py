"""The sources of raw logs, each on files written as its publisher writes them."""

import datetime
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from mgstudy.config.document import parse_document
from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.pipeline import validate_pipeline
from mgstudy.data.records import PER_SECOND
from mgstudy.data.sources.base import Source
from mgstudy.errors import InputError, MgstudyError

LOG = [("u1", "i1", 5.0, 1_000_000_000), ("u2", "i1", 3.0, 1_000_000_010), ("u1", "i2", 4.0, 20)]
"""User, item, rating, time in seconds: what every source must read."""


def source(kind: str, **settings) -> Source:
    settings = {name: str(value) if isinstance(value, Path) else value
                for name, value in settings.items()}  # fmt: skip
    config = PipelineConfig.model_validate({"name": "a", "source": {"kind": kind, **settings}})
    return validate_pipeline(config).source.resolved()


def rows(read: Source):
    raw = read.interactions()
    assert raw.user_keys is not None
    assert raw.item_keys is not None
    columns = [
        raw.user_keys.take(pa.array(raw.users)).to_pylist(),
        raw.item_keys.take(pa.array(raw.items)).to_pylist(),
    ]
    columns += [
        [None] * len(raw) if values is None else values.tolist()
        for values in (raw.ratings, raw.timestamps)
    ]
    return list(zip(*columns, strict=True))


def records(read: Source, *fields: str):
    ids = {"i1", "i2", "1", "2"}
    return {
        key: {name: record.get(name) for name in fields}
        for _, key, record in read.item_records(fields, ids)
    }


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_amazon_2014(tmp_path, compress) -> None:
    reviews = tmp_path / "reviews_Toys_5.json.gz"
    lines = [
        json.dumps(
            {"reviewerID": user, "asin": item, "helpful": [0, 1], "reviewText": "Nice, \"good\".",
             "overall": rating, "summary": "x", "unixReviewTime": time}
        )
        for user, item, rating, time in LOG
    ]  # fmt: skip
    reviews.write_bytes(compress("\n".join(lines).encode()))
    metadata = tmp_path / "meta_Toys.json.gz"
    metadata.write_bytes(
        compress(
            b"{'asin': 'i1', 'title': 'It\\'s', 'categories': [['A', 'B'], ['C']]}\n"
            b"{'asin': 'i3', 'title': 'other'}\n{'asin': 'i2', 'brand': 'Z'}\n"
        )
    )
    read = source("amazon_2014", reviews=reviews, metadata=metadata)
    assert rows(read) == LOG
    assert records(read, "title", "category_path") == {
        "i1": {"title": "It's", "category_path": ["A", "B"]},
        "i2": {"title": None, "category_path": []},
    }

    ratings = tmp_path / "ratings_Toys.csv"
    ratings.write_text("".join(f"{','.join(map(str, row))}\n" for row in LOG), "utf-8")
    assert rows(source("amazon_2014", reviews=ratings)) == LOG


def test_users_and_items_of_amazon_that_have_changed_places_are_refused(tmp_path) -> None:
    names = {"u1": "A1YJEY40YUW4SE", "u2": "A3SBTW3WS4IQSN", "i1": "B000JQ0JNS", "i2": "0700026657"}
    log = [(names[user], names[item], 5.0, 7) for user in ("u1", "u2") for item in ("i1", "i2")]
    ratings = tmp_path / "ratings_Toys.csv"
    for order, right, wrong in (((0, 1), "user", "item"), ((1, 0), "item", "user")):
        lines = (f"{row[order[0]]},{row[order[1]]},5.0,7\n" for row in log)
        ratings.write_text("".join(lines), "utf-8")
        assert rows(source("amazon_2014", reviews=ratings, first_column=right)) == log
        with pytest.raises(InputError, match=f"for items; set source.first_column: {right}$"):
            rows(source("amazon_2014", reviews=ratings, first_column=wrong))


def test_amazon_2023(tmp_path) -> None:
    reviews = tmp_path / "Toys.jsonl"
    lines = [
        json.dumps(
            {"rating": rating, "title": "t", "text": "x", "images": [], "asin": f"{item}-variant",
             "parent_asin": item, "user_id": user, "timestamp": time * 1000 + 7}
        )
        for user, item, rating, time in LOG[:2]
    ]  # fmt: skip
    reviews.write_text("\n".join(lines), "utf-8")
    metadata = tmp_path / "meta.jsonl"
    metadata.write_text('{"parent_asin": "i1", "title": "T", "features": ["a", "b"]}\n', "utf-8")
    read = source("amazon_2023", reviews=reviews, metadata=metadata)
    assert rows(read) == LOG[:2]
    assert records(read, "features") == {"i1": {"features": ["a", "b"]}}
    with pytest.raises(InputError, match=r"line 1: timestamp is .* looks like milliseconds"):
        rows(source("amazon_2023", reviews=reviews, timestamp_unit="seconds"))
    reviews.write_text(lines[0].replace("0000007", "0"), "utf-8")
    with pytest.raises(InputError, match=r"looks like seconds; set source\.timestamp_unit"):
        rows(read)


def test_recbole(tmp_path) -> None:
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    body = "".join("\t".join(map(str, row)) + "\n" for row in LOG)
    (tmp_path / "toys.inter").write_text(header + body, "utf-8")
    (tmp_path / "toys.item").write_text(
        'item_id:token\ttitle:token_seq\tyear:token\ni1\tA toy\t1999\ni2\t"B\t\n', "utf-8"
    )
    read = source("recbole", path=tmp_path)
    assert rows(read) == LOG
    assert read.item_fields() == ["item_id", "title", "year"]
    assert records(read, "title", "year") == {
        "i1": {"title": ["A", "toy"], "year": "1999"},
        "i2": {"title": ['"B'], "year": ""},
    }
    (tmp_path / "toys.inter").write_text(header.replace(":token", "", 1) + body, "utf-8")
    with pytest.raises(InputError, match=r"line 1: column 'user_id' has no type; expected NAME:T"):
        rows(read)
    (tmp_path / "toys.inter").write_text(header.replace("user_id", "who") + body, "utf-8")
    with pytest.raises(InputError, match=r"no column 'user_id'; .* set source\.user"):
        rows(read)


def test_recbole_that_is_split_already(tmp_path) -> None:
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    for ending, row in zip(("train", "valid", "test"), LOG, strict=True):
        text = header + "\t".join(map(str, row)) + "\n"
        (tmp_path / f"toys.{ending}.inter").write_text(text, "utf-8")
    read = source("recbole", path=tmp_path)
    assert rows(read) == LOG
    raw = read.interactions()
    assert raw.splits.tolist() == [0, 1, 2]
    assert raw.steps[0].name == "read toys.train.inter, toys.valid.inter, toys.test.inter"
    assert [path.name for path in read.interactions_recipe().files.values()] == [
        "toys.train.inter", "toys.valid.inter", "toys.test.inter"
    ]  # fmt: skip

    # A whole file beside them is the dataset, unless the split ones are asked for.
    (tmp_path / "toys.inter").write_text(header + "u9\ti9\t1\t1\n", "utf-8")
    assert rows(source("recbole", path=tmp_path)) == [("u9", "i9", 1, 1)]
    assert rows(source("recbole", path=tmp_path, splits=["train", "valid", "test"])) == LOG
    # What was found is kept, and found again.
    assert rows(source("recbole", **read.parameters.model_dump())) == LOG

    for name in ("toys.inter", "toys.valid.inter"):
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match=r"found several \(toys\.test, toys\.train\)"):
        source("recbole", path=tmp_path)
    with pytest.raises(InputError, match=r"expected one NAME\.train\.inter, found none"):
        source("recbole", path=tmp_path, splits=["train", "valid", "test"])
    with pytest.raises(InputError, match="expected three different endings"):
        source("recbole", path=tmp_path, splits=["train", "train", "test"])


def test_movielens_100k(tmp_path) -> None:
    (tmp_path / "u.data").write_text("1\t1\t5\t10\n2\t1\t3\t20\n", "utf-8")
    flags = ["0"] * 19
    flags[3] = flags[4] = "1"
    line = "|".join(["1", "Amélie (2001)", "01-Jan-2001", "", "http://x", *flags])
    (tmp_path / "u.item").write_bytes((line + "\n").encode("latin-1"))
    read = source("movielens", path=tmp_path)
    assert rows(read) == [("1", "1", 5, 10), ("2", "1", 3, 20)]
    assert records(read, "title", "year", "genres") == {
        "1": {"title": "Amélie", "year": "2001", "genres": ["Animation", "Children's"]}
    }


def test_movielens_1m(tmp_path) -> None:
    (tmp_path / "ratings.dat").write_text("1::1::5::10\n2::1::3::20\n", "utf-8")
    (tmp_path / "movies.dat").write_bytes("1::Léon: The (1994)::Crime|Drama\n".encode("latin-1"))
    read = source("movielens", path=tmp_path)
    assert rows(read) == [("1", "1", 5, 10), ("2", "1", 3, 20)]
    assert records(read, "title", "year", "genres") == {
        "1": {"title": "Léon: The", "year": "1994", "genres": ["Crime", "Drama"]}
    }


def test_movielens_25m(tmp_path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,4.5,10\n", "utf-8")
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n1,"American President, The (1995)",Comedy|Drama\n', "utf-8"
    )
    read = source("movielens", path=tmp_path)
    assert rows(read) == [("1", "1", 4.5, 10)]
    assert records(read, "title") == {"1": {"title": "American President, The"}}


def test_microlens(tmp_path) -> None:
    (tmp_path / "pairs.csv").write_text(
        "user,item,timestamp\nu1,i1,1500000000123\nu2,i1,1500000010000\n", "utf-8"
    )
    (tmp_path / "titles.csv").write_text('i1,"A, b"\ni2,c\n', "utf-8")
    read = source("microlens", pairs=tmp_path / "pairs.csv", titles=tmp_path / "titles.csv")
    assert rows(read) == [("u1", "i1", None, 1500000000), ("u2", "i1", None, 1500000010)]
    assert records(read, "title") == {"i1": {"title": "A, b"}, "i2": {"title": "c"}}
    (tmp_path / "titles.csv").write_text("item,title\ni1,x\n", "utf-8")
    assert records(read, "title") == {"i1": {"title": "x"}}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_plain_tables(tmp_path, kind: str) -> None:
    users, items, ratings, times = zip(*LOG, strict=True)
    names = pa.array(users).cast(pa.string_view()) if kind == "parquet" else users
    log = pa.table({"when": times, "who": names, "what": items, "stars": ratings})
    catalogue = pa.table({"what": ["i1", "i2"], "tags": ["a|b", "c"]})
    for name, table in (("log", log), ("items", catalogue)):
        if kind == "csv":
            pyarrow.csv.write_csv(table, tmp_path / f"{name}.csv")
        else:
            pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet")
    read = source(
        "table",
        interactions=tmp_path / f"log.{kind}",
        items=tmp_path / f"items.{kind}",
        user="who",
        item="what",
        rating="stars",
        timestamp="when",
        list_separator="|",
    )
    assert rows(read) == LOG
    assert records(read, "tags") == {"i1": {"tags": ["a", "b"]}, "i2": {"tags": "c"}}
    wrong = source("table", interactions=tmp_path / f"log.{kind}", user="usr", item="what")
    with pytest.raises(InputError, match=re.escape("no column 'usr'")):
        rows(wrong)
    wrong = source("table", interactions=tmp_path / f"log.{kind}", user="who", item="who")
    with pytest.raises(InputError, match="column 'who' is named as user and as item"):
        rows(wrong)


def test_a_separator_that_yaml_takes_for_an_empty_text_is_refused() -> None:
    content = (
        "name: a\nsource:\n  kind: table\n  interactions: log.csv\n  list_separator: |\n"
        "steps: [reindex]\n"
    )
    document = parse_document(content, "file.yaml")
    with pytest.raises(InputError, match=r"file\.yaml:5.*list_separator"):
        validate_pipeline(document.validate(PipelineConfig), document)


NOON = datetime.datetime(2020, 1, 1, 12)
SECONDS = 1577880000
DAY = datetime.date(2020, 1, 1)


@pytest.mark.parametrize("unit", PER_SECOND)
@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (pa.array([NOON], pa.timestamp("us")), SECONDS),
        (pa.array([NOON], pa.timestamp("ns", "UTC")), SECONDS),
        (pa.array([NOON], pa.timestamp("s")), SECONDS),
        (pa.array([DAY], pa.date32()), SECONDS - 12 * 3600),
        (pa.array([DAY], pa.date64()), SECONDS - 12 * 3600),
    ],
)
def test_times_that_parquet_knows_for_times_are_read(tmp_path, times, expected, unit) -> None:
    path = tmp_path / "log.parquet"
    table = pa.table({"user": ["a"], "item": ["b"], "time": times})
    pyarrow.parquet.write_table(table, path)
    read = source("table", interactions=path, timestamp="time", timestamp_unit=unit)
    assert rows(read) == [("a", "b", None, expected)]


def test_whole_numbers_are_called_the_same_whatever_their_type_in_parquet(tmp_path) -> None:
    path = tmp_path / "log.parquet"
    for kind in (pa.int8(), pa.uint64(), pa.float32(), pa.float64()):
        table = pa.table(
            {"user": pa.array([7, 8], kind), "item": pa.array(["a", "b"]).dictionary_encode()}
        )
        pyarrow.parquet.write_table(table, path)
        assert [row[:2] for row in rows(source("table", interactions=path))] == [
            ("7", "a"),
            ("8", "b"),
        ]
    table = {
        "user": [2.0**53 - 1, -1.0],
        "item": ["a", "b"],
        "rating": pa.array([2**64 - 1, 1], pa.uint64()),
    }
    pyarrow.parquet.write_table(pa.table(table), path)
    read = rows(source("table", interactions=path, rating="rating"))
    assert [row[:3] for row in read] == [("9007199254740991", "a", 2.0**64), ("-1", "b", 1.0)]


def not_text() -> pa.Array:
    """One value of a column of text that is none."""
    ends = pa.array([0, 1], pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(b"\xff")])


NO_COLUMNS = {
    "lists": ({"user": [["a"]]}, "column 'user' is list<element: string>, expected text or whole"),
    "dates": ({"user": [DAY]}, "column 'user' is date32[day], expected text or whole numbers"),
    "truth values": ({"item": [True]}, "column 'item' is bool, expected text or whole numbers"),
    "NaN": ({"user": [np.nan]}, "row 0: user is nan, expected text or a whole number"),
    "fractions": ({"item": [1.5]}, "row 0: item is 1.5, expected text or a whole number"),
    "beyond whole numbers": ({"user": [1e300]}, "row 0: user is 1e+300, where floats pass over"),
    "where two ids are one float": (
        {"item": [2.0**53]}, "row 0: item is 9007199254740992.0, where floats pass over whole num"
        "bers; write such ids as text"
    ),
    "no text": ({"user": not_text()}, "column 'user' holds text that is not UTF-8"),
    "nothing": ({"user": pa.array([None], pa.string())}, "row 0: user is missing"),
    "a rating as a list": ({"rating": [[1.0]]}, "column 'rating' is list<element: double>, "),
    "a rating as a time": ({"rating": [NOON]}, "column 'rating' is timestamp[us], expected n"),
    "a time as a duration": (
        {"time": [datetime.timedelta(1)]},
        "column 'time' is duration[us], expected numbers of seconds since 1970, timestamps or",
    ),
    "a time that is none": (
        {"time": pa.array([None], pa.timestamp("us"))}, "row 0: time is missing"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "message"), NO_COLUMNS.values(), ids=NO_COLUMNS)
def test_a_parquet_column_of_another_type_is_refused(tmp_path, columns, message) -> None:
    path = tmp_path / "log.parquet"
    table = {"user": ["a"], "item": ["b"], "rating": [1.0], "time": [1], **columns}
    pyarrow.parquet.write_table(pa.table(table), path)
    with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
        rows(source("table", interactions=path, rating="rating", timestamp="time"))


def test_parquet_that_cannot_be_a_log_is_refused(tmp_path) -> None:
    path = tmp_path / "log.parquet"
    empty = pa.table({"user": pa.array([], pa.string()), "item": pa.array([], pa.string())})
    pyarrow.parquet.write_table(empty, path)
    with pytest.raises(InputError, match=r"log\.parquet: holds no record"):
        rows(source("table", interactions=path))
    twice = pa.Table.from_arrays([pa.array(["a"])] * 3, ["user", "user", "item"])
    pyarrow.parquet.write_table(twice, path)
    with pytest.raises(InputError, match=r"log\.parquet: has two columns 'user'"):
        rows(source("table", interactions=path))
    path.write_bytes(b"no Parquet at all")
    with pytest.raises(InputError, match=r"log\.parquet: cannot be read as Parquet: "):
        rows(source("table", interactions=path))


def test_keys_of_items_in_parquet_are_text_or_whole_numbers(tmp_path) -> None:
    (tmp_path / "log.csv").write_text("user,item\na,1\n", "utf-8")
    path = tmp_path / "items.parquet"
    pyarrow.parquet.write_table(pa.table({"item": [1.0, 2.0], "tags": ["x", "y"]}), path)
    read = source("table", interactions=tmp_path / "log.csv", items=path)
    assert records(read, "tags") == {"1": {"tags": "x"}, "2": {"tags": "y"}}
    pyarrow.parquet.write_table(pa.table({"item": [["1"]], "tags": ["x"]}), path)
    with pytest.raises(InputError, match=r"column 'item' is list<element: string>, expected text"):
        records(read, "tags")
    pyarrow.parquet.write_table(pa.table({"item": ["1"], "tags": not_text()}), path)
    with pytest.raises(InputError, match=r"items\.parquet: cannot be read as Parquet: .*byte 0xff"):
        records(read, "tags")


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("recbole", "user_id:token\titem_id:token\ttimestamp:float\nu\ti\t{}\n"),
        ("movielens", "userId,movieId,rating,timestamp\nu,i,1,{}\n"),
    ],
)
@pytest.mark.parametrize("unit", PER_SECOND)
def test_every_log_can_have_any_unit_and_no_other_is_taken_for_it(
    tmp_path, kind: str, content: str, unit: str
) -> None:
    scale = PER_SECOND[unit]
    path = tmp_path / {"recbole": "x.inter", "movielens": "ratings.csv"}[kind]
    path.write_text(content.format(1_600_000_000 * scale))
    for other in set(PER_SECOND) - {unit}:
        with pytest.raises(InputError, match=rf"set source\.timestamp_unit: {unit}$"):
            rows(source(kind, path=tmp_path, timestamp_unit=other))
    ((*_, time),) = rows(source(kind, path=tmp_path, timestamp_unit=unit))
    assert time == 1_600_000_000
    path.write_text(content.format(10**20))
    with pytest.raises(InputError, match=r"line 2: timestamp(:float)? is "):
        rows(source(kind, path=tmp_path, timestamp_unit=unit))


@pytest.mark.parametrize("name", ["nan", "NaN", "None", "NULL", "NA", " "])
@pytest.mark.parametrize("column", ["user", "item"])
def test_what_is_called_like_a_missing_value_is_refused_or_meant(
    tmp_path, name: str, column: str
) -> None:
    path = tmp_path / "log.csv"
    pairs = [("a", "b"), ("a", name), ("c", name)]
    lines = pairs if column == "item" else [pair[::-1] for pair in pairs]
    path.write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in lines), "utf-8")
    told = f"{path}: {column} is {name!r} in 2 rows, as programs write that there is none; take"
    with pytest.raises(InputError, match=re.escape(told)):
        rows(source("table", interactions=path))
    kept = source("table", interactions=path, missing_ids="keep")
    assert [row[:2] for row in rows(kept)] == lines
    # Data that was prepared as names is not what is asked for otherwise.
    refusing = source("table", interactions=path)
    assert kept.interactions_recipe() != refusing.interactions_recipe()


@pytest.mark.parametrize("kind", ["recbole", "movielens", "mmrec"])
def test_a_file_in_place_of_the_folder_is_said(tmp_path, kind: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MgstudyError, match=re.escape(str(tmp_path / "file"))):
        source(kind, path=tmp_path / "file").interactions_recipe()


def test_a_parquet_row_that_is_wrong_is_named(tmp_path) -> None:
    path = tmp_path / "log.parquet"
    table = pa.table({"user": ["a", "b"], "item": ["c", "d"], "rating": [1.0, np.nan]})
    pyarrow.parquet.write_table(table, path)
    with pytest.raises(InputError, match=re.escape(f"{path}: row 1: rating is nan")):
        rows(source("table", interactions=path, rating="rating"))


def test_malformed_lines_are_recorded_in_the_first_step(tmp_path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item\n" + "a,b\n" * 9 + "c\n", "utf-8")
    raw = source("table", interactions=path, malformed_share=0.1).interactions()
    (step,) = raw.steps
    assert (step.rows_in, step.rows_out, step.counts) == (10, 9, {"malformed lines": 1})
