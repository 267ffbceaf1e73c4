"""Several trials of one model as one stacked computation, against the same trials one by one.

    python benchmarks/stacked.py --data data/tiktok
    python benchmarks/stacked.py --device cuda --members 1 4 16 64

The members differ in their seeds. A stack holds their embeddings side by side, `[nodes, members,
width]`: one sparse product propagates all of them, and one kernel does each operation and Adam's
step. Both sides train in turn, epoch by epoch, in one process; their weights are compared at the
end, which shows that each member of the stack gives what the same trial gives alone. On the
processor its own time is counted, so that other work on the machine weighs less.

This is a measurement, not a part of the platform: it says what stacking could gain where it runs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import benchmark_data
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.data.sampling import NegativeSampler, epoch_batches
from mgstudy.models.interaction_graphs import symmetric_graph
from mgstudy.models.propagation import light_gcn_mean
from mgstudy.training.optimizers.adam import Adam
from mgstudy.training.run import build_trainer
from mgstudy.training.trainer import Trainer

MODELS = ("BPR", "LightGCN")
COLUMNS = (
    "model",
    "members",
    "s per epoch alone",
    "s per epoch of a member",
    "gain",
    "largest difference of a weight",
)
# No epoch of a measurement is followed by a validation.
SETTINGS = TrainingSettings(epochs=10**6, validate_every=10**6, early_stopping=None)


class Stack:
    """BPR or LightGCN, as often as there are trainers, beginning with their weights.

    Args:
        dataset: What is learned from.
        trainers: Not yet trained, each with its own seed; they are left as they are.
        seeds: Their seeds.
    """

    def __init__(self, dataset: Dataset, trainers: Sequence[Trainer], seeds: Sequence[int]) -> None:
        model, device = trainers[0].model, trainers[0].device
        self.dataset = dataset
        self.layers = int(getattr(model, "layers", 0))
        self.regularization = float(vars(model)["regularization"])
        self.graph = symmetric_graph(dataset)
        self.embeddings = nn.Parameter(torch.stack([_weights(t) for t in trainers], dim=1))
        self.members = torch.arange(len(trainers), device=device).unsqueeze(1)
        self.optimizer = Adam(Adam.Parameters()).build([self.embeddings])
        self.randoms = [np.random.default_rng(seed) for seed in seeds]
        self.sampler = NegativeSampler(dataset)

    def train_epoch(self) -> None:
        """Every member sees the batches that its trainer draws from its seed."""
        for nodes in self._batches():
            self.optimizer.zero_grad()
            self._losses(nodes).sum().backward()
            self.optimizer.step()

    def _batches(self) -> Iterator[Tensor]:
        """Users, positives and negatives as nodes, shape ``[members, 3, rows]``."""
        columns = []
        for random in self.randoms:
            ((users, positives, negatives),) = epoch_batches(
                self.dataset, len(self.dataset.train), random, self.sampler
            )
            assert negatives is not None
            items = np.stack([positives, negatives]) + self.dataset.user_count
            columns.append(np.concatenate([users[None], items]))
        whole = torch.as_tensor(np.stack(columns)).to(self.embeddings.device)
        yield from torch.split(whole, SETTINGS.batch_size, dim=2)

    def _losses(self, nodes: Tensor) -> Tensor:
        """The loss of each member, shape ``[members]``: the sum's gradient is theirs."""
        count, members, width = self.embeddings.shape
        flat = self.embeddings.view(count, members * width)
        rows = nodes.flatten(1) * members + self.members
        parts = functional.embedding(rows, self.embeddings.view(-1, width)).chunk(3, dim=1)
        users, positives, negatives = parts
        if self.layers > 0:
            propagated = light_gcn_mean(self.graph, flat, self.layers).view(-1, width)
            users, positives, negatives = functional.embedding(rows, propagated).chunk(3, dim=1)
        scores = (users * positives).sum(2) - (users * negatives).sum(2)
        norms = torch.stack([torch.linalg.vector_norm(part, dim=(1, 2)) for part in parts])
        penalty = norms.sum(0) / nodes.shape[2]
        return functional.softplus(-scores).mean(1) + self.regularization * penalty


def _weights(trainer: Trainer) -> Tensor:
    tables = [trainer.model.get_parameter(f"{of}_embedding") for of in ("user", "item")]
    return torch.cat([table.detach() for table in tables])


def measure(work: Callable[[], object], device: str) -> float:
    """Seconds of the processor, or of the clock where an accelerator works."""
    if device == "cpu":
        began = time.process_time()
        work()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def compare(dataset: Dataset, model: str, members: int, epochs: int, device: str) -> list[str]:
    """A row of the table."""
    seeds = range(members)
    trainers = [
        build_trainer(dataset, model=model, settings=SETTINGS, seed=seed, device=device)
        for seed in seeds
    ]
    stack = Stack(dataset, trainers, seeds)
    running = [trainer.epochs() for trainer in trainers]
    alone, stacked = [], []
    for _ in range(epochs):
        alone.append(measure(lambda: [next(epoch) for epoch in running], device))
        stacked.append(measure(stack.train_epoch, device))
    largest = max(
        float((_weights(trainer) - stack.embeddings[:, member].detach()).abs().max())
        for member, trainer in enumerate(trainers)
    )
    # The first epoch pays for memory that the others find.
    per_epoch = min(alone[1:]) / members, min(stacked[1:]) / members
    gain = per_epoch[0] / per_epoch[1]
    return [model, f"{members}", *(f"{s:.3f}" for s in per_epoch), f"{gain:.2f}", f"{largest:.1e}"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--data", type=Path, help="folder with one *.inter and *_feat.npy files")
    arguments.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    arguments.add_argument("--members", type=int, nargs="+", default=[1, 4, 16])
    arguments.add_argument("--epochs", type=int, default=4, help="the first is not counted")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options = arguments.parse_args()
    if options.epochs < 2:
        arguments.error("--epochs: the first is not counted, so there must be two")
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        if options.data is None:
            benchmark_data.generate(Path(scratch), 9308, 6710, 59541, widths={"image": 128})
            dataset = benchmark_data.read_generated(Path(scratch))
        else:
            dataset = benchmark_data.read(options.data)
    print(f"| {' | '.join(COLUMNS)} |\n|---|{'---:|' * (len(COLUMNS) - 1)}")
    for model in options.models:
        for members in options.members:
            row = compare(dataset, model, members, options.epochs, options.device)
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
