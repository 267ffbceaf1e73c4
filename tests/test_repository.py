"""What holds for the repository as a whole: its files, its dependencies, and what no code does."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SOURCES = [
    path
    for folder in ("mgstudy", "tests", "benchmarks", "docs")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
YAML_FILES = sorted([*ROOT.glob("search_spaces/**/*.yaml"), *ROOT.glob("pipelines/**/*.yaml")])
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(
    "name",
    [
        ".ci/run",
        ".pre-commit-config.yaml",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "constraints.txt",
        "pipelines/synthetic.yaml",
        "search_spaces/quickstart.yaml",
    ],
)
def test_promised_file_exists(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0


def test_the_newest_python_is_asked_for_up_to_one_that_is_known() -> None:
    shown = subprocess.run(
        ["make", "--dry-run", "test-newest", "PYTHON=", "UV=uv"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "--python '>=3.11,<3.15'" in shown.stdout


def test_no_file_is_large() -> None:
    """What a command wrote here by the way, a report say, is not committed along."""
    if not (ROOT / ".git").exists():
        pytest.skip("only git knows which files are the repository's")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    tracked = [ROOT / name for name in listed.split("\0") if name and (ROOT / name).exists()]
    assert tracked
    large = [path for path in tracked if path.stat().st_size >= 10**6]
    records = {path for path in tracked if path.parent == ROOT / "docs/results/records"}
    assert [relative(path) for path in large if path not in records] == []
    assert sum(path.stat().st_size for path in records) <= 10**7


def test_continuous_integration_is_executable() -> None:
    assert os.access(ROOT / ".ci/run", os.X_OK)


# Reading a file must never run code that the file contains.

UNSAFE_CALLS = re.compile(
    r"""
    ^( (c?pickle|dill|cloudpickle|joblib|marshal|shelve)\.(load|loads|open|Unpickler)
     | (pd|pandas)\.read_pickle
     | (ruamel\.)?yaml\.(load|load_all|full_load|full_load_all|unsafe_load|unsafe_load_all)
     | (\w+\.)*(Unsafe|Full|C)?(Loader|Constructor)
     )$""",
    re.VERBOSE,
)
SAFE_KEYWORDS = {"allow_pickle": False, "weights_only": True}
SAFE_YAML = {"safe", "base", "rt"}
"""What ruamel.yaml's ``YAML`` may be told to read: everything but ``unsafe`` and ``full``."""


