"""What only a real GPU can tell, in two parts of a few minutes each.

    python benchmarks/gpu_check.py A --data data/tiktok     # are its numbers right?
    python benchmarks/gpu_check.py B --data data/tiktok     # how fast is it, alone and shared?
    python benchmarks/gpu_check.py A B --device cpu --rehearse

Each section is a process of its own with a limit of its own, so that one that hangs, fills the
memory or breaks its CUDA context costs its own time only. What a section prints is kept in
``OUT/SECTION.log``, what it found is added to ``OUT/found.jsonl``, and the last lines of all are
printed again at the end, with what did not fit into ``--deadline``. No setting of the card is
changed. A rehearsal goes the same ways with little data, on a processor if so asked.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gpu_alone
import gpu_together
import numpy as np
import torch
from benchmark_data import read

from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.training.run import build_trainer
from mgstudy.training.trainer import Trainer

PARTS: Mapping[str, Mapping[str, float]] = {
    "A": {"facts": 25, "tests": 120, "agree": 90, "resume": 60},
    "B": {
        "epochs": 90,
        "kernels": 40,
        "shares": 140,
        "launches": 170,
        "memory": 60,
        "graphs": 45,
        "stacks": 60,
    },
}
"""The sections of each part, and the seconds that each may take at most."""
_SHORTEST = 8.0
_LAST_LINES = 28
_SETTINGS = TrainingSettings(epochs=10**6, early_stopping=None)


@dataclass
class Check:
    """What the sections share.

    Attributes:
        device: ``cuda``, or ``cpu``, where what only a GPU knows is left out.
        rehearse: Whether to go through everything with little data, once.
        data: Folder with ``tiktok.inter`` and ``*_feat.npy`` files.
        out: Folder for what is found.
        section: The section that runs.
        failed: What has failed in it.
    """

    device: str
    rehearse: bool
    data: Path
    out: Path
    section: str = ""
    failed: list[str] = field(default_factory=list)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device == "cuda"

    def found(self, text: str, **figures: Any) -> None:
        """Print a line, and keep its figures."""
        print(text, flush=True)
        with (self.out / "found.jsonl").open("a") as file:
            file.write(json.dumps({"section": self.section, **figures}) + "\n")

    def some(self, names: Iterable[str]) -> list[str]:
        """All of them, or three in a rehearsal."""
        return list(names)[: 3 if self.rehearse else None]

    def attempt(self, what: str, work: Callable[[], None]) -> None:
        """Do something that may fail without ending the section."""
        try:
            work()
        except Exception as error:
            self.failed.append(what)
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
            self.found(f"{what:9s} FAILED {said}", what=what, error=said)

    def dataset(self) -> Dataset:
        """TikTok, or in a rehearsal as little as has all its parts."""
        if self.rehearse and not any(self.data.glob("*.inter")):
            write_little(self.data)
        return read(self.data)

    def trainer(self, dataset: Dataset, model: str, **parts: Any) -> Trainer:
        """A training without an end, on the device unless told otherwise."""
        parts = {"settings": _SETTINGS, "seed": 1, "device": self.device, **parts}
        return build_trainer(dataset, model=model, **parts)

    def milliseconds(self, work: Callable[[], object], repeat: int = 20) -> float:
        """The median of several times, by the device's own clock where it has one."""
        repeat = 1 if self.rehearse else repeat
        for _ in range(0 if self.rehearse else 3):
            work()
        return float(np.median([self._once(work) for _ in range(repeat)]))

    def _once(self, work: Callable[[], object]) -> float:
        if not self.on_gpu:
            began = time.perf_counter()
            work()
            return 1e3 * (time.perf_counter() - began)
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        work()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last))


