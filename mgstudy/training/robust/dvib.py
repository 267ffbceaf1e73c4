"""DVIB: projected features with noise and without, both trained, made to agree."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.errors import InputError
from mgstudy.models.base import EmbeddingRecommender, Recommender
from mgstudy.models.rows import gather_rows
from mgstudy.models.signals import Signal, signals_noted, signals_transformed
from mgstudy.training.checkpoint import seeded
from mgstudy.training.gradient.base import LossClosure
from mgstudy.training.robust.base import BatchContext, RobustMethod
from mgstudy.training.robust.reach import Reach, first_batch

_HIDDEN_UNITS = 32
_LEAST_NOISE = 1e-6
_PRIOR = 0.5
_BOTTLENECK_WEIGHT = 0.001


class DVIB(RobustMethod):
    """Variational information bottleneck distillation (Zhao et al., WWW 2025), from the equations
    of its published code.

    With h a projection of item features, h̃ = h + ς·n, n ~ N(0, I), and both branches with gradient
    and the same dropout, the loss L becomes::

        scale · (1 − weight) · (L(h) + L(h̃)) + weight · JS     (form "adaptive": + 0.001 · KL)

    and scores are made of h alone.

    * ``form``: "constant" has ς = ``noise``. "adaptive" learns ς_i = σ(net(h_i)) for every row,
      with a net of layers 32, 32, 1 for each projection, and adds the mean of
      ln(½/ς) + (ς² + h²)/½ − ½, summed over projections. Which is the paper's headline is not said;
      ASSUMED: the constant.
    * ``divergence``: "jensen_shannon" is the divergence between softmax distributions of the two
      branches. "published" is what the code computes: probabilities that are soft-maxed a second
      time, and the arguments of the divergence exchanged. That is no distance but nearly
      ln(classes) minus the entropy of the mean, a penalty on confidence, and does not vanish
      without noise.
    * ``compare``: the distributions are over all items, by the batch users' "scores", or over the
      columns of each "projection" (summed over projections). Published: scores for VBPR, GRCN and
      MMGCN, projections for FREEDOM and BM3.

    For VBPR this is the published combination. Elsewhere it differs:

    * FREEDOM and BM3: the code counts terms without features once. ``scale = 0.5`` with the model's
      weight of its feature terms doubled is the same, exactly. FREEDOM compares all items, here the
      batch's (ASSUMED equal in expectation up to the items' frequency); BM3 compares what its
      predictor makes of the projections, and its targets, and shares one net between modalities.
    * GRCN: noise is published on the content of users and items (adaptive, with one net for both
      modalities side by side) or on the attention weights before the confidence product, where
      noisy refined weights then lack their ReLU (constant), not on the projection. MMGCN: on the
      raw features, which is no bottleneck but a perturbed input; its nets have widths for 4,096
      and 384 columns alone, and its text's bottleneck has ς² for ς. Both double the regularisation
      and compare scores. None of this is imitated: here noise is on their projections.

    LATTICE projects features in an epoch's first batch only, where it builds its item graph: there
    alone noise, divergence and bottleneck act, and on other batches L and L̃ are equal. With
    ``compare = "scores"`` the divergence and the bottleneck act on every batch, since scores are of
    a graph built anew.

    At the smallest noises L and L̃ are nearly equal: what is left is the factor 2·(1 − weight) and,
    as published, the penalty on confidence.

    Cost: 2 forward-and-backward passes per loss; with ``compare = "scores"`` also two of the batch
    users' scores of all items.
    """

    name = "dvib"
    needs = (Reach.PROJECTIONS,)

    class Parameters(ParameterSet):
        """DVIB's settings, with the published grids."""

        weight: float = parameter(
            0.1, "share of the divergence in the loss", ge=0, le=1, space=(0.5, 0.1, 0.01)
        )
        noise: float = parameter(
            0.01,
            "standard deviation of the noise in form constant, in the projection's own unit",
            ge=0,
            space=(1e-1, 1e-2, 1e-3, 5e-4, 1e-4),
        )
        form: Literal["constant", "adaptive"] = parameter("constant", "how large the noise is")
        divergence: Literal["jensen_shannon", "published"] = parameter(
            "jensen_shannon", "published: with its two slips, a penalty on confidence"
        )
        compare: Literal["scores", "projection"] = parameter(
            "projection", "what is compared: the batch users' scores of all items, or projections"
        )
        scale: float = parameter(
            1.0, "factor of both losses; 0.5 where terms without features are to count once", gt=0
        )

    parameters: Parameters

    def __init__(self, model: Recommender, parameters: ParameterSet | None = None) -> None:
        super().__init__(model, parameters)
        if self.parameters.compare == "scores" and not isinstance(model, EmbeddingRecommender):
            raise InputError(
                f"{self.name} cannot compare scores of {model.name}, which are no dot products; "
                "set `compare: projection`"
            )
        self.nets: Sequence[nn.Module] = ()
        if self.parameters.form == "adaptive":
            # Of the model, so that the optimizer trains them and checkpoints hold them.
            model.dvib_nets = nn.ModuleList(map(noise_net, _projection_widths(model)))
            self.nets = list(model.dvib_nets)

    def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
        settings = self.parameters
        if self._is_neutral(settings):
            return loss
        divergence = DIVERGENCES[settings.divergence]

        def distilled() -> Tensor:
            device = context.batch.users.device
            # A generator of its own for the noise lets both passes draw the same dropout.
            noise = torch.Generator(device).manual_seed(int(torch.randint(2**62, ())))
            with (
                torch.random.fork_rng([device] if device.type == "cuda" else []),
                signals_noted(Signal.PROJECTION) as clean,
            ):
                value, scores = loss(), self._scores(context)
            with self._noised(noise), signals_noted(Signal.PROJECTION) as noised:
                noisy_value, noisy_scores = loss(), self._scores(context)
            total = settings.scale * (1 - settings.weight) * (value + noisy_value)
            if scores is not None and noisy_scores is not None:
                total = total + settings.weight * divergence(scores, noisy_scores)
            else:
                for one, other in zip(clean, noised, strict=True):
                    total = total + settings.weight * divergence(one, other)
            # A loss that projects nothing has nothing to hold to the prior.
            if settings.form == "adaptive" and clean:
                # With scores, all items were projected last.
                for net, hidden in zip(self.nets, clean[-len(self.nets) :], strict=True):
                    bottleneck = information(hidden, self._deviation(net, hidden))
                    total = total + _BOTTLENECK_WEIGHT * bottleneck
            return total

        return distilled

    def _scores(self, context: BatchContext) -> Tensor | None:
        """The batch users' scores of all items, with gradient."""
        if self.parameters.compare != "scores":
            return None
        assert isinstance(self.model, EmbeddingRecommender)
        users, items = self.model.representations()
        return gather_rows(users, context.batch.users) @ items.t()

    @contextmanager
    def _noised(self, generator: torch.Generator) -> Iterator[None]:
        """Let noise act on every projection; the nets follow the order of evaluation."""
        seen = 0

        def perturbed(hidden: Tensor) -> Tensor:
            nonlocal seen
            noise = self.normal(hidden, seen, generator)
            size: Tensor | float = self.parameters.noise
            if self.parameters.form == "adaptive":
                size = self._deviation(self.nets[seen % len(self.nets)], hidden)
            seen += 1
            return hidden + size * noise

        with signals_transformed(Signal.PROJECTION, perturbed):
            yield

    def normal(self, hidden: Tensor, position: int, generator: torch.Generator) -> Tensor:
        """Standard normal numbers of a projection's shape; ``position`` counts projections."""
        return torch.randn(
            hidden.shape, generator=generator, dtype=hidden.dtype, device=hidden.device
        )

    @staticmethod
    def _deviation(net: nn.Module, hidden: Tensor) -> Tensor:
        deviation: Tensor = torch.sigmoid(net(hidden)).clamp_min(_LEAST_NOISE)
        return deviation

    @classmethod
    def computations_per_loss(cls, parameters: ParameterSet) -> float:
        assert isinstance(parameters, DVIB.Parameters)
        return 1.0 if cls._is_neutral(parameters) else 2.0

    @staticmethod
    def _is_neutral(parameters: Parameters) -> bool:
        """Whether the loss would be the mean of two equal ones."""
        half = parameters.scale == 0.5 and parameters.weight == 0
        return half and parameters.form == "constant" and parameters.noise == 0


