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


def test_of_many_mistakes_the_first_are_said_and_the_others_counted() -> None:
    said = complaint("numbers: [" + "x, " * 5000 + "]")
    assert [line.partition(": ")[0] for line in said] == ["tree.yaml:1"] * 3
    assert "numbers.2: " in said[2] and said[2].endswith(" (and 4,997 more mistakes)")


@pytest.mark.parametrize("digits", [20, 400, 4000])
def test_a_whole_number_fits_into_64_bits(digits: int) -> None:
    (said,) = complaint(f"numbers:\n- 9223372036854775807\n- -1{'0' * digits}")
    assert said.startswith("tree.yaml:3: numbers.1: '-1000")
    assert " is a whole number of more than 64 bits; " in said


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
        (f"numbers.{'9' * 5000}=3", "--set numbers.99"),
        (
            "a.b.c=&a [*a]",
            "--set a.b.c=&a [*a]: a.b.c: nested too deeply, or an alias inside its own",
        ),
        (f"name={'[' * 300}", "--set name=[[[["),
        ("name=2024-02-30", "--set name=2024-02-30: name: '2024-02-30' is not a date; put it in"),
        ("numbers.x=3", "--set numbers.x=3: 'x' is not a position in a list of 2"),
        ("name={a", "--set name={a: not valid YAML: expected ',' or '}', but got"),
        ("name={a: 1, a: 2}", "--set name={a: 1, a: 2}: name.a: given twice; keep one"),
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
