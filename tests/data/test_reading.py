"""Blocks of lines, compressed or not, and records with line numbers."""

import gzip
import json
import os
import re

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from mgstudy.data import reading
from mgstudy.data.delimited import Dialect, read_delimited
from mgstudy.data.reading import Malformed, line_blocks
from mgstudy.data.records import (
    Column,
    read_item_records,
    read_json_lines,
)
from mgstudy.data.sources.binary import parquet_tables
from mgstudy.errors import InputError
from mgstudy.files import no_progress

COLUMNS = {
    "user": Column(),
    "stars": Column(pa.float64()),
    "time": Column(pa.int64(), unit="seconds"),
}
GOOD = {"user": "a", "stars": 4.0, "time": 10, "text": "left out", "nested": {"x": [1]}}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch) -> None:
    monkeypatch.setattr("mgstudy.data.reading.BLOCK_BYTES", 1 << 10)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
def test_blocks_hold_whole_lines_whatever_the_compression(tmp_path, compress) -> None:
    lines = [b"x" * (number % 400) for number in range(500)] + [b"y" * 5000, b"last"]
    path = tmp_path / "file"
    path.write_bytes(compress(b"\xef\xbb\xbf" + b"\n".join(lines)))
    told = []
    blocks = list(line_blocks(path, lambda *call: told.append(call)))
    assert b"".join(block.content for block in blocks) == b"\n".join(lines) + b"\n"
    read = {number: line for block in blocks for number, line in block.lines()}
    assert read == {number: line for number, line in enumerate(lines, start=1) if line}
    assert len(blocks) > 20
    assert told[-1] == ("read file", path.stat().st_size, path.stat().st_size)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_compressed_file_that_is_cut_short_is_said(tmp_path, compress) -> None:
    path = tmp_path / "cut.gz"
    content = json.dumps([str(hash(str(i))) for i in range(3000)]).encode() + b"\n"
    path.write_bytes(compress(content)[:-200])
    with pytest.raises(InputError, match=re.escape(f"{path}: ")):
        blocks = list(line_blocks(path, no_progress))
        assert b"".join(block.content for block in blocks) == content


def json_file(path, records):
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_json_lines_are_read_whole_in_order(tmp_path) -> None:
    records = [{**GOOD, "user": f"ü{number}", "time": number} for number in range(300)]
    path = json_file(tmp_path / "a.json", records)
    table = pa.concat_tables(read_json_lines(Malformed(path, 0), COLUMNS, no_progress))
    assert table.to_pylist() == [{name: record[name] for name in COLUMNS} for record in records]


FAULTS = {
    "not JSON": ('{"user": "a", "stars": 4.0, "time"', "not JSON: "),
    "a list": ("[1]", "not a JSON object"),
    "a word for a number": ({**GOOD, "stars": "four"}, "stars is 'four', expected a number"),
    "a number for a word": ({**GOOD, "user": 3}, "user is 3, expected text"),
    "nothing": ({"user": "a", "stars": 4.0}, "time is missing"),
    "empty": ({**GOOD, "user": ""}, "user is missing"),
    "null": ({**GOOD, "stars": None}, "stars is missing"),
    "NaN": ('{"user": "a", "stars": NaN, "time": 1}', "stars is nan, expected a finite number"),
    "a part of a second": ({**GOOD, "time": 1.5}, "time is 1.5, expected a whole number"),
    "milliseconds": ({**GOOD, "time": 1369699200000}, "looks like milliseconds, not seconds"),
    "microseconds": ({**GOOD, "time": 1369699200000000}, "looks like microseconds, not seconds"),
    "beyond 64 bits": ({**GOOD, "time": 2**63}, "looks like no time in seconds"),
    "400 digits": (
        {**GOOD, "stars": 10**400},
        "stars is 10000000000000000000000000000000000000000000000000000"
        "0000000..., expected a number below 1.8e308",
    ),
    "5,000 digits": ('{"user": "a", "stars": ' + "1" * 5000 + "}", "not JSON: Exceeds the limit"),
    "half of a pair": (
        '{"user": "a\\ud800", "stars": 1.0, "time": 1}',
        "user is 'a\\ud800', which is not valid text",
    ),
    "before 1970": ({**GOOD, "time": -1}, "looks like no time in seconds"),
}


