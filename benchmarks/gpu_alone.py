"""The sections of ``gpu_check.py`` that need one process: what is right, and what a step costs."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import stacked
import torch
from epoch import epoch_needs
from torch import Tensor
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from mgstudy.data.dataset import Dataset
from mgstudy.models import rows as tables
from mgstudy.models.base import models
from mgstudy.models.interaction_graphs import symmetric_graph
from mgstudy.models.layers import dropout
from mgstudy.study.running.gpus import CONTEXT_BYTES
from mgstudy.training.checkpoint import load_checkpoint, save_checkpoint
from mgstudy.training.gradient.base import gradient_strategies
from mgstudy.training.trainer import Trainer

if TYPE_CHECKING:
    from gpu_check import Check

TESTS = (
    "tests/models/test_contract.py",
    "tests/models/test_propagation.py",
    "tests/models/test_rows.py",
    "tests/training/test_trainer.py",
    "tests/training/test_ranking.py",
)
"""What takes another way where there is a GPU."""
CAPTURED = ("BPR", "VBPR", "LightGCN", "BM3", "FREEDOM", "LayerGCN", "SelfCF", "SLMRec", "MGCN")
"""Models whose steps neither wait for the GPU nor draw on the host."""
ROOT = Path(__file__).parents[1]


# Part A: are the numbers right?


def facts(check: Check) -> None:
    """The machine, and what everything else hangs on: a launch, a wait, a copy, a context."""
    versions = f"Python {sys.version.split()[0]}, torch {torch.__version__}"
    check.found(f"{versions}, CUDA {torch.version.cuda}, {os.cpu_count()} CPUs")
    one, launches = torch.zeros(1, device=check.device), 10 if check.rehearse else 1000

    def chain() -> None:
        for _ in range(launches):
            one.add_(1)

    launch = 1e3 * check.milliseconds(chain, 5) / launches
    check.found(f"a tiny operation: {launch:.1f} µs", launch_us=launch)
    if not check.on_gpu:
        return
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version,compute_mode"]
    said = subprocess.check_output([*query, "--format=csv,noheader"], text=True)
    check.found(f"{said.strip()}; MPS: {shutil.which('nvidia-cuda-mps-control')}")
    _context(check)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        chain()
    replayed = 1e3 * check.milliseconds(graph.replay, 5) / launches
    check.found(f"the same in a CUDA graph: {replayed:.1f} µs", graph_us=replayed)
    wait = 1e3 * check.milliseconds(one.item)
    check.found(f"reading one number: {wait:.1f} µs", wait_us=wait)
    bandwidth = copy_bandwidth(check)
    check.found(f"copies: {bandwidth / 1e9:.0f} GB/s read and written", bandwidth=bandwidth)


def _context(check: Check) -> None:
    """What a process takes of the card that torch's allocator does not count."""
    read = "import torch; print(torch.cuda.mem_get_info()[0])"
    before = _printed(read)
    held = subprocess.Popen(
        [sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert held.stdin is not None and held.stdout is not None
    reserved = int(held.stdout.readline())
    taken = before - _printed(read) - reserved
    held.communicate("\n")
    said = f"a process takes {taken / 2**20:.0f} MiB besides its tensors"
    check.found(f"{said} (assumed: {CONTEXT_BYTES / 2**20:.0f})", context_bytes=taken)


_HOLD = """
import torch
graph = torch.eye(512).to_sparse_csr().cuda()
(graph @ torch.ones(512, 64, device="cuda") @ torch.ones(64, 64, device="cuda")).sum().item()
print(torch.cuda.memory_reserved(), flush=True)
input()
"""


def _printed(code: str) -> int:
    command = [sys.executable, "-c", code]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def tests(check: Check) -> None:
    """Every test that takes another way where there is a GPU."""
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--maxfail=40"]
    missing = [path for path in TESTS if not (ROOT / path).exists()]
    assert not missing, missing
    if check.rehearse:
        return
    if subprocess.call([*pytest, *TESTS], cwd=ROOT) != 0:
        check.failed.append("tests")


def agree(check: Check) -> None:
    """Every model: as on a processor? The same twice? How often does a step wait?"""
    dataset = check.dataset()
    for name in check.some(model.name for model in models if model.trainable):
        check.attempt(name, partial(_agrees, check, dataset, name))


def _agrees(check: Check, dataset: Dataset, name: str) -> None:
    here, there = (first_batch(check, dataset, name, device) for device in ("cpu", check.device))
    largest = max(float(value.norm()) for value in here.values())
    apart = {
        what: max(
            float((there[key] - value).norm()) / (float(value.norm()) if all_of else largest)
            for key, value in here.items()
            if key.startswith(what)
        )
        for what, all_of in {"loss": True, "scores": True, "gradient": False}.items()
    }
    runs = []
    for _ in range(2):
        trainer = check.trainer(dataset, name)
        results = list(itertools.islice(trainer.epochs(), 1 if check.rehearse else 2))
        runs.append(({"loss": results[-1].loss}, trainer.model.state_dict()))
    same = runs[0][0] == runs[1][0] and all(
        torch.equal(weight, runs[1][1][key]) for key, weight in runs[0][1].items()
    )
    waits = waits_of_a_step(check, trainer)
    random = draws(check.trainer(dataset, name, device="cpu"))
    far = ", ".join(f"{what} {distance:.0e}" for what, distance in apart.items())
    far += " (its loss is random)" if random else ""
    said = "the same twice" if same else "NOT THE SAME TWICE"
    check.found(
        f"{name:9s} from the processor's: {far}; {said}; waits per step: {waits}",
        model=name,
        apart=apart,
        random=random,
        same_twice=same,
        waits=waits,
    )
    if not same or here.keys() != there.keys() or not (random or max(apart.values()) < 1e-3):
        check.failed.append(name)


def first_batch(check: Check, dataset: Dataset, name: str, device: str) -> dict[str, Tensor]:
    """Loss, gradients and scores of some users before any step, without dropout."""
    trainer = check.trainer(dataset, name, device=device)
    loss = trainer.model.eval().loss(next(trainer._batches()))
    loss.backward()
    with torch.no_grad():
        scores = trainer.model.scorer()(torch.arange(50, device=trainer.device))
    gradients = {
        f"gradient of {key}": weight.grad
        for key, weight in trainer.model.named_parameters()
        if weight.grad is not None
    }
    found = {"loss": loss.detach(), "scores": scores, **gradients}
    return {key: value.double().cpu() for key, value in found.items()}


def draws(trainer: Trainer) -> bool:
    """Whether a loss is random also without dropout, so that no two devices have the same."""
    trainer.model.eval()
    batch, losses = next(trainer._batches()), []
    for seed in range(2):
        torch.manual_seed(seed)
        losses.append(trainer.model.loss(batch).item())
    return losses[0] != losses[1]


def waits_of_a_step(check: Check, trainer: Trainer) -> int | None:
    """How often the third step of an epoch waits for the GPU; ``None`` without one."""
    if not check.on_gpu:
        return None
    *before, step = itertools.islice(steps(trainer), 3)
    for earlier in before:
        earlier()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(one.message) for one in said)


def steps(trainer: Trainer) -> Any:
    """The steps of an epoch, each to be called once."""
    assert trainer.gradient is not None
    trainer.model.train()
    trainer.model.before_epoch(trainer.next_epoch)
    trainer.gradient.start_epoch(trainer.next_epoch)
    for batch in trainer._batches():
        yield partial(trainer.gradient.step, trainer._loss(batch, trainer.next_epoch))


def resume(check: Check) -> None:
    """Every strategy: does it go on from a checkpoint as if it had not stopped?"""
    dataset = check.dataset()
    for strategy in check.some(gradient_strategies.names()):
        check.attempt(strategy, partial(_resumes, check, dataset, strategy))


def _resumes(check: Check, dataset: Dataset, strategy: str) -> None:
    parameters = {"start": 0} if strategy == "swa" else {}

    def start() -> Trainer:
        given = {"gradient": strategy, "gradient_parameters": parameters}
        return check.trainer(dataset, "VBPR", **given)

    expected = [result.metrics for result in itertools.islice(start().epochs(), 3)]
    half = start()
    next(half.epochs())
    rest = start()
    with TemporaryDirectory() as folder:
        save_checkpoint(Path(folder, "half.pt"), half.state_dict())
        rest.load_state_dict(load_checkpoint(Path(folder, "half.pt")))
    same = [result.metrics for result in itertools.islice(rest.epochs(), 2)] == expected[1:]
    said = "the same" if same else "NOT THE SAME"
    check.found(f"{strategy:24s} {said} after a checkpoint", strategy=strategy, same=same)
    if not same:
        check.failed.append(strategy)


# Part B: how fast?


def copy_bandwidth(check: Check) -> float:
    """Bytes that a copy on the device reads and writes per second."""
    source = torch.empty(2**20 if check.rehearse else 2**28, device=check.device)
    target = torch.empty_like(source)
    return 2e3 * source.nbytes / check.milliseconds(lambda: target.copy_(source), 5)


def epochs(check: Check) -> None:
    """Every model alone: its epoch, and the share of the copies' bandwidth that its steps reach."""
    dataset, bandwidth = check.dataset(), copy_bandwidth(check)
    columns = ("steps/s", "train ms", "validate ms", "set-up ms", "reserved MiB")
    titles = (*columns, "GPU ms", "kernels", "of bandwidth")
    check.found(f"{'model':9s} " + " ".join(f"{title:>12s}" for title in titles))
    for name in check.some(model.name for model in models if model.trainable):
        check.attempt(name, partial(_timed, check, dataset, name, bandwidth))


def _timed(check: Check, dataset: Dataset, name: str, bandwidth: float) -> None:
    gc.collect()
    if check.on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    trainer = check.trainer(dataset, name)
    figures = {"set_up": 1e3 * (time.perf_counter() - began)}
    results = list(itertools.islice(trainer.epochs(), 1 if check.rehearse else 4))
    figures["train"] = 1e3 * min(result.seconds_training for result in results)
    figures["validate"] = 1e3 * min(result.seconds_evaluation for result in results)
    batches = -(-len(dataset.train) // trainer.settings.batch_size)
    figures["reserved"] = torch.cuda.max_memory_reserved() / 2**20 if check.on_gpu else 0.0
    # Without a GPU's own clock, its time is all that passes.
    figures["busy"], figures["kernels"] = (
        _profiled(check, trainer, batches) if check.on_gpu else (figures["train"], 0.0)
    )
    # What an epoch must move does not depend on how kernels go about it.
    moved = epoch_needs(check.trainer(dataset, name, device="cpu")).bytes
    figures["of_bandwidth"] = moved / (figures["busy"] / 1e3) / bandwidth
    figures["steps_per_second"] = batches / (figures["train"] / 1e3)
    order = ("steps_per_second", "train", "validate", "set_up", "reserved", "busy", "kernels")
    cells = " ".join(f"{figures[key]:12.1f}" for key in order)
    check.found(f"{name:9s} {cells} {figures['of_bandwidth']:12.0%}", model=name, **figures)


def _profiled(check: Check, trainer: Trainer, batches: int) -> tuple[float, float]:
    """Milliseconds that the GPU works in the steps of an epoch, and how many kernels it runs."""
    some = list(itertools.islice(steps(trainer), 5))
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for step in some:
            step()
        torch.cuda.synchronize()
    events = [event for event in profiled.events() if event.device_type.name == "CUDA"]
    longest: Counter[str] = Counter()
    for event in events:
        longest[event.name[:90]] += event.device_time_total
    check.found(f"  {longest.most_common(3)}", longest_us=dict(longest.most_common(6)))
    share = batches / len(some)
    return sum(longest.values()) / 1e3 * share, len(events) * share


def _summed_anew(gradient: Tensor, rows: Tensor, nodes: int) -> Tensor:
    """As for the first table that a batch reads, whose order is not known yet."""
    return tables.sum_rows(gradient, rows.clone(), nodes)


def _added(gradient: Tensor, rows: Tensor, nodes: int) -> Tensor:
    return gradient.new_zeros(nodes, gradient.shape[1]).index_add_(0, rows, gradient)


def kernels(check: Check) -> None:
    """The operations whose form depends on what a card prefers."""
    dataset = check.dataset()
    graph = symmetric_graph(dataset).to(check.device)
    nodes = graph.shape[0]

    def compare(what: str, **forms: Callable[[], object]) -> None:
        times = {form: 1e3 * check.milliseconds(work) for form, work in forms.items()}
        said = ", ".join(f"{form} {us:.0f}" for form, us in times.items())
        check.found(f"{what}: {said} µs", what=what, **times)

    for count in (2048, 4096, 6144):
        rows = torch.randint(nodes, (count,), device=check.device)
        gradient = torch.randn(count, 64, device=check.device)
        torchs = partial(torch.ops.aten.embedding_dense_backward, gradient, rows, nodes, -1, False)
        compare(
            f"gradient of {count} gathered rows",
            ours=partial(tables.sum_rows, gradient, rows, nodes),
            # The order of a batch is found once for all the tables that it reads.
            ours_anew=partial(_summed_anew, gradient, rows, nodes),
            torchs=torchs,
            index_add=partial(_added, gradient, rows, nodes),
        )
    # The module says of itself that it is in beta, and that it checks nothing.
    warnings.filterwarnings("ignore", message="Sparse")
    csr = torch.sparse_csr_tensor(graph.row_offsets, graph.columns, graph.values, graph.shape)
    for width in (64, 256, 1024):
        x = torch.randn(nodes, width, device=check.device)
        whole = partial(tables._bags, graph.row_offsets, graph.columns, x, graph.values)
        compare(
            f"sparse product of {width} columns",
            one_thread_a_row=whole,
            csr=partial(torch.matmul, csr, x),
            **{f"pieces_of_{n}": _in_pieces(n, graph, x) for n in (16, 32, 64, 128)},
        )
    x = torch.randn(2048, 64, device=check.device)
    ours, torchs = partial(dropout, x, 0.5, True), partial(functional.dropout, x, 0.5)
    compare("dropout", ours=ours, torchs=torchs)
    trainer = check.trainer(dataset, "VBPR")
    compare("order and negatives of an epoch", drawn=lambda: next(trainer._batches()))


def _in_pieces(length: int, graph: Any, x: Tensor) -> Callable[[], Tensor]:
    """As ``weighted_sums`` on a GPU, with pieces of another length."""
    offsets, rows = graph.row_offsets, graph.columns
    with patch.object(tables, "LONGEST_SUM", length):
        pieces, piece_offsets, piece_rows = tables._pieces(offsets, len(rows))

    def product() -> Tensor:
        sums = tables._bags(pieces, rows, x, graph.values)
        return tables._bags(piece_offsets, piece_rows, sums, None)

    return product


def graphs(check: Check) -> None:
    """A step as a CUDA graph: how much faster, and with the same numbers?"""
    dataset = check.dataset()
    for name in check.some(CAPTURED):
        check.attempt(name, partial(_captured, check, dataset, name))


def _captured(check: Check, dataset: Dataset, name: str) -> None:
    one, eager = _prepared(check, dataset, name)
    alone = check.milliseconds(eager, 15)
    if not check.on_gpu:
        check.found(f"{name:9s} a step {alone:.3f} ms", model=name, eager=alone)
        return
    other, step = _prepared(check, dataset, name)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replayed = check.milliseconds(graph.replay, 15)
    for _ in range(3):  # Capturing a step does not take it.
        eager()
    weights = other.model.state_dict()
    same = all(torch.equal(value, weights[key]) for key, value in one.model.state_dict().items())
    check.found(
        f"{name:9s} a step {alone:.3f} ms, replayed {replayed:.3f} ms: "
        f"{alone / replayed:.1f} times; "
        + ("the same weights" if same else "other weights, as dropout alone explains"),
        model=name,
        eager=alone,
        replayed=replayed,
        same=same,
    )


def _prepared(check: Check, dataset: Dataset, name: str) -> tuple[Trainer, Callable[[], object]]:
    trainer = check.trainer(dataset, name)
    assert trainer.gradient is not None
    for group in trainer.gradient.optimizer.param_groups:
        group["capturable"] = check.on_gpu
    return trainer, next(steps(trainer))


def stacks(check: Check) -> None:
    """Trials of one model as one computation (``stacked.py``)."""
    dataset = check.dataset()
    for model in stacked.MODELS:
        for members in (2,) if check.rehearse else (1, 16, 64, 256):
            row = stacked.compare(dataset, model, members, 3, check.device)
            found = dict(zip(stacked.COLUMNS, row, strict=True))
            check.found(", ".join(f"{what} {value}" for what, value in found.items()), **found)


SECTIONS: Mapping[str, Callable[[Check], None]] = {
    section.__name__: section
    for section in (facts, tests, agree, resume, epochs, kernels, graphs, stacks)
}
