"""The code in the documentation works as it stands there.

Every block is held to the program: YAML is read as the study or pipeline file that it is part of,
commands are parsed as the command line parses them, Python runs. What cannot run in a test, on a
cluster say, has a line ``<!-- not run: REASON -->`` above it.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
import typer

import mgstudy
from mgstudy import cli
from mgstudy.config.document import parse_document
from mgstudy.config.pipeline import PipelineConfig
from mgstudy.config.reading import yaml_text
from mgstudy.data.pipeline import validate_pipeline
from mgstudy.models.base import models
from mgstudy.study.definition.study import check_study
from mgstudy.study.search.trials import State
from mgstudy.testing import ModelContract
from mgstudy.workspace import Workspace

Command = Callable[..., Any]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ADDING = "docs/adding-a-model.md"
MODULE = "mgstudy.models.featurelightgcn"
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>\S[^\n]*) -->\n+)?```(?P<language>\w*)\n(?P<content>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


SHELL = ("console", "sh")


class Block(NamedTuple):
    """A fenced block of a document."""

    document: str
    line: int
    language: str
    content: str
    reason: str | None
    """Why it does not run here, where it does not."""

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks_of(path: Path) -> Iterator[Block]:
    text = path.read_text("utf-8")
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("content"))
        name = path.relative_to(ROOT).as_posix()
        yield Block(name, line, found["language"], found["content"], found["reason"])


BLOCKS = [
    block
    for path in sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("benchmarks/*.md")])
    for block in blocks_of(path)
]
RUN = [block for block in BLOCKS if block.reason is None]


def written(languages: Sequence[str], among: list[Block] = RUN) -> list[Any]:
    """The blocks in some languages, for ``parametrize``."""
    return [pytest.param(block, id=str(block)) for block in among if block.language in languages]


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert len(BLOCKS) > 30
    unknown = [str(block) for block in RUN if block.language not in (*SHELL, "python", "yaml")]
    assert unknown == [], "say what they are, or why they are not run: <!-- not run: REASON -->"


# Files.


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which every dataset that documents name is prepared, small."""
    home = tmp_path_factory.mktemp("workspace")
    for name in ("synthetic", "tiktok", "ml_1m"):
        smaller = [f"name={name}", "source.users=60", "source.items=40"]
        smaller.append("source.interactions_per_user=6")
        mgstudy.prepare(ROOT / "pipelines" / "synthetic.yaml", smaller, home)
    return home


STUDY = {"name": "s", "trials": 3}
FACTORS = {"dataset": ["tiktok"], "model": ["VBPR"]}
PIPELINE = {"name": "p", "source": {"kind": "synthetic"}}
OF_PIPELINES = {"source", "steps", "features", "texts"}


