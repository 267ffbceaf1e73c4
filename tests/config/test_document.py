from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from mgstudy.config.document import Document, load_document, parse_document
from mgstudy.errors import InputError


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Leaf(_Model):
    depth: int = 1
    share: float | dict[str, float] = 0.5


class Branch(_Model):
    leaf: Leaf = Leaf()
    leaves: tuple[Leaf, ...] = ()
    by_name: dict[str, Leaf] = Field(default_factory=dict)
    maybe: Leaf | None = None


class Tree(_Model):
    name: str = "tree"
    branch: Branch = Branch()
    numbers: tuple[int, ...] = ()


def complaint(text: str, overrides: tuple[str, ...] = (), path: Path | None = None) -> list[str]:
    """The lines said about a document that is not a ``Tree``."""
    with pytest.raises(InputError) as caught:
        if path is None:
            parse_document(text, "tree.yaml").validate(Tree)
        else:
            path.write_text(text, "utf-8")
            load_document(path, overrides).validate(Tree)
    return str(caught.value).splitlines()


NESTED = """\
name: oak

branch:
  leaf: {depth: 3}
  leaves:
    - depth: 1
    - {depth: two}
numbers:
  - 1
  - many
"""


def test_every_wrong_value_is_named_with_its_line() -> None:
    assert complaint(NESTED) == [
        "tree.yaml:7: branch.leaves.1.depth: input should be a valid integer, unable to parse "
        "string as an integer, got 'two'",
        "tree.yaml:10: numbers.1: input should be a valid integer, unable to parse string as an "
        "integer, got 'many'",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nmae: oak", "tree.yaml:1: nmae: unknown key; did you mean 'name'?"),
        ("zzz: 1", "tree.yaml:1: zzz: unknown key; known: branch, name, numbers"),
        ("branch:\n  laef: {}", "tree.yaml:2: branch.laef: unknown key; did you mean 'leaf'?"),
        (
            "branch:\n  leaves:\n  - {}\n  - dept: 1",
            "tree.yaml:4: branch.leaves.1.dept: unknown key; did you mean 'depth'?",
        ),
        (
            "branch:\n  by_name:\n    a: {shrae: 1}",
            "tree.yaml:3: branch.by_name.a.shrae: unknown key; did you mean 'share'?",
        ),
        (
            "branch:\n  maybe: {deph: 1}",
            "tree.yaml:2: branch.maybe.deph: unknown key; did you mean 'depth'?",
        ),
    ],
)
def test_an_unknown_key_gets_the_nearest_valid_one_where_it_stands(text: str, said: str) -> None:
    assert complaint(text) == [said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("numbers: 3", "tree.yaml:1: numbers: expected a list, got 3"),
        ("branch: []", "tree.yaml:1: branch: expected a mapping, got []"),
        ("name: a\nnumbers:\n\n  a: 1", "tree.yaml:2: numbers: expected a list, got {'a': 1}"),
        ("name: {a: 1}", "tree.yaml:1: name: input should be a valid string, got {'a': 1}"),
        (f"name: [{'long, ' * 20}]", "tree.yaml:1: name: input should be a valid string, got a li"),
    ],
)
def test_types_are_called_as_in_yaml(text: str, said: str) -> None:
    (line,) = complaint(text)
    assert line.startswith(said)


def test_the_branches_of_a_union_are_no_part_of_a_name() -> None:
    for text in ("branch:\n  leaf:\n    share: [1]", "branch:\n  leaf:\n    share: {a: b}"):
        assert all(
            line.startswith(
                ("tree.yaml:3: branch.leaf.share: ", "tree.yaml:3: branch.leaf.share.a")
            )
            for line in complaint(text)
        )