@pytest.mark.parametrize(("bad", "message"), FAULTS.values(), ids=FAULTS)
def test_a_malformed_json_line_is_named_or_counted(tmp_path, bad, message) -> None:
    records = [{**GOOD, "time": number} for number in range(99)]
    path = json_file(tmp_path / "a.json", [*records[:50], bad, *records[50:]])
    with pytest.raises(InputError, match=re.escape(f"{path}: line 51: ")) as caught:
        list(read_json_lines(Malformed(path, 0), COLUMNS, no_progress))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)

    malformed = Malformed(path, 0.02)
    table = pa.concat_tables(read_json_lines(malformed, COLUMNS, no_progress))
    assert table["time"].to_pylist() == list(range(99))
    assert malformed.count == 1


SURROGATES = b"\xed\xa0\xbd\xed\xb8\x80"
"""A face in CESU-8, as some databases write it."""


@pytest.mark.parametrize(
    ("user", "message"),
    [(b"U\xff", "not JSON: 'utf-8' codec"), (SURROGATES, "which is not valid text")],
)
def test_a_json_line_that_is_not_utf_8_is_named_or_counted(tmp_path, user, message) -> None:
    path = tmp_path / "a.json"
    good = json.dumps(GOOD).encode()
    path.write_bytes(b"\n".join([good, good.replace(b'"a"', b'"' + user + b'"'), good]))
    with pytest.raises(InputError, match=rf"line 2: .*{message}"):
        list(read_json_lines(Malformed(path, 0), COLUMNS, no_progress))
    malformed = Malformed(path, 0.5)
    table = pa.concat_tables(read_json_lines(malformed, COLUMNS, no_progress))
    assert (table.num_rows, malformed.count) == (2, 1)


@pytest.mark.parametrize("stars", [2**53 + 1, 10**20, 10**300])
def test_whole_numbers_of_many_digits_are_read_beside_a_malformed_line(tmp_path, stars) -> None:
    path = json_file(tmp_path / "a.json", [{**GOOD, "stars": stars}, "{"])
    table = pa.concat_tables(read_json_lines(Malformed(path, 0.5), COLUMNS, no_progress))
    assert table["stars"].to_pylist() == [float(stars)]


def test_the_share_of_malformed_lines_is_not_advised_where_another_setting_mends_all(
    tmp_path,
) -> None:
    path = json_file(tmp_path / "a.json", [{**GOOD, "time": 1369699200000}])
    with pytest.raises(InputError, match=r"set source\.timestamp_unit: milliseconds$"):
        list(read_json_lines(Malformed(path, 0), COLUMNS, no_progress))


def test_more_malformed_lines_than_declared_stop_the_reading(tmp_path) -> None:
    path = json_file(tmp_path / "a.json", [GOOD, "{", GOOD, "{", GOOD, GOOD, GOOD, GOOD])
    message = "line 2: not JSON.*; 2 of 8 lines are malformed, more than the share of 0.2"
    with pytest.raises(InputError, match=message):
        list(read_json_lines(Malformed(path, 0.2), COLUMNS, no_progress))


