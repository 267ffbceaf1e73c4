"""What a trial takes of the machines, and how many run at once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mgstudy.config.study import Resources
from mgstudy.environment import usable_cpus
from mgstudy.errors import InputError
from mgstudy.private.ray_accelerators import gpus_here
from mgstudy.study.running.gpus import MPS, UNUSABLE_GPUS, context_bytes, judged

logger = logging.getLogger(__name__)

MOST_TRIALS_PER_GPU = 8
"""Processes that take turns on a GPU; more would only wait for each other."""
MOST_TRIALS_UNDER_MPS = 24
"""Processes whose kernels run together, where the CPUs do not allow fewer."""
_ACCELERATOR = "accelerator_type:"
# Ray's own mark for "on a node of this kind": it limits nothing else.
_ACCELERATOR_SHARE = 0.001
_FILLED = 0.8
"""Of a GPU's memory: some methods take more after some epochs, and tests more than validations."""
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class TrialResources:
    """What one trial takes, and how many run at once.

    Attributes:
        cpu: CPUs.
        gpu: GPUs, or the share of one; with ``packed``, the least share.
        slots: Trials at once, at most.
        others: Custom resources and the kind of GPU, as Ray names them.
        packed_gpus: GPUs to pack by measured memory; 0 when shares are fixed.
    """

    cpu: float
    gpu: float
    slots: int
    others: Mapping[str, float] = field(default_factory=dict)
    packed_gpus: int = 0

    def reserved(self, trial: Mapping[str, Any]) -> dict[str, float]:
        """What Ray reserves for a trial, as the searcher configured it."""
        bundle = {"CPU": self.cpu, "GPU": trial["gpu"], **self.others}
        return {name: amount for name, amount in bundle.items() if amount}


def trial_resources(resources: Resources, nodes: Sequence[Mapping[str, float]]) -> TrialResources:
    """Settle what one trial gets of these machines.

    A trial runs on one machine, so what counts is how many fit on each.

    Args:
        resources: What the study file asks for.
        nodes: Each machine's resources in all, as ``ray.nodes()`` names them (``CPU``, ``GPU``),
            and as ``judged`` adds to them.

    Raises:
        InputError: If not even one trial fits, or it would meet a GPU that torch cannot use.
    """
    context_bytes()
    others = dict(resources.custom)
    if resources.accelerator_type is not None:
        others[_ACCELERATOR + resources.accelerator_type] = _ACCELERATOR_SHARE
    eligible = [node for node in nodes if all(node.get(name, 0) >= others[name] for name in others)]
    gpu = _automatic_share(resources, eligible)
    _require_usable_gpus(resources.gpu, eligible)
    slots = sum(_fitting(node, resources.cpu, gpu, others) for node in eligible)
    if resources.autoscaling and resources.max_concurrent is not None:
        slots = resources.max_concurrent
    if slots < 1:
        raise InputError(_why_none_fits(resources, gpu, others, nodes))
    gpus = sum(int(node.get("GPU", 0)) for node in eligible)
    return TrialResources(
        resources.cpu,
        gpu,
        min(slots, resources.max_concurrent or slots),
        others,
        gpus if resources.gpu == "packed" else 0,
    )


def larger_share(gpu: float) -> float:
    """What a trial gets of a GPU when its last share had too little memory: twice as much, at most
    the whole one; more GPUs would not help a trial that uses one."""
    return min(1.0, 2 * gpu) if 0 < gpu < 1 else gpu


class GpuPacking:
    """Packs trials onto GPUs by the memory that trials of the same cell were seen to take.

    A cell's first trials get the least share. As soon as one has validated, its peak is known, and
    those that begin later get the share that lets as many run as fit; when one runs out of memory,
    twice the share that it had.

    Args:
        gpus: GPUs of the cluster.
        least_share: The smallest share worth having: CPUs run out first below it.
    """

    def __init__(self, gpus: int, least_share: float) -> None:
        self.gpus = gpus
        self.least_share = least_share
        self._peaks: dict[str, float] = {}
        self._too_little: dict[str, float] = {}
        self._taken: dict[str, float] = {}

    def share(self, cell: str) -> float:
        """What a trial of this cell gets of a GPU now."""
        least = max(self.least_share, larger_share(self._too_little.get(cell, 0.0)))
        together = int(1 / least + _TOLERANCE)
        if cell in self._peaks:
            together = min(together, int(_FILLED / self._peaks[cell]))
        return 1 / together if together > 1 else 1.0

    def measured(self, cell: str, peak: float) -> None:
        """A trial of this cell was seen to take this much of a GPU's memory, 0 to 1."""
        if peak > 0:
            self._peaks[cell] = max(peak, self._peaks.get(cell, 0.0))

    def ran_out(self, cell: str, share: float) -> None:
        """A trial of this cell had too little memory with this share."""
        self._too_little[cell] = max(share, self._too_little.get(cell, 0.0))

    def admits(self) -> bool:
        """Whether another trial may begin."""
        return sum(self._taken.values()) < self.gpus - _TOLERANCE

    def begun(self, trial: str, share: float) -> None:
        """A trial has begun with this share."""
        self._taken[trial] = share

    def ended(self, trial: str) -> float:
        """A trial no longer takes anything; the share that it had."""
        return self._taken.pop(trial, 0.0)


