"""Pages of the site that are made of the code and of files outside ``docs``: MkDocs calls the
functions here by their names (https://www.mkdocs.org/user-guide/configuration/#hooks)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import mgstudy
from mgstudy import api, cli
from mgstudy.report.console.parts import (
    KINDS,
    parameter_table,
    part_content,
    part_names,
    reach_lines,
)
from mgstudy.report.table import Table

ROOT = Path(__file__).parents[2]
MOVED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Files of the repository that are pages of the site."""
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)]*)?\)")
_IMAGE = re.compile(r"(!\[[^\]]*\]\()docs/")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give every kind of part its page in the navigation."""
    assert config.nav is not None
    (reference,) = (section["Reference"] for section in config.nav if "Reference" in section)
    reference.append({"Parts": [{_title(kind): f"reference/parts/{kind}.md"} for kind in KINDS]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie in no file of ``docs``."""
    pages = {page: (ROOT / source).read_text("utf-8") for source, page in MOVED.items()}
    pages["index.md"] = _IMAGE.sub(r"\1", pages["index.md"])
    study = api.file_schema("study")
    pages["reference/study.md"] = f"{_settings('Study files', study)}\n\n{_of_consequence(study)}"
    pages["reference/pipeline.md"] = _settings("Pipeline files", api.file_schema("pipeline"))
    pages["reference/commands.md"] = _commands()
    pages["reference/library.md"] = _library()
    for kind in KINDS:
        pages[f"reference/parts/{kind}.md"] = _parts(kind)
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to where pages are on the site; what is no page of it is named alone."""
    here = {page: source for source, page in MOVED.items()}
    source = ROOT / here.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    depth = page.file.src_uri.count("/")

    def moved(match: re.Match[str]) -> str:
        if "://" in match["target"] or match["target"].startswith("mailto:"):
            return match[0]
        target = (source.parent / match["target"]).resolve()
        if not target.is_relative_to(ROOT):
            return match[0]
        name = target.relative_to(ROOT).as_posix()
        found = MOVED.get(name) or name.removeprefix("docs/")
        if files.get_file_from_path(found) is None or (name not in MOVED and name == found):
            return f"{match['text']} (`{name}`)" if target.exists() else match[0]
        return f"[{match['text']}]({'../' * depth}{found}{match['anchor'] or ''})"

    generated = page.file.src_uri.startswith("reference/")
    return markdown if generated else _LINK.sub(moved, markdown)


def _title(kind: str) -> str:
    """The name of the page of a kind of part."""
    return f"{_WORDS.get(kind, kind.replace('_', ' '))}s".replace("ys", "ies").capitalize()


_WORDS = {"gradient": "gradient strategy", "robust": "robust method"}


# Settings.


def _settings(title: str, schema: Mapping[str, Any]) -> str:
    """Every field of a kind of file: its default and its meaning, a table for each mapping."""
    definitions = schema["$defs"]
    text = [f"# {title}", schema.get("description", ""), _fields(schema, definitions)]
    for name, definition in sorted(definitions.items()):
        if definition.get("properties"):
            description = definition.get("description", "")
            text += [f"## {name}", _escaped(description), _fields(definition, definitions)]
    return "\n\n".join(text)


OF_CONSEQUENCE = {
    "training.mask_validation_in_test": "It decides what every score on the test split counts. "
    "With the default, tables compare with published ones; with `true`, no score is lower.",
    "training.clip_norm": "It changes every step, and not to the same degree for every gradient "
    "strategy: a difference between strategies may be one of clipping.",
    "start_with_defaults": "It spends the first of a cell's trials. A search of few trials is the "
    "better for it where the authors' setting is good, and its score is no draw of the sampler's.",
    "confirmation.shared": "It decides which test a verdict rests on: of pairs of seeds where they "
    "are shared, of two groups where each cell has its own.",
}
"""Settings whose default is a choice that others make otherwise, and what depends on it."""


def _of_consequence(schema: Mapping[str, Any]) -> str:
    """What changes results, besides what is compared and searched."""
    rows = []
    for path, why in OF_CONSEQUENCE.items():
        field: Mapping[str, Any] = schema
        for name in path.split("."):
            for inner in (field, *field.get("anyOf", ())):
                if "$ref" in inner:
                    field = schema["$defs"][inner["$ref"].rpartition("/")[2]]
            field = field["properties"][name]
        rows.append([f"`{path}`", _default(field), _escaped(f"{field['description']}. {why}")])
    table = Table(["setting", "default", "meaning, and what depends on it"], rows).markdown()
    return (
        "## What changes results\n\n"
        "Levels, spaces, trials and seeds change results, as they should. So do these, quietly; "
        f"say in a publication how they stood.\n\n{table}"
    )


def _fields(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    needed = set(schema.get("required", ()))
    rows = [
        [
            f"`{name}`",
            _kind(field, definitions),
            "needed" if name in needed else _default(field),
            _escaped(field.get("description", "")),
        ]
        for name, field in schema.get("properties", {}).items()
    ]
    return Table(["field", "what it holds", "default", "meaning"], rows).markdown()


def _kind(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a field may hold, in words that link to the tables of what it names."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        has_table = bool(definitions[name].get("properties"))
        return f"[{name}](#{name.lower()})" if has_table else name
    for word in ("anyOf", "oneOf", "allOf"):
        if word in field:
            return ", or ".join(dict.fromkeys(_kind(one, definitions) for one in field[word]))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field.get("type") == "array":
        return f"a list of {_kind(field.get('items', {}), definitions)}"
    limits = [
        f"{sign} {field[limit]}"
        for limit, sign in (
            ("minimum", "at least"), ("exclusiveMinimum", "above"),
            ("maximum", "at most"), ("exclusiveMaximum", "below"),
        )
        if limit in field
    ]  # fmt: skip
    return " ".join([str(field.get("type", "anything")), *limits])


def _default(field: Mapping[str, Any]) -> str:
    """What holds where nothing is written; a mapping's is that of its own fields."""
    if "default" not in field:
        return ""
    return f"`{json.dumps(field['default'], ensure_ascii=False)}`"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