def noise_net(width: int) -> nn.Module:
    """From a projection's row to one number, whose sigmoid is the size of the row's noise."""
    return nn.Sequential(
        nn.Linear(width, _HIDDEN_UNITS),
        nn.ReLU(),
        nn.Linear(_HIDDEN_UNITS, _HIDDEN_UNITS),
        nn.ReLU(),
        nn.Linear(_HIDDEN_UNITS, 1),
    )


def _projection_widths(model: Recommender) -> list[int]:
    """Columns of each projection that a loss of the model makes, found by computing one."""
    # What a loss leaves in a model, as LATTICE's item graph, goes with the copy.
    tried = copy.copy(model)
    device = next(model.parameters()).device
    with seeded(0, device), torch.no_grad(), signals_noted(Signal.PROJECTION) as found:
        tried.loss(first_batch(model))
    return [hidden.shape[1] for hidden in found]


def information(hidden: Tensor, deviation: Tensor) -> Tensor:
    """KL divergence of N(h, ς²) from N(0, ½²): ln(½/ς) + (ς² + h²)/½ − ½, mean over all entries.

    Args:
        hidden: h, shape ``[rows, width]``.
        deviation: ς, shape ``[rows, 1]``.
    """
    terms = (_PRIOR / deviation).log() + (deviation.square() + hidden.square()) / _PRIOR - 0.5
    return terms.mean()


def jensen_shannon(one: Tensor, other: Tensor) -> Tensor:
    """Jensen–Shannon divergence of two softmax distributions, mean over the rows.

    ½ Σ [a (ln a − ln m) + b (ln b − ln m)] with a and b the softmax of the rows and m their mean
    (Lin, IEEE Transactions on Information Theory 1991).

    Args:
        one: Logits, shape ``[rows, classes]``.
        other: Logits of the same shape.
    """
    log_a, log_b = one.log_softmax(dim=1), other.log_softmax(dim=1)
    log_m = torch.logaddexp(log_a, log_b) - math.log(2.0)
    terms = log_a.exp() * (log_a - log_m) + log_b.exp() * (log_b - log_m)
    return 0.5 * terms.sum(dim=1).mean()


def published_divergence(one: Tensor, other: Tensor) -> Tensor:
    """What DVIB's code computes in place of it: ½ Σ m [2 ln m − ln softmax(a) − ln softmax(b)].

    Args:
        one: Logits, shape ``[rows, classes]``.
        other: Logits of the same shape.
    """
    a, b = functional.softmax(one, dim=1), functional.softmax(other, dim=1)
    # Where both are rounded to 0, the logarithm would be infinite, and 0 times it no number.
    m = ((a + b) / 2).clamp_min(torch.finfo(one.dtype).tiny)
    terms = m * (2 * m.log() - a.log_softmax(dim=1) - b.log_softmax(dim=1))
    return 0.5 * terms.sum(dim=1).mean()


DIVERGENCES = {"jensen_shannon": jensen_shannon, "published": published_divergence}
"""By the names that a study file gives them."""