def test_delimited_text_is_read_by_the_names_of_its_columns(tmp_path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('time,text,stars,user\r\n1,"a, b",2.5,u\r\n2,c,3,"v ""w"""\r\n', "utf-8")
    table = pa.concat_tables(read_delimited(Malformed(path, 0), COLUMNS, Dialect(","), no_progress))
    assert table.to_pylist() == [
        {"user": "u", "stars": 2.5, "time": 1},
        {"user": 'v "w"', "stars": 3.0, "time": 2},
    ]


@pytest.mark.parametrize(
    ("lines", "bad", "left"),
    [
        ('5\t"Heroes\n6\tLow\n7\tLodger\n', 2, ["Low", "Lodger"]),
        ('5\t"Heroes\n6\tLow"\n7\tLodger\n', 2, ['Low"', "Lodger"]),
        ('5\tHeroes\n6\tLow\n7\t"Lodger\n', 4, ["Heroes", "Low"]),
        ('5\tHeroes\n6\t"Low""\r\n7\t"Lodger"\r\n', 3, ["Heroes", "Lodger"]),
    ],
)
def test_a_quote_that_is_not_closed_swallows_no_lines(tmp_path, lines, bad, left) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(f"item\ttitle\n{lines}", "utf-8", newline="")
    columns = {"item": Column(), "title": Column()}
    with pytest.raises(InputError, match=f"line {bad}: .*a quote that is not closed"):
        list(read_delimited(Malformed(path, 0), columns, Dialect("\t"), no_progress))
    malformed = Malformed(path, 0.5)
    (table,) = read_delimited(malformed, columns, Dialect("\t"), no_progress)
    assert (table["title"].to_pylist(), malformed.count) == (left, 1)


def test_a_quote_inside_a_field_is_one(tmp_path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('item\ttitle\n1\t12" vinyl\n\n2\t"so-called" x\n', "utf-8")
    columns = {"title": Column()}
    tables = read_delimited(Malformed(path, 0), columns, Dialect("\t"), no_progress)
    assert pa.concat_tables(tables)["title"].to_pylist() == ['12" vinyl', "so-called x"]


def test_a_delimiter_that_is_not_one_byte_stays_one_inside_quotes(tmp_path) -> None:
    path, columns = tmp_path / "a.csv", {"item": Column(), "title": Column()}
    path.write_text('itemétitle\n1é"aéb"\n', "utf-8")
    (table,) = read_delimited(Malformed(path, 0), columns, Dialect("é"), no_progress)
    assert table["title"].to_pylist() == ["aéb"]
    path.write_text('item::title\n1::"a::b"\n', "utf-8")
    with pytest.raises(InputError, match="line 2: has 3 fields, expected 2"):
        list(read_delimited(Malformed(path, 0), columns, Dialect("::"), no_progress))


def test_a_long_field_in_quotes_is_read_beside_a_malformed_line(tmp_path) -> None:
    path, long = tmp_path / "a.csv", "x" * 200_000
    path.write_text(f'user,stars,time,text\nu,1,1,"{long}"\nv,2,2\nw,3,3,y\n', "utf-8")
    columns = {**COLUMNS, "text": Column()}
    tables = read_delimited(Malformed(path, 0.5), columns, Dialect(","), no_progress)
    assert pa.concat_tables(tables)["text"].to_pylist() == [long, "y"]


def test_a_delimiter_of_two_characters_and_another_encoding(tmp_path) -> None:
    path = tmp_path / "ratings.dat"
    path.write_bytes("1::Amélie::3\n2::Das Boot::4\n".encode("latin-1"))
    columns = {"title": Column(), "time": Column(pa.int64())}
    dialect = Dialect("::", ("id", "title", "time"), "latin-1", quoted=False)
    tables = read_delimited(Malformed(path, 0), columns, dialect, no_progress)
    assert pa.concat_tables(tables)["title"].to_pylist() == ["Amélie", "Das Boot"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,4", "line 3: has 2 fields, expected 3"),
        ("a,many,1", "line 3: stars is 'many', expected a number"),
        ("a,,1", "line 3: stars is missing"),
        ("a,inf,1", "line 3: stars is inf, expected a finite number"),
        (",4,1", "line 3: user is missing"),
        ("a,4,1.5", "line 3: time is '1.5', expected a number"),
        ("a,4,0x3", "line 3: time is '0x3', expected a number"),
        ("a,4,0X3", "line 3: time is '0X3', expected a number"),
        ("a,4,-0x3", "line 3: time is '-0x3', expected a number"),
        ("a,4,1_0", "line 3: time is '1_0', expected a number"),
        ("a,4_0,1", "line 3: stars is '4_0', expected a number"),
        ('"a"\rb,4,1', "line 3: a carriage return where none can be, or a quote that"),
    ],
)
def test_a_malformed_delimited_line_is_named(tmp_path, line: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"user,stars,time\nb,1,1\n{line}\nc,1,1\n", "utf-8")
    with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
        list(read_delimited(Malformed(path, 0), COLUMNS, Dialect(","), no_progress))


def test_a_missing_column_is_named_with_those_there_are(tmp_path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user,stars\na,1\n", "utf-8")
    with pytest.raises(InputError, match=r"line 1: no column 'time'; the header has 'user', 'sta"):
        list(read_delimited(Malformed(path, 0), COLUMNS, Dialect(","), no_progress))


HEADERS = {
    "twice": ("user,stars,user,time\na,1,b,1\n", "line 1: has two columns 'user'"),
    "carriage returns alone": (
        "user,stars,time\ra,1,1\rb,1,1\r", "line 1: ends in a carriage return alone"
    ),
    "endless": (
        f"{'x' * 300},user\na,1\n", f"no column 'stars'; the header has '{'x' * 199}..., split at"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), HEADERS.values(), ids=HEADERS)
def test_a_header_that_cannot_be_right_is_refused(tmp_path, content, message) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode())
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        list(read_delimited(Malformed(path, 0), COLUMNS, Dialect(","), no_progress))
    assert "\r" not in str(caught.value)


@pytest.mark.parametrize("delimiter", ["é", "::", "\t"])
def test_text_with_hexadecimal_digits_in_other_columns_is_read(tmp_path, delimiter) -> None:
    path = tmp_path / "a.csv"
    rows = [["user", "stars", "time"], ["0x3", "1", "7"]]
    path.write_text("\n".join(map(delimiter.join, rows)), "utf-8")
    tables = read_delimited(Malformed(path, 0), COLUMNS, Dialect(delimiter), no_progress)
    assert pa.concat_tables(tables).to_pylist() == [{"user": "0x3", "stars": 1.0, "time": 7}]


def test_a_line_without_end_is_refused_by_a_limit_that_can_be_raised(tmp_path, monkeypatch) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(gzip.compress(bytes(100_000)))
    monkeypatch.setenv("MGSTUDY_LINE_BYTES", "50000")
    with pytest.raises(InputError, match=r"line 1: has more than 50,000 bytes; set \$MGS"):
        list(line_blocks(path, no_progress))
    monkeypatch.setenv("MGSTUDY_LINE_BYTES", "200000")
    assert len(list(line_blocks(path, no_progress))) == 1


def test_a_small_file_that_holds_very_much_is_refused_unless_it_is_allowed(
    tmp_path, monkeypatch
) -> None:
    lines, columns = tmp_path / "lines.gz", tmp_path / "columns.parquet"
    lines.write_bytes(gzip.compress(b"a,b\n" * 100_000))
    table = pa.table({"user": ["u"] * 1_000_000, "item": ["i"] * 1_000_000})
    pyarrow.parquet.write_table(table, columns)
    monkeypatch.setattr(reading, "_SMALL", 1000)
    wanted = {"user": Column(), "item": Column()}
    for path, read in (
        (lines, lambda: list(line_blocks(lines, no_progress))),
        (columns, lambda: list(parquet_tables(columns, wanted))),
    ):
        monkeypatch.delenv("MGSTUDY_BYTES_PER_BYTE", raising=False)
        said = rf"{path}: unpacks to more than 100 times its [\d,]+ bytes; set \$MGSTUDY_BYTES"
        with pytest.raises(InputError, match=said):
            read()
        monkeypatch.setenv("MGSTUDY_BYTES_PER_BYTE", "100000")
        assert read()


def test_a_pipe_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(InputError, match="is a pipe, socket or device, expected a file"):
        list(line_blocks(tmp_path / "a.json", no_progress))


def test_an_odd_escape_in_a_python_literal_is_no_news(tmp_path, recwarn) -> None:
    path = tmp_path / "meta.json"
    path.write_text(r"{'asin': 'B1', 'title': '\d'}" + "\n", "utf-8")
    ((_, _, record),) = read_item_records(Malformed(path, 0), "asin", {"B1"}, no_progress)
    assert (record["title"], list(recwarn)) == (r"\d", [])


def test_a_python_literal_has_a_limit_of_its_own(tmp_path, monkeypatch) -> None:
    path = tmp_path / "meta.json"
    path.write_text("{'asin': 'B1', 'title': 'a long one'}\n", "utf-8")
    monkeypatch.setenv("MGSTUDY_LITERAL_BYTES", "20")
    with pytest.raises(InputError, match=r"line 1: not JSON, and as a Python literal has more"):
        list(read_item_records(Malformed(path, 0), "asin", {"B1"}, no_progress))


@pytest.mark.parametrize(("begin", "end"), [('{"a": ', "}"), ("[", "]")])
def test_a_record_that_is_nested_deeply_is_malformed(tmp_path, monkeypatch, begin, end) -> None:
    path = tmp_path / "meta.json"
    path.write_text('{"asin": "B1", "a": ' + begin * 200 + "1" + end * 200 + "}\n", "utf-8")
    with pytest.raises(InputError, match=r"line 1: is nested in more than 100 levels; set \$MG"):
        list(read_item_records(Malformed(path, 0), "asin", {"B1"}, no_progress))
    monkeypatch.setenv("MGSTUDY_RECORD_DEPTH", "201")
    assert len(list(read_item_records(Malformed(path, 0), "asin", {"B1"}, no_progress))) == 1


def test_a_file_without_records_is_refused(tmp_path) -> None:
    (tmp_path / "a.json").touch()
    with pytest.raises(InputError, match=r"a\.json: holds no record"):
        list(read_json_lines(Malformed(tmp_path / "a.json", 0), COLUMNS, no_progress))


def test_item_records_are_json_or_python_literals_and_nothing_is_evaluated(tmp_path) -> None:
    path = tmp_path / "meta.json"
    path.write_text(
        "{'asin': 'B1', 'title': \"Bob's\", 'categories': [['Baby', 'Toys']]}\n"
        "{'asin': 'B9', 'title': 'not wanted'}\n"
        '{"asin": "B2", "title": null}\n'
        "{'asin': 'B3', 'price': 9.5}\n",
        "utf-8",
    )
    found = list(read_item_records(Malformed(path, 0), "asin", {"B1", "B2", "B3"}, no_progress))
    assert [(line, key) for line, key, _ in found] == [(1, "B1"), (3, "B2"), (4, "B3")]
    assert found[0][2]["title"] == "Bob's"
    assert found[0][2]["categories"] == [["Baby", "Toys"]]

    path.write_text('{"asin": "B1", "title": "\\ud800"}\n', "utf-8")
    with pytest.raises(InputError, match="line 1: holds half of a surrogate pair"):
        list(read_item_records(Malformed(path, 0), "asin", {"B1"}, no_progress))

    path.write_text("{'asin': 'B1', 'title': '\\U0000d800'}\n", "utf-8")
    with pytest.raises(InputError, match="line 1: holds half of a surrogate pair"):
        list(read_item_records(Malformed(path, 0), "asin", {"B1"}, no_progress))
    path.write_bytes(b'{"asin": "B1", "title": "' + SURROGATES + b'"}\n')
    with pytest.raises(InputError, match="line 1: holds half of a surrogate pair"):
        list(read_item_records(Malformed(path, 0), "asin", {"B1"}, no_progress))

    path.write_text("{'asin': 'B1'}\n{'asin': __import__('os').getcwd()}\n", "utf-8")
    message = "line 2: neither JSON nor a Python literal"
    with pytest.raises(InputError, match=message):
        list(read_item_records(Malformed(path, 0), "asin", {"B1"}, no_progress))