# Parts.


def _parts(kind: str) -> str:
    text = [f"# {_title(kind)}"]
    for part in (part_content(kind, name) for name in part_names(kind)):
        text.append(f"## {part['name']}")
        if (paper := part.get("paper")) is not None:
            title = f"[{paper['title']}]({paper['url']})" if paper["url"] else paper["title"]
            text.append(f"{paper['authors']}: {title}. {paper['venue']} {paper['year']}.")
        if part["reconstructed_from"] is not None:
            text.append(f"*A reconstruction from {part['reconstructed_from']}.*")
        text += [f"{line[0].upper()}{line[1:]}." for line in reach_lines(part)]
        text.append(_escaped(part["summary"]) if kind in _OPTUNA else _prose(part["description"]))
        if part["parameters"]:
            table = parameter_table(part["parameters"])
            text.append(Table(table.titles, [_row(row) for row in table.rows]).markdown())
    return "\n\n".join(text)


_OPTUNA = ("sampler", "pruner")


def _row(row: Sequence[str]) -> list[str]:
    name, default, space, meaning = row
    return [f"`{name}`", f"`{default}`", f"`{space}`" if space else "", _escaped(meaning)]


def _prose(docstring: str) -> str:
    """A docstring as Markdown: a list is set off, and what ends in ``::`` begins a block."""
    text = re.sub(r"::(?=\n\n)", ":", docstring)
    return re.sub(r"(?<!\n)\n(?=[*-] )", "\n\n", text).replace("<", "&lt;")


# Commands.


def _commands() -> str:
    cli.import_commands()
    group = typer.main.get_command(cli.app)
    text = ["# Commands", *_command("mgstudy", group)]
    return "\n\n".join(text)


def _command(path: str, command: Any) -> Iterator[str]:
    commands: Mapping[str, Any] = getattr(command, "commands", {})
    if not commands:
        context = click.Context(command, info_name=path)
        usage = " ".join(command.collect_usage_pieces(context))
        yield f"## {path.removeprefix('mgstudy ')}"
        yield f"```console\n$ {path} {usage}\n```"
        yield _escaped(command.help or "")
        rows = [
            [
                f"`{', '.join([*parameter.opts, *parameter.secondary_opts])}`",
                _escaped(getattr(parameter, "help", None) or ""),
            ]
            for parameter in command.params
            if not getattr(parameter, "hidden", False)
        ]
        if rows:
            yield Table(["option", "meaning"], rows).markdown()
    for name, inner in sorted(commands.items()):
        yield from _command(f"{path} {name}", inner)


# The library.


def _library() -> str:
    text = [
        "# Library",
        "What `mgstudy` offers, and what a user can rely on. It is imported when it is first used.",
    ]
    for name in sorted(mgstudy.__all__, key=lambda name: (name[0].isupper(), name)):
        known = getattr(mgstudy, name)
        text.append(f"::: {known.__module__}.{known.__qualname__}")
    return "\n\n".join(text)