@pytest.fixture
def featurelightgcn(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model that docs/adding-a-model.md writes, where it says to put it."""
    code = next(b for b in BLOCKS if b.document == ADDING).content
    module = ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)
    exec(compile(code, ADDING, "exec"), vars(module))
    return models.get(f"{MODULE}:FeatureLightGCN")


@pytest.mark.parametrize("block", written(["yaml"]))
@pytest.mark.usefixtures("featurelightgcn")
def test_a_file_is_one_that_mgstudy_takes(
    block: Block, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    # A model of one's own goes by its module where its file does not lie in the package.
    text = re.sub(r"\[FeatureLightGCN,", f"['{MODULE}:FeatureLightGCN',", block.content)
    written = parse_document(text, str(block)).data
    if OF_PIPELINES & set(written):
        document = parse_document(yaml_text({**PIPELINE, **written}), str(block))
        validate_pipeline(document.validate(PipelineConfig), document)
        return
    if set(written) <= set(mgstudy.StudyConfig.model_fields["factors"].annotation.model_fields):
        written = {"factors": written}
    factors = {**FACTORS, **written.get("factors", {})}
    whole = {**STUDY, **written, "factors": factors}
    check_study(parse_document(yaml_text(whole), str(block)), Workspace.resolve(workspace))


# Commands.

LINE = re.compile(r"^(?P<typed>(?:[^\n]*\\\n)*[^\n]*)$", re.MULTILINE)


def commands(block: Block) -> Iterator[list[str]]:
    """What is typed in a block: after each prompt of a console, on each line of a script."""
    prompt = "$ " if block.language == "console" else ""
    for found in LINE.finditer(block.content):
        typed = found["typed"].replace("\\\n", "")
        if typed.startswith(prompt) and (words := shlex.split(typed[len(prompt) :], comments=True)):
            yield words


def parse(arguments: Sequence[str]) -> None:
    """Parse a command of mgstudy as its command line does, without doing it."""
    cli.import_commands()
    command: Any = typer.main.get_command(cli.app)
    path = []
    while getattr(command, "commands", {}):
        if arguments[0] not in command.commands:
            raise LookupError(f"No such command: {arguments[0]}")
        command = command.commands[arguments[0]]
        path.append(arguments[0])
        arguments = arguments[1:]
    command.make_context(" ".join(path), list(arguments))


@pytest.mark.parametrize("block", written(SHELL, BLOCKS))
def test_every_command_can_be_typed(block: Block) -> None:
    typed = list(commands(block))
    assert typed
    targets = re.findall(r"^([a-z-]+)(?= |:)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for program, *arguments in typed:
        if program == "mgstudy":
            parse(arguments)
        elif program == "make":
            (target,) = [word for word in arguments if "=" not in word]
            assert target in targets
        else:
            assert block.reason is not None, f"{block}: nothing here knows {program!r}"


def test_a_command_that_cannot_be_typed_is_found() -> None:
    for wrong in ("lunch x.yaml", "launch x.yaml --budget 3", "compare"):
        with pytest.raises(Exception, match=r"No such|Missing parameter"):
            parse(wrong.split())


@pytest.mark.parametrize("block", [b for b in RUN if "$ mgstudy" in b.content], ids=str)
def test_a_command_says_what_is_written_of_it(
    block: Block, command: Command, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MGSTUDY_HOME", str(workspace))
    ((_, *arguments),) = commands(block)
    ended = command(*arguments)
    assert (ended.out + ended.err).splitlines() == block.content.splitlines()[1:]


# Code.


def test_the_model_of_adding_a_model_passes_its_own_test(featurelightgcn: type) -> None:
    _, code = [b.content for b in BLOCKS if b.document == ADDING and b.language == "python"]
    assert featurelightgcn is sys.modules[MODULE].FeatureLightGCN
    tests: dict[str, object] = {}
    exec(compile(code, ADDING, "exec"), tests)
    test = tests["test_scores_follow_the_equations"]
    assert callable(test)
    test()
    contract = tests["TestFeatureLightGCN"]
    assert isinstance(contract, type) and issubclass(contract, ModelContract)
    held = contract()
    held.test_two_epochs_lower_the_loss()
    held.test_every_parameter_receives_a_gradient()
    held.test_a_restored_model_gives_identical_scores()


def own_training() -> dict[str, Any]:
    """What someone has who trains in a loop of his own."""
    model = torch.nn.Linear(2, 1)
    return {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "criterion": torch.Tensor.sum,
        "loader": torch.ones(4, 3, 2),
        "epochs": 2,
    }


@pytest.mark.parametrize(
    "block", [p for p in written(["python"]) if not str(p.id).startswith("docs/adding")]
)
@pytest.mark.usefixtures("one_thread")
def test_code_runs(block: Block, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGSTUDY_HOME", str(workspace))
    exec(compile(block.content, str(block), "exec"), own_training())


def test_the_webhook_of_from_python_is_told_of_a_trial() -> None:
    heard: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append(json.loads(body)["text"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    code: dict[str, Any] = {}
    page = "docs/from-python.md"
    exec(compile([b for b in BLOCKS if b.document == page][-1].content, page, "exec"), code)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        webhook = code["Webhook"](f"http://127.0.0.1:{server.server_port}")
        trial = SimpleNamespace(key="tiktok/BPR/3")
        webhook.trial_finished(trial, State.COMPLETE, 0.25, {})
        webhook.thread.shutdown()
        thread.join(timeout=60)
    assert heard == ["tiktok/BPR/3 is complete: 0.25"]


def test_the_readme_repeats_the_table_of_its_page() -> None:
    """Every cell of its answer is in the page's table: score, difference, and what is excluded."""
    datasets = {
        "Last.fm": "lastfm_2k_128",
        "Scientific": "amazon_scientific_128",
        "TikTok": "tiktok",
    }
    columns = ("plain", "mg_loss_scaled", "mg_update_scaled", "double_step")
    page = (DOCS / "results/does_mirror_gradient_help.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines()]
    scores = {tuple(row[:3]): row for row in rows if len(row) == 10 and "±" in row[3]}
    found = 0
    for line in (ROOT / "README.md").read_text("utf-8").splitlines():
        dataset, *told = [cell.strip() for cell in line.strip("|").split("|")]
        if dataset in datasets:
            for gradient, said in zip(columns, told[1:], strict=True):
                row = scores[datasets[dataset], told[0], gradient]
                *_, excluded = row[6].split("; ")
                if "do not tell that from luck" in row[6]:
                    excluded = "may be the searches' luck"
                assert said == (row[3] if gradient == "plain" else f"{row[5]}, {excluded}")
                found += 1
    assert found == len(columns) * 12
