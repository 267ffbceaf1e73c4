"""Edge dropout: every loss sees the model's graphs with some edges missing."""

from __future__ import annotations

import torch
from torch import Tensor

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.models.graph import SparseGraph
from mgstudy.models.propagation import entries_scaled
from mgstudy.training.gradient.base import LossClosure
from mgstudy.training.robust.base import BatchContext, RobustMethod
from mgstudy.training.robust.reach import Reach


class EdgeDropout(RobustMethod):
    """Edge dropout (SGL's ED; Wu et al., SIGIR 2021, eq. 5), as a perturbation of the main loss.

    For every loss each edge of each graph is left out with a given ``probability``, in both
    directions and in all layers alike, and the rest are multiplied by 1 / (1 − probability), so
    that a propagation keeps its expected value. SGL normalises the thinned graph anew instead and
    adds a contrast between two of them; here the model's own loss is computed on one. It acts on
    item graphs as on the user-item graph, and on graphs that the model itself pruned. With
    ``probability = 0`` the loss is left as it is.

    Cost: 1 forward-and-backward pass per loss.
    """

    name = "edge_dropout"
    needs = (Reach.EDGES,)

    class Parameters(ParameterSet):
        """Edge dropout's only setting, with SGL's default."""

        probability: float = parameter(
            0.1, "share of the edges left out", ge=0, lt=1, space=(0.1, 0.2, 0.3)
        )

    parameters: Parameters

    def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
        if self.parameters.probability == 0:
            return loss

        def on_thinned_graphs() -> Tensor:
            factors: dict[SparseGraph, Tensor] = {}

            def factors_of(graph: SparseGraph) -> Tensor:
                if graph not in factors:
                    factors[graph] = _draw_factors(graph, self.parameters.probability)
                return factors[graph]

            with entries_scaled(factors_of):
                return loss()

        return on_thinned_graphs


def _draw_factors(graph: SparseGraph, probability: float) -> Tensor:
    drawn = torch.rand(len(graph), device=graph.values.device)
    if graph.symmetric:
        # Both directions of an edge follow what was drawn for the one above the diagonal.
        drawn = torch.where(graph.entry_rows <= graph.columns, drawn, drawn[graph.transpose_order])
    return (drawn >= probability).to(graph.values.dtype).div_(1.0 - probability)
