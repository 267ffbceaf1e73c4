"""Rows that a diffusion model generates from the items' other modalities."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.data.missing import Masks
from mgstudy.features.completions.base import Completed, Completion
from mgstudy.features.latent_diffusion import ModalityGenerator
from mgstudy.files import Progress
from mgstudy.private.torch import without_compiler

CHANNELS = {"small": (8, 32, 32, 32), "published": (16, 32, 64, 128)}
"""Channels of the latent and of its three halvings."""
WIDEST = 128
"""Columns that a table is reduced to."""
_DECAY, _DECAY_EPOCHS = 0.95, 100
_ROWS_AT_ONCE = 2048


class Diffusion(Completion):
    """Modality-diffused completion, the first stage of MoDiCF (Li et al., WWW 2025).

    Each table is reduced to ``min(width, 128)`` columns by a truncated singular value decomposition
    and scaled to [0, 1]. For every modality a diffusion model learns to generate its latents
    from those of the item's other modalities (``ModalityGenerator``); gaps begin as zeros, and
    are generated anew every ``refresh_every`` epochs, so that later epochs condition on generated
    rows. What is generated is scaled and turned back to the table's own columns (ASSUMED: the
    published code goes on with the reduced tables).

    The defaults are a preset that a processor trains (ASSUMED). Published: ``size = "published"``,
    ``positions = 32``, ``epochs = 1000``, ``learning_rate = 1e-4``, ``refresh_every = 1``; one core
    takes 11 ms for a row's training step and 31 ms to generate one, so that 7,000 items with two
    modalities are days there, and 16 hours on a V100.

    What it generates is a draw, by squared error √2 times as far from the truth as a mean of what
    is possible, and was farther off than the mean of the other rows on every dataset that was
    tried (1.2 to 1.4 of their deviation; docs/missing-modalities.md says why). The preset takes a
    catalogue of some thousand items a few hundred steps only; a small one needs a smaller
    ``batch_size``: of 300 made-up items whose modalities follow from two common numbers, rows came
    out 2.6 deviations off in batches of 512 and 1.06 in batches of 64.

    Unlike in the published code, decomposition and scaling are learnt from rows that are there
    alone, and the epoch that is kept is judged on rows that were there and were hidden on purpose
    (``held_out`` of them; ASSUMED), not on the truth behind the gaps.
    """

    name = "diffusion"
    modalities_needed = 2

    class Parameters(ParameterSet):
        size: Literal["small", "published"] = parameter(
            "small", "channels of the latent and of its halvings: 8, 32, 32, 32 or 16, 32, 64, 128"
        )
        positions: int = parameter(
            16, "positions of the latent, a multiple of 8", ge=8, multiple_of=8
        )
        epochs: int = parameter(50, "passes over the items", ge=1)
        batch_size: int = parameter(512, "items in a batch", ge=1)
        learning_rate: float = parameter(1e-3, "of Adam; 0.95 of it after 100 epochs", gt=0)
        sampling_steps: int = parameter(10, "steps from noise to a latent", ge=1)
        refresh_every: int = parameter(10, "epochs between generating the gaps anew", ge=1)
        held_out: float = parameter(
            0.05, "share of the rows that are hidden to judge by", ge=0, lt=1
        )
        seed: int = parameter(0, "of weights, batches and noise; the same for every model", ge=0)

    parameters: Parameters

    def completed(self, dataset: Dataset, progress: Progress) -> Completed:
        return self.pretrained(dataset, progress).completed

    def pretrained(self, dataset: Dataset, progress: Progress) -> Pretrained:
        """As ``completed``, with what it was made by."""
        seed = self.parameters.seed
        known, hidden = self.parted(dataset)
        scalings = {
            name: Scaling.of(table, known[name], seed) for name, table in dataset.features.items()
        }
        truth = {
            name: torch.from_numpy(scalings[name].reduced(table))
            for name, table in dataset.features.items()
        }
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            training = Pretraining(truth, known, hidden, self.parameters)
            made = training.run(progress)
        rows, errors = {}, {}
        for name, table in dataset.features.items():
            restored = scalings[name].restored(made[name].numpy())
            rows[name] = restored[~dataset.observed[name]]
            if hidden[name].any():
                errors[name] = relative_error(restored[hidden[name]], table[hidden[name]])
        return Pretrained(Completed(rows, errors), scalings, training.generator)

    def parted(self, dataset: Dataset) -> tuple[Masks, Masks]:
        """Which rows are learnt from, and which are there and hidden on purpose, by modality."""
        observed = {name: dataset.observed[name] for name in dataset.features}
        random = np.random.default_rng(self.parameters.seed)
        hidden = _held_out(observed, self.parameters.held_out, random)
        return {name: observed[name] & ~hidden[name] for name in observed}, hidden

    @classmethod
    def published(cls) -> Diffusion:
        """As published."""
        return cls(
            cls.Parameters(
                size="published",
                positions=32,
                epochs=1000,
                learning_rate=1e-4,
                refresh_every=1,
            )
        )


@dataclass(frozen=True)
class Scaling:
    """A table's rows in fewer columns from 0 to 1, and back.

    Attributes:
        directions: Columns of the table by those that are left.
        start: What becomes 0, by column.
        span: What is between 0 and 1.
    """

    directions: NDArray[np.float64]
    start: NDArray[np.float64]
    span: NDArray[np.float64]

    @classmethod
    def of(cls, table: NDArray[np.float32], known: NDArray[np.bool_], seed: int) -> Scaling:
        """Learn it from the rows that are known."""
        # Loaded where something is made, so that reading a study takes no second.
        from sklearn.utils.extmath import randomized_svd  # noqa: PLC0415

        rows = table[known].astype(np.float64)
        count = min(WIDEST, *rows.shape)
        _, _, turned = randomized_svd(rows, count, random_state=seed)
        reduced = rows @ turned.T
        start = reduced.min(axis=0)
        span = reduced.max(axis=0) - start
        return cls(turned.T, start, np.where(span > 0, span, 1.0))

    def reduced(self, table: NDArray[np.float32]) -> NDArray[np.float32]:
        """Any rows in the fewer columns."""
        scaled = (table.astype(np.float64) @ self.directions - self.start) / self.span
        return scaled.astype(np.float32)

    def restored(self, reduced: NDArray[np.float32]) -> NDArray[np.float64]:
        """The rows as the table has them."""
        restored: NDArray[np.float64] = (reduced * self.span + self.start) @ self.directions.T
        return restored


@dataclass(frozen=True)
class Pretrained:
    """What a pretraining has come to.

    Attributes:
        completed: The rows that were lacking.
        scalings: How each modality's table is reduced.
        generator: With the weights that generated the rows.
    """

    completed: Completed
    scalings: Mapping[str, Scaling]
    generator: ModalityGenerator


class Pretraining:
    """Trains a generator on what is known of the items, and generates what is not.

    Args:
        truth: Modality to reduced rows, shape ``[items, width]``; those that are not known are
            looked at only to judge, where they are hidden.
        known: Modality to whether a row is learnt from.
        hidden: Modality to whether a row is judged by.
        parameters: How it is trained.
    """

    def __init__(
        self,
        truth: Mapping[str, Tensor],
        known: Mapping[str, NDArray[np.bool_]],
        hidden: Mapping[str, NDArray[np.bool_]],
        parameters: Diffusion.Parameters,
    ) -> None:
        self.truth, self.parameters = truth, parameters
        self.known = {name: torch.from_numpy(mask) for name, mask in known.items()}
        self.hidden = {name: torch.from_numpy(mask) for name, mask in hidden.items()}
        self.tables = {name: rows * self.known[name][:, None] for name, rows in truth.items()}
        self.generator = generator_of(
            {name: rows.shape[1] for name, rows in truth.items()}, parameters
        )

    def run(self, progress: Progress) -> dict[str, Tensor]:
        """Train, and return the tables with their gaps filled as in the best epoch: that with the
        least error on hidden rows, else the last. The generator has the weights of that epoch."""
        settings = self.parameters
        optimizer = without_compiler(torch.optim.Adam)(
            self.generator.parameters(), settings.learning_rate
        )
        best, least = dict(self.tables), float("inf")
        weights = self.generator.state_dict()
        for epoch in range(settings.epochs):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _DECAY ** (epoch // _DECAY_EPOCHS)
            self._train(optimizer)
            last = epoch + 1 == settings.epochs
            if last or (epoch + 1) % settings.refresh_every == 0:
                self._refresh()
                error = self._error()
                if error <= least or not any(mask.any() for mask in self.hidden.values()):
                    best, least = {name: of.clone() for name, of in self.tables.items()}, error
                    weights = copy.deepcopy(self.generator.state_dict())
            progress("pretrain diffusion", epoch + 1, settings.epochs)
        self.generator.load_state_dict(weights)
        return best

    def _train(self, optimizer: torch.optim.Optimizer) -> None:
        items = torch.randperm(len(next(iter(self.truth.values()))))
        for batch in torch.split(items, self.parameters.batch_size):
            optimizer.zero_grad()
            diffusion, reconstruction = self.generator.losses(
                {name: table[batch] for name, table in self.tables.items()},
                {name: mask[batch] for name, mask in self.known.items()},
            )
            loss = diffusion + reconstruction
            if loss.requires_grad:
                loss.backward()
                optimizer.step()

    def _refresh(self) -> None:
        """Generate what is not known, from the tables as they are."""
        made = {}
        for name, known in self.known.items():
            made[name] = [
                self.generator.generated(name, {of: t[items] for of, t in self.tables.items()})
                for items in torch.split((~known).nonzero()[:, 0], _ROWS_AT_ONCE)
                if len(items)
            ]
        for name, known in self.known.items():
            if made[name]:
                self.tables[name][~known] = torch.cat(made[name])

    def _error(self) -> float:
        """Mean squared error on the hidden rows, summed over the modalities."""
        return sum(
            (self.tables[name] - rows)[self.hidden[name]].square().mean().item()
            for name, rows in self.truth.items()
            if self.hidden[name].any()
        )


def generator_of(widths: Mapping[str, int], parameters: Diffusion.Parameters) -> ModalityGenerator:
    """A generator as the parameters have it, for tables of these reduced widths."""
    return ModalityGenerator(
        widths, CHANNELS[parameters.size], parameters.positions, parameters.sampling_steps
    )


def _held_out(
    observed: Mapping[str, NDArray[np.bool_]], share: float, random: np.random.Generator
) -> dict[str, NDArray[np.bool_]]:
    """Rows that are there and are hidden on purpose: of items that have another modality, so that
    something tells of them, and never all."""
    hidden = {}
    taken = np.zeros_like(next(iter(observed.values())))
    for name, mask in observed.items():
        others = np.logical_or.reduce([of for other, of in observed.items() if other != name])
        candidates = random.permutation(np.flatnonzero(mask & others & ~taken))
        hidden[name] = np.zeros_like(mask)
        hidden[name][candidates[: int(share * mask.sum())]] = True
        taken |= hidden[name]
    return hidden


def relative_error(made: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Root of the mean squared error over the deviation about the mean, 1 for the mean itself."""
    deviation = np.sqrt(np.square(truth - truth.mean(axis=0)).mean())
    error = np.sqrt(np.square(made - truth).mean())
    return float(error / deviation) if deviation > 0 else float(error)