def write_little(folder: Path) -> None:
    """A dataset of the format of TikTok, of 60 users and 50 items."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(60), 10)
    items = np.concatenate([random.choice(50, size=10, replace=False) for _ in range(60)])
    labels = np.tile([0, 0, 0, 0, 0, 0, 0, 0, 1, 2], 60)
    rows = [
        f"{user}\t{item}\t{label}" for user, item, label in zip(users, items, labels, strict=True)
    ]
    (folder / "tiktok.inter").write_text("\n".join(["userID\titemID\tx_label", *rows]) + "\n")
    for modality, width in {"image": 16, "audio": 12}.items():
        table = random.standard_normal((50, width), dtype=np.float32)
        np.save(folder / f"{modality}_feat.npy", table)


def run_limited(command: Sequence[str], seconds: float, log: Path) -> str:
    """Run a program and all that it starts for so long at most; how it ended."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return f"exit {process.wait(seconds)}"
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_sections(options: argparse.Namespace) -> int:
    """Run the sections one after the other; 0 if all have ended well."""
    options.out.mkdir(parents=True, exist_ok=True)
    limits = {name: limit for part in options.parts for name, limit in PARTS[part].items()}
    chosen = options.only or list(limits)
    began, lines, good = time.monotonic(), list[str](), True
    for name in chosen:
        left = options.deadline - (time.monotonic() - began)
        limit = min(limits[name], left - 5)
        if limit < _SHORTEST:
            good = False
            lines.append(f"{name:8s} not begun: {left:.0f} s left")
            continue
        started = time.monotonic()
        command = [sys.executable, __file__, *options.words, "--section", name]
        ended = run_limited(command, limit, options.out / f"{name}.log")
        good = good and ended == "exit 0"
        lines.append(f"{name:8s} {time.monotonic() - started:5.1f} s, {ended}")
        print(lines[-1], flush=True)
        if options.device == "cuda" and not _answers(options.out):
            good = False
            lines.append("the GPU no longer answers: nothing else is begun")
            break
    for name in chosen:
        log = options.out / f"{name}.log"
        if log.exists():
            print(
                f"--- {name}",
                *log.read_text(errors="replace").splitlines()[-_LAST_LINES:],
                sep="\n",
            )
    print("=" * 60, *lines, sep="\n")
    return 0 if good else 1


def _answers(out: Path) -> bool:
    code = "import torch; torch.zeros(1, device='cuda').add_(1).item()"
    return run_limited([sys.executable, "-c", code], 40, out / "answers.log") == "exit 0"


def run_section(check: Check, name: str) -> int:
    """Run one section in this process; 0 if nothing in it has failed."""
    check.out.mkdir(parents=True, exist_ok=True)
    check.section, check.failed = name, []
    sections: Mapping[str, Callable[[Check], None]] = {
        **gpu_alone.SECTIONS,
        **gpu_together.SECTIONS,
    }
    torch.set_num_threads(1)
    sections[name](check)
    if check.failed:
        print("failed:", ", ".join(check.failed))
    return 1 if check.failed else 0


def main(words: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if words is None else words
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("parts", nargs="+", choices=list(PARTS))
    arguments.add_argument("--data", type=Path, default=Path("data/tiktok"))
    arguments.add_argument("--out", type=Path, default=Path("gpu_check_out"))
    arguments.add_argument("--only", nargs="+", metavar="SECTION", help="of the parts' sections")
    arguments.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    arguments.add_argument("--deadline", type=float, default=560, help="seconds for all sections")
    arguments.add_argument("--rehearse", action="store_true", help="with little data, once")
    arguments.add_argument("--section", help=argparse.SUPPRESS)
    options = arguments.parse_args(words)
    options.words = words
    if options.section is None:
        unknown = set(options.only or ()) - {name for part in options.parts for name in PARTS[part]}
        if unknown:
            arguments.error(f"--only: no such section: {', '.join(sorted(unknown))}")
        return run_sections(options)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "tiktok" if options.rehearse else options.data
        check = Check(options.device, options.rehearse, data, options.out)
        return run_section(check, options.section)


if __name__ == "__main__":
    sys.exit(main())