def this_machine() -> dict[str, float]:
    """What this machine has, as ``usable_nodes`` would say if Ray were started here."""
    return judged({"CPU": float(usable_cpus()), "GPU": float(gpus_here())})


def _automatic_share(resources: Resources, nodes: Iterable[Mapping[str, float]]) -> float:
    """The share of a GPU that lets as many trials run as the CPUs allow."""
    if not isinstance(resources.gpu, str):
        return resources.gpu
    with_gpus = [
        node for node in nodes if node.get("GPU", 0) >= 1 and node.get("CPU", 0) >= resources.cpu
    ]
    if not with_gpus:
        return 0.0
    # Processes take turns on every GPU if they do on one.
    together = all(MPS in node for node in with_gpus)
    most = MOST_TRIALS_UNDER_MPS if together else MOST_TRIALS_PER_GPU
    per_gpu = max(int(node["CPU"] // resources.cpu // node["GPU"]) for node in with_gpus)
    return 1 / min(max(per_gpu, 1), most)


def _require_usable_gpus(asked: float | str, nodes: Sequence[Mapping[str, float]]) -> None:
    """Warn that trials do without GPUs that torch cannot use, where none can be used.

    Raises:
        InputError: If trials would be started on them: some machine's can be used, or a number is
            asked for.
    """
    unusable = sum(UNUSABLE_GPUS in node for node in nodes)
    if not unusable or asked == 0:
        return
    where = "here" if len(nodes) == 1 else f"on {unusable} of {len(nodes)} nodes"
    advice = (
        "install the build of torch that fits the driver there (https://pytorch.org/get-started; "
        "`mgstudy doctor` looks again)"
    )
    if isinstance(asked, str) and not any(node.get("GPU", 0) for node in nodes):
        logger.warning(
            "trials run on CPUs: torch cannot use the GPUs %s; %s, or write `resources: {gpu: 0}`",
            where,
            advice,
        )
        return
    raise InputError(
        f"torch cannot use the GPUs {where}, and trials would be started on them; {advice}, or "
        "write `resources: {gpu: 0}`"
    )


def _fitting(node: Mapping[str, float], cpu: float, gpu: float, others: Mapping[str, float]) -> int:
    """How many trials fit on a node."""
    limits = [node.get("CPU", 0.0) / cpu]
    limits += [node[name] / amount for name, amount in others.items() if amount > 0]
    gpus = node.get("GPU", 0.0)
    if gpu > 1:
        limits.append(gpus / gpu)
    elif gpu > 0:  # A share cannot span GPUs, and a GPU takes only whole multiples of it.
        limits.append(int(gpus) * int(1 / gpu + _TOLERANCE))
    return int(min(limits) + _TOLERANCE)


def _why_none_fits(
    resources: Resources,
    gpu: float,
    others: Mapping[str, float],
    nodes: Sequence[Mapping[str, float]],
) -> str:
    amounts = [f"{resources.cpu:g} CPU and {gpu:g} GPU"]
    amounts += [
        f"a GPU of type {name.removeprefix(_ACCELERATOR)}"
        if name.startswith(_ACCELERATOR)
        else f"{amount:g} {name}"
        for name, amount in others.items()
    ]
    takes = f"no trial fits: one takes {', '.join(amounts)}"
    largest = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)), default={})
    has = f"{largest.get('CPU', 0):g} CPU and {largest.get('GPU', 0):g} GPU"
    kinds = sorted(
        {
            name.removeprefix(_ACCELERATOR)
            for node in nodes
            for name in node
            if name.startswith(_ACCELERATOR)
        }
    )
    if resources.accelerator_type is not None:
        has += f", types {', '.join(kinds) or 'unknown'}"
    where = "the machine has" if len(nodes) == 1 else f"the largest of {len(nodes)} nodes has"
    advice = "lower `resources`"
    if len(nodes) > 1:
        advice += ", or, if the cluster grows, write `resources: {autoscaling: true, ...}`"
    return f"{takes}, {where} {has}; {advice}"