def test_a_missing_key_is_said_of_its_section() -> None:
    class Wood(_Model):
        kind: str

    class Forest(_Model):
        woods: tuple[Wood, ...]

    with pytest.raises(InputError) as caught:
        parse_document("woods:\n- kind: oak\n- {}", "f.yaml").validate(Forest)
    assert str(caught.value) == "f.yaml:3: woods.1.kind: is missing"
    with pytest.raises(InputError) as caught:
        parse_document("{}", "f.yaml").validate(Forest)
    assert str(caught.value) == "f.yaml:1: woods: is missing"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "t.yaml: the file is empty"),
        ("# nothing\n", "t.yaml: the file is empty"),
        ("- a\n- b", "t.yaml:1: expected `key: value` lines, got a list"),
        ("oak", "t.yaml:1: expected `key: value` lines, got a text"),
        ("name: a\nbranch:\n  x: 1\n  x: 2", "t.yaml:4: branch.x: given twice; keep one"),
        ("name: a\n3: b", "t.yaml:2: key 3 is a number, expected text; put it in quotes"),
        ("name: a\nno: b", "t.yaml:2: key False is a yes/no value, expected text"),
        ("name: a\n  bad: b", "t.yaml:2: not valid YAML: mapping values are not allowed here"),
        ("name: [a, b\nx: 1", "t.yaml:2: not valid YAML"),
        ("name: *nowhere", "t.yaml:1: not valid YAML: found undefined alias"),
        ("name: !!python/object:os.system x", "t.yaml:1: not valid YAML: could not determine"),
        ("name: \x07", "t.yaml: not valid YAML: unacceptable character"),
        ("name: &a [*a]", "t.yaml: nested too deeply"),
    ],
)
def test_what_is_no_mapping_of_names_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_document(text, "t.yaml")
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


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
        ("true", True),
        ("null", None),
    ],
)
def test_exponents_are_numbers_without_a_point_too(text: str, value: object) -> None:
    for read in (
        parse_document(f"a: {text}", "t.yaml").data["a"],
        parse_document(f"a: [{text}]", "t.yaml").data["a"][0],
    ):
        assert (read, type(read)) == (value, type(value))


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


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: café".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.yaml: not UTF-8 text \(byte 9\)"):
        load_document(path)
    path.write_bytes("\ufeffname: café".encode())
    assert load_document(path).data == {"name": "café"}


# --set


def overridden(text: str, *overrides: str, path: Path) -> Document:
    path.write_text(text, "utf-8")
    return load_document(path, overrides)


@pytest.mark.parametrize(
    ("override", "change"),
    [
        ("name=elm", {"name": "elm"}),
        ("new.deep.key=1e-3", {"new": {"deep": {"key": 0.001}}}),
        ("branch.leaf.depth=4", {"branch": {"leaf": {"depth": 4}}}),
        ("numbers.1=7", {"numbers": [1, 7]}),
        ("numbers=[3, 4]", {"numbers": [3, 4]}),
        ("branch={leaves: [{depth: 2}]}", {"branch": {"leaves": [{"depth": 2}]}}),
        ("nothing.here=1", {"nothing": {"here": 1}}),
        ("name=a=b", {"name": "a=b"}),
        ("name=", {"name": None}),
        ("name='7'", {"name": "7"}),
    ],
)
def test_an_override_changes_or_adds_one_value(
    override: str, change: dict[str, Any], tmp_path: Path
) -> None:
    text = "name: oak\nnothing:\nbranch: {leaf: {depth: 3}}\nnumbers: [1, 2]"
    before = parse_document(text, "t").data
    assert overridden(text, override, path=tmp_path / "t.yaml").data == {**before, **change}


def test_later_overrides_see_earlier_ones(tmp_path: Path) -> None:
    document = overridden(
        "name: a", "numbers=[1, 2]", "numbers.0=5", "numbers.1=6", path=tmp_path / "t.yaml"
    )
    assert document.data["numbers"] == [5, 6]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("name", "--set name: expected --set a.b=value"),
        ("=3", "--set =3: expected --set a.b=value"),
        ("a..b=3", "--set a..b=3: expected --set a.b=value"),
        ("name.deep=3", "--set name.deep=3: name is a value, not a mapping"),
        ("numbers.2=3", "--set numbers.2=3: '2' is not a position in a list of 2"),
        ("numbers.x=3", "--set numbers.x=3: 'x' is not a position in a list of 2"),
        ("name={a", "--set name={a: the value is not valid YAML"),
        ("name={a: 1, a: 2}", "--set name={a: 1, a: 2}:1: a: given twice"),
    ],
)
def test_an_override_that_cannot_be_applied_is_refused(
    override: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        overridden("name: oak\nnumbers: [1, 2]", override, path=tmp_path / "t.yaml")
    assert str(caught.value).startswith(said)


def test_a_wrong_override_is_its_own_place(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    said = complaint(NESTED, ("numbers.1=x", "branch.leaves=[{depth: 1}, {dpth: 2}]"), path)
    assert said == [
        "--set branch.leaves=[{depth: 1}, {dpth: 2}]: branch.leaves.1.dpth: unknown key; "
        "did you mean 'depth'?",
        "--set numbers.1=x: numbers.1: input should be a valid integer, unable to parse string "
        "as an integer, got 'x'",
    ]
    # The rest of the list still stands in the file.
    (line,) = complaint("numbers: [1, 2]\nname: {}", ("numbers.0=3",), path)
    assert line.startswith(f"{path}:2: name: ")


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
