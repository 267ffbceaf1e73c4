from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgstudy.config.document import load_document, parse_document
from mgstudy.config.reading import yaml_text
from mgstudy.errors import InputError


def refused(text: str) -> str:
    """What is said about a text that is not read, in one line."""
    with pytest.raises(InputError) as caught:
        parse_document(text, "t.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "t.yaml: the file is empty"),
        ("# nothing\n", "t.yaml: the file is empty"),
        ("- a\n- b", "t.yaml:1: expected `key: value` lines, got a list"),
        ("oak", "t.yaml:1: expected `key: value` lines, got a text"),
        ("name: a\nbranch:\n  x: 1\n  x: 2", "t.yaml:4: branch.x: given twice; keep one"),
        ("name: a\n3: b", "t.yaml:2: key 3 is a number, expected text; put it in quotes"),
        ("name: a\ntrue: b", "t.yaml:2: key True is a true/false value, expected text"),
        ("name: a\n  bad: b", "t.yaml:2: not valid YAML: mapping values are not allowed here"),
        ("name: [a, b\nx: 1", "t.yaml:2: not valid YAML"),
        ("name: *nowhere", "t.yaml:1: not valid YAML: found undefined alias"),
        ("name: !!python/object:os.system x", "t.yaml:1: name: the tag !!python/object:os.system"),
        ("name: a\nx: \x07", "t.yaml:2: not valid YAML: unacceptable character"),
        ("a: 1\n--- \nb: 2", "t.yaml:2: not valid YAML: but found another document"),
        ("? [a]\n: b", "t.yaml:1: a key is a sequence, expected text"),
        ("a: !!set {b}", "t.yaml:1: a: the tag !!set is unknown"),
        ("a: !mine 3", "t.yaml:1: a: the tag !mine is unknown"),
        ("%YAML 1.1\n---\na: no", "t.yaml:1: '%YAML 1.1': only YAML 1.2 is read"),
        ("a: {<<: {b: 1}, c: {<<: {d: 1, d: 2}}}", "t.yaml:1: a.c.<<.d: given twice"),
        (
            "name: &a [*a]",
            "t.yaml:1: name: nested too deeply, or an alias inside its own anchor (mo",
        ),
    ],
)
def test_what_is_no_mapping_of_names_is_refused_with_its_line(text: str, said: str) -> None:
    assert refused(text).startswith(said)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-2E5", -200000.0),
        ("1.5e-3", 0.0015),
        ("5", 5),
        ("'1e-3'", "1e-3"),
        ("1e", "1e"),
        ("1.2.3", "1.2.3"),
        ("e3", "e3"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1:30", "1:30"),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("N", "N"),
        ("=", "="),
        ("<<", "<<"),
        ("~", None),
        ("!!str 3", "3"),
        ("null", None),
    ],
)
def test_plain_values_are_what_yaml_1_2_says(text: str, value: object) -> None:
    for read in (
        parse_document(f"a: {text}", "t.yaml").data["a"],
        parse_document(f"a: [{text}]", "t.yaml").data["a"][0],
    ):
        assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("2024-02-30", "'2024-02-30' is not a date"),
        ("2023-13-01", "'2023-13-01' is not a date"),
        ("0000-01-01", "'0000-01-01' is not a date"),
        ("2024-01-01 25:00:00", "'2024-01-01 25:00:00' is not a date"),
        ("2024-02-29", "'2024-02-29' is a date, which nothing takes here"),
        ("!!timestamp x", "'x' is not a date"),
        ("0x_", "'0x_' is not a whole number"),
        ("0b_", "'0b_' is not a whole number"),
        ("-_", "'-_' is not a whole number"),
        ("!!int ten", "'ten' is not a whole number"),
        ("!!int ''", "'' is not a whole number"),
        (f"1{'0' * 5000}", f"'1{'0' * 56}...' is not a whole number"),
        (f"0x{'f' * 5000}", f"'0x{'f' * 55}...' is a whole number of more than 64 bits"),
        ("!!float ten", "'ten' is not a number"),
        ("._", "'._' is not a number"),
        ("1e999", "'1e999' is not a finite number"),
        ("-.inf", "'-.inf' is not a finite number"),
        (".nan", "'.nan' is not a finite number"),
        ("!!bool maybe", "'maybe' is not `true` or `false`"),
        (r'"a\0"', r"'a\x00' holds a NUL character"),
        (r'"\ud800"', r"'\ud800' is not text in Unicode"),
    ],
)
def test_a_value_that_cannot_be_what_its_form_says_is_refused(value: str, said: str) -> None:
    advice = "put it in quotes if it is text"
    assert refused(f"b: 1\na:\n- {value}") == f"t.yaml:3: a.0: {said}; {advice}"
    assert refused(f"b: 1\n? {value}\n: 1") == f"t.yaml:2: {said}; {advice}"