def unsafe_reads(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every call in ``source`` that would load arbitrary objects."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function = ast.unparse(node.func)
        keywords = {
            keyword.arg: keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            for keyword in node.keywords
        }
        writes = function.rpartition(".")[2].startswith("save")
        if (
            UNSAFE_CALLS.match(function)
            or (function == "torch.load" and "weights_only" not in keywords)
            or (
                function.rpartition(".")[2] == "YAML" and keywords.get("typ", "rt") not in SAFE_YAML
            )
            or any(
                name in keywords and keywords[name] is not safe and not writes
                for name, safe in SAFE_KEYWORDS.items()
            )
        ):
            yield node.lineno, ast.unparse(node)


WAITS = {"wait", "communicate", "join"}
PROGRAMS = {"run", "call", "check_call", "check_output"}


def endless_waits(source: str) -> Iterator[tuple[int, str]]:
    """Calls that wait for a process or a thread, however long it takes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, of = node.func.attr, ast.unparse(node.func.value)
            is_wait = (name in WAITS and not node.args) or (name in PROGRAMS and of == "subprocess")
            if is_wait and "timeout" not in {keyword.arg for keyword in node.keywords}:
                yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=relative)
def test_no_test_waits_without_an_end(path: Path) -> None:
    assert list(endless_waits(path.read_text("utf-8"))) == []


def test_what_waits_all_the_same_is_ended() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert settings["faulthandler_timeout"] <= 1800
    assert settings["faulthandler_exit_on_timeout"]


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_file_is_read_as_code(path: Path) -> None:
    assert list(unsafe_reads(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("call", "unsafe"),
    [
        ("np.load(path, allow_pickle=True)", True),
        ("np.load(path, allow_pickle=trusted)", True),
        ("np.load(path, allow_pickle=False)", False),
        ("np.save(path, array, allow_pickle=True)", False),
        ("torch.load(path)", True),
        ("torch.load(path, weights_only=False)", True),
        ("torch.load(path, weights_only=True)", False),
        ("yaml.load(text, Loader=Loader)", True),
        ("yaml.safe_load(text)", False),
        ("ruamel.yaml.load(text)", True),
        ("ruamel.yaml.unsafe_load(text)", True),
        ("YAML(typ='unsafe').load(text)", True),
        ("ruamel.yaml.YAML(typ=['unsafe'], pure=True)", True),
        ("YAML(typ=kind)", True),
        ("YAML(typ='full')", True),
        ("YAML(typ='safe', pure=True)", False),
        ("YAML()", False),
        ("ruamel.yaml.loader.UnsafeLoader(text)", True),
        ("Constructor(loader=yaml)", True),
        ("SafeConstructor(loader=yaml)", False),
        ("pickle.loads(content)", True),
        ("pandas.read_pickle(path)", True),
        ("pickle.dumps(content)", False),
    ],
)
def test_unsafe_reads_are_recognised(call: str, unsafe: bool) -> None:
    assert bool(list(unsafe_reads(call))) is unsafe


# Dependencies.

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
DEPENDENCIES = [Requirement(line) for line in PROJECT["dependencies"]]
DEVELOPMENT = [Requirement(line) for line in PYPROJECT["dependency-groups"]["dev"]]
EXTRAS = [
    Requirement(line) for lines in PROJECT["optional-dependencies"].values() for line in lines
]
PINS = {
    canonicalize_name(requirement.name): next(iter(requirement.specifier)).version
    for requirement in map(
        Requirement,
        re.findall(r"^[^#\s].*$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE),
    )
}


@pytest.mark.parametrize("requirement", [*DEPENDENCIES, *DEVELOPMENT], ids=lambda r: r.name)
def test_pin_lies_in_the_range_of_pyproject(requirement: Requirement) -> None:
    pin = PINS[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pin)


DISTRIBUTIONS = packages_distributions()
SCRIPTS = [path for folder in ("helpers", "fuzz") for path in ROOT.glob(f"tests/{folder}/*.py")]
OURS = {"mgstudy", *(path.stem for path in SCRIPTS)}
PUBLISHED_WITH = {"pydantic_core": "pydantic"}
"""Packages that another one's documentation has its users import."""


def imported_packages(source: str) -> set[str]:
    """Every package from outside the repository and the standard library that is imported."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.append(node.module)
    packages = {name.partition(".")[0] for name in names}
    return packages - sys.stdlib_module_names - OURS


@pytest.mark.parametrize(
    ("folder", "requirements"),
    [("mgstudy", [*DEPENDENCIES, *EXTRAS]), ("tests", [*DEPENDENCIES, *DEVELOPMENT])],
)
def test_every_imported_package_is_declared(folder: str, requirements: list[Requirement]) -> None:
    declared = {canonicalize_name(requirement.name) for requirement in requirements}
    undeclared = set()
    for path in (ROOT / folder).rglob("*.py"):
        for package in imported_packages(path.read_text("utf-8")):
            name = PUBLISHED_WITH.get(package, package)
            # What is optional and not installed here goes by its own name.
            owners = DISTRIBUTIONS.get(name, [name])
            if declared.isdisjoint(map(canonicalize_name, owners)):
                undeclared.add(f"{relative(path)} imports {package}")
    assert undeclared == set()


def test_everything_tells_the_same_version() -> None:
    version = re.escape(PROJECT["version"])
    for name, pattern in {
        "CHANGELOG.md": rf"^## \[{version}\] - \d{{4}}-\d\d-\d\d$",
        "CITATION.cff": rf"^version: {version}$",
        "Dockerfile": rf"/mgstudy:{version}[ -]",
        "deploy/kuberay.yaml": rf"/mgstudy:{version}$",
    }.items():
        assert re.search(pattern, (ROOT / name).read_text("utf-8"), re.MULTILINE), name
    images = re.findall(r"/mgstudy:(\d[\w.]+)", (ROOT / "deploy/kuberay.yaml").read_text("utf-8"))
    assert {*images} == {PROJECT["version"]}


# What people read.


@pytest.mark.parametrize("path", YAML_FILES, ids=relative)
def test_shipped_yaml_starts_with_what_it_is_for(path: Path) -> None:
    first_line = path.read_text("utf-8").splitlines()[0]
    assert re.match(r"# \w", first_line), "the first line says what the file asks or makes"


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", path.read_text("utf-8"))
    missing = [
        target
        for target in targets
        if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists()
    ]
    assert missing == []
