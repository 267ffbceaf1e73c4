"""Give malformed inputs to every command, and say which were not met with what is promised:

a few lines and an exit code, within limits, with nothing half-written and nothing lost.

    python tests/fuzz/run.py --inputs 5000 --seed 7
    python tests/fuzz/run.py --seed 7 --only raw-file-12 --keep /tmp/seen

A fault is named by its input; ``--only`` gives that input again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "ARROW_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PYTHONWARNINGS": "always",
}

import guard
import inputs
import workspace
from nonsense import NONSENSE

from mgstudy.errors import MgstudyError
from mgstudy.study.running import ray_session

MOST_LINES = 3
LONGEST_LINE = 2000
_NOISE = re.compile(r"Traceback \(most recent|\w+Warning:|Exception ignored|core dumped")


def main() -> None:
    """Run as many inputs as asked for; exit with 1 if there are faults."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", action="append", help="only the input of this name")
    parser.add_argument("--keep", type=Path, help="folder that the inputs are left in")
    parser.add_argument("--at-once", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    begun = time.monotonic()
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="mgstudy-fuzz-"))
    try:
        faults = run(asked.inputs, asked.seed, asked.only or (), folder.absolute(), asked.at_once)
    finally:
        if asked.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"seed {asked.seed}: {faults} faults, {time.monotonic() - begun:.0f} s")
    sys.exit(faults > 0)


def run(count: int, seed: int, only: Sequence[str], folder: Path, at_once: int) -> int:
    """Run inputs in a folder; how many faults there are."""
    guard.import_all()
    template = folder / "template"
    # Made here, so that what libraries prepare at their first use is there in every command.
    workspace.make_workspace(template / "home")
    guard.ready_to_fork()
    names = only or [*inputs.numbered(count), *NONSENSE]
    given = {name: NONSENSE.get(name) or inputs.named(name, seed) for name in names}
    names = list(given)
    random.Random(seed).shuffle(names)  # Cheap and dear ones run beside each other.
    commands = (_given(name, given[name], folder, template) for name in names)
    faults: Counter[str] = Counter()
    codes: Counter[int | None] = Counter()
    for command, ended in guard.run_all(commands, at_once):
        codes[ended.code] += 1
        if sum(codes.values()) % 500 == 0:
            print(f"... {sum(codes.values())} inputs", flush=True)
        given_input = given[command.name]
        found = problems(given_input, ended, command.folder)
        if found or only:
            shown = "".join(f"    {line}\n" for line in ended.err.splitlines()[-12:])
            typed = shlex.join(["mgstudy", *given_input.words])
            print(f"{command.name}: {'; '.join(found) or 'fine'} ({given_input.note})")
            print(f"  {typed[:300]}\n{shown}", flush=True)
        faults.update([command.name] * bool(found))
        shutil.rmtree(command.folder, ignore_errors=True) if not only else None
    print(f"{sum(codes.values())} inputs, by exit code: {dict(codes)}")
    return len(faults)


def _given(name: str, given: inputs.Input, folder: Path, template: Path) -> guard.Command:
    # Names that differ in their signs alone are two inputs, which may run side by side.
    plain, own = re.sub(r"\W+", "-", name)[:90], hashlib.sha256(name.encode()).hexdigest()[:8]
    where = folder / "inputs" / f"{plain}-{own}"

    def first() -> None:
        workspace.copied(template / "home", where / "home", given.words[0])
        given.lay_out(where)
        state = {"kept": kept(where / "home"), "half_written": half_written(where)}
        where.with_name(f"{where.name}.before").write_text(json.dumps(state))
        ray_session.ray_session = no_ray

    return _command(name, given.words, where, first)


def no_ray(*_: object, **__: object) -> NoReturn:
    """What is refused never comes here; the rest has been checked by then."""
    raise MgstudyError("Ray would start")


def _command(
    name: str, words: Sequence[str], folder: Path, first: Callable[[], None]
) -> guard.Command:
    variables = {"MGSTUDY_HOME": "home", "COLUMNS": "200", "HOME": str(folder)}
    return guard.Command(name, words, folder, variables, first)


def kept(home: Path) -> dict[str, str]:
    """What a command may not lose: manifests by their content, and tables."""
    found = {}
    for path in sorted((home / ".mgstudy").rglob("*")):
        if path.is_file() and (
            path.name in ("manifest.json", "study.json") or path.suffix == ".parquet"
        ):
            found[str(path.relative_to(home))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def problems(given: inputs.Input, ended: guard.Ended, folder: Path) -> list[str]:
    """What a command did not do as promised."""
    found = []
    lines = [line for line in ended.err.splitlines() if line.strip()]
    if ended.killed:
        found.append(f"ended by {ended.killed}")
    elif ended.code not in {0, 1, 2}:
        found.append(f"exit code {ended.code}")
    elif ended.code and not (ended.out or re.search("^[eE]rror: ", ended.err, re.MULTILINE)):
        found.append("no word of what is wrong")
    if given.refused and ended.code != 2:
        found.append("taken, though it is nonsense")
    if _NOISE.search(ended.err + ended.out):
        found.append("traceback or warning")
    elif len(lines) > MOST_LINES:
        found.append(f"{len(lines)} lines")
    if any(len(line) > LONGEST_LINE for line in lines):
        found.append("an endless line")
    if "not enough memory" in ended.err:
        found.append("more memory than there may be")
    noted = folder.with_name(f"{folder.name}.before")
    if not noted.exists():
        return [*found, "could not be laid out"]
    before = json.loads(noted.read_text())
    after = kept(folder / "home")
    if ended.code != 0 and any(
        after.get(name) != content for name, content in before["kept"].items() if "json" in name
    ):
        found.append("a manifest is another one, though the command failed")
    is_asked_for = given.words[0] in ("delete", "rename") and ended.code == 0
    if (lost := sorted(set(before["kept"]) - set(after))) and not is_asked_for:
        found.append(f"lost {', '.join(lost)}")
    left = set(half_written(folder)) - set(before["half_written"])
    return found + [f"half-written {name}" for name in sorted(left)]


def half_written(folder: Path) -> list[str]:
    """What is left of something that did not come to its end."""
    state = folder / "home" / ".mgstudy"
    found = list(folder.rglob(".*.partial"))
    found += [path for path in state.glob("derived/.*") if path.is_dir()]
    found += state.glob(".import.*/")
    tables = state.glob("tables/[!.]*.parquet")
    found += [path for path in tables if not path.with_suffix(".json").exists()]
    studies = [path for path in state.glob("studies/*") if path.is_dir()]
    found += [path for path in studies if not (path / "study.json").exists()]
    return [str(path.relative_to(folder)) for path in found]


if __name__ == "__main__":
    main()