@pytest.mark.parametrize("escape", ["FFFFFFFF", "00110000"])
def test_an_escape_beyond_unicode_is_named_with_its_line(escape: str) -> None:
    said = refused(f'a: "\\U0010FFFF"\nb: "\\U{escape}"')
    assert said == f"t.yaml:2: not valid YAML: \\U{escape} is no character"


# Limits.


def test_aliases_that_multiply_are_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    said = "t.yaml:5: a4: more than 100,000 values with those that aliases repeat; set "
    assert refused("\n".join(lines)) == f"{said}$MGSTUDY_YAML_VALUES to allow more"
    merges = [line.replace("[", "{<<: [").replace("]", "]}") for line in lines[1:]]
    said = refused("\n".join(["a0: &a0 {x: 1}", *merges]))
    assert "$MGSTUDY_YAML_VALUES" in said


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 101 + "]" * 101,
        "a: " + "{a: " * 101 + "}" * 101,
        "- " * 5000,
        "[" * 300,
        "b: &b {<<: *b}",
        "\n".join(["a0: &a0 {}", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 2000))]),
    ],
)
def test_deep_nesting_is_stopped(text: str) -> None:
    said = (
        r"t\.yaml:\d+: (\w+: )?nested too deeply, .* \(more than 100 levels; set \$MGSTUDY_YAML_D"
    )
    with pytest.raises(InputError, match=said):
        parse_document(text, "t.yaml")


def test_a_limit_is_set_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("a: " + "[" * 101 + "]" * 101)
    monkeypatch.setenv("MGSTUDY_YAML_DEPTH", "102")
    load_document(path)
    monkeypatch.setenv("MGSTUDY_YAML_DEPTH", "100000")
    path.write_text("- " * 2000)
    with pytest.raises(InputError, match=r"t\.yaml: nested too deeply"):
        load_document(path)
    monkeypatch.setenv("MGSTUDY_YAML_BYTES", "204")
    with pytest.raises(InputError, match=r"t\.yaml: more than 204 bytes; set \$MGSTUDY_YAML_BYTES"):
        load_document(path)
    monkeypatch.setenv("MGSTUDY_YAML_BYTES", "many")
    with pytest.raises(
        InputError, match=r"\$MGSTUDY_YAML_BYTES: expected a whole number, got 'many'"
    ):
        load_document(path)


# Files.


def test_a_missing_file_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "tiktok.yaml").touch()
    (tmp_path / "tiktok.txt").touch()
    with pytest.raises(InputError, match=r"tiktk\.yaml: no such file; did you mean .*tiktok\.yaml"):
        load_document(tmp_path / "tiktk.yaml")
    with pytest.raises(InputError, match=r"x\.yaml: no such file$"):
        load_document(tmp_path / "nowhere" / "x.yaml")
    with pytest.raises(InputError, match="is a folder, expected a YAML file"):
        load_document(tmp_path)


def test_what_is_no_file_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero")):
        with pytest.raises(InputError, match="is a pipe or a device, expected a YAML file"):
            load_document(path)
    with pytest.raises(InputError, match=r"cannot be read: .*embedded null"):
        load_document(Path("a\0b"))


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: café".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.yaml: not UTF-8 text \(byte 9\)"):
        load_document(path)
    path.write_bytes("\ufeffname: café".encode())
    assert load_document(path).data == {"name": "café"}


# Merge keys.


def test_merge_keys_merge_as_yaml_says() -> None:
    text = """
first: &first {a: 1, b: 2}
second: &second {b: 3, c: 4}
both:
  <<: [*first, *second]
  a: 0
  d: 5
"""
    document = parse_document(text, "f.yaml")
    assert document.data["both"] == {"a": 0, "b": 2, "c": 4, "d": 5}
    assert document.place(("both", "a")) == "f.yaml:6"
    assert document.place(("both", "c")) == "f.yaml:4"


def test_a_merge_key_takes_mappings_only() -> None:
    with pytest.raises(InputError, match=r"f\.yaml:2: `<<` takes a mapping or a list of mappings"):
        parse_document("a:\n  <<: 3\n", "f.yaml")


# Writing.

# ruamel.yaml writes spaces after the control character NEL, which nobody has in a study.
_TEXT = st.text(st.characters(exclude_characters="\0\x85", exclude_categories=["Cs"]))
_NUMBER = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_DATA = st.recursive(
    st.none() | st.booleans() | _NUMBER | _TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner),
)


@settings(deadline=None, max_examples=25)
@given(st.dictionaries(_TEXT, _DATA, max_size=4))
def test_what_is_written_reads_back(data: dict[str, Any]) -> None:
    assert parse_document(yaml_text(data), "t.yaml").data == data


def test_words_that_look_like_something_else_are_written_in_quotes() -> None:
    data = {"a": ["1e-3", "010", "2024-01-01", "true", "null", "~", "no", "<<", "1.5", ""]}
    assert parse_document(yaml_text(data), "t.yaml").data == data
    text = yaml_text({"b": 1, "a": {"c": [None, True, "é"]}})
    assert text == "b: 1\na:\n  c:\n  - null\n  - true\n  - é\n"
