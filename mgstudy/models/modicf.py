"""MoDiCF: relevance weighed by an item's visibility, which is taken out again when ranking."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.features.completions.diffusion import Diffusion
from mgstudy.models.base import Batch, GraphRecommender, ModalityNeed, Paper
from mgstudy.models.interaction_graphs import one_sided_blocks
from mgstudy.models.item_features import ItemFeatures
from mgstudy.models.joint_completion import JointCompletion
from mgstudy.models.layers import linear
from mgstudy.models.losses import bpr_loss, dot_products, half_squared_sum, sum_over_products
from mgstudy.models.propagation import propagate
from mgstudy.models.similar_items import SimilarItems

_LOGARITHM_EPSILON = 1e-8


class MoDiCF(GraphRecommender):
    """Modality-diffused counterfactual framework (Li et al., WWW 2025), from the equations of its
    published code, on completed features: ``completion: diffusion`` is its first stage.

    *Relevance* y is the dot product of a user's and an item's representation: the mean of the
    embeddings and two propagations, the second of which is soft-maxed over its columns, plus
    ``feature_weight`` times the unit rows of every modality's encoded features, propagated to users
    and back. *Visibility* s is a score of the item's features alone, from encoders of its own.
    Training ranks y·σ(s), so that visibility takes up what features alone explain::

        L = BPR(y_p σ(s_p) − y_n σ(s_n)) + visibility_weight · BPR(s_p − s_n)
            + regularization · ½ Σ ‖batch's representations‖² / batch size
            + feature_regularization · ½ Σ_m (‖U_m‖² + ‖Y_m‖²) / items
            + contrast_weight · L_con

    Ranking takes visibility out again: (y − ``reference``)·σ(s). The larger the reference, the
    more are items pushed down that are visible; 0 leaves them where training has them.

    Differences from the published code:

    * Its graphs of users and items by modality are empty from the fourth batch on, so its
      ``identity_weight``, its attention and its contrast act on nothing: ``modality_graph =
      "none"``. "interactions" has the training interactions in their place (ASSUMED), which is the
      full model; "refreshed" what seems to be intended (ASSUMED): from the second epoch on, each
      user's most similar new items by the modality's propagated features, one for every 10,000
      items of the catalogue and at least one, found anew before every epoch.
    * Its attention over modalities is the mean, by a slip. ``compatibility = "published"`` keeps
      that; "corrected" lets modalities attend to each other. They are equal where all modalities
      have the same graph, as under "interactions".
    * The features are completed before and stay as they are, unless ``joint``: then the diffusion,
      trained for itself first, goes on learning beside the recommender, with losses that share
      nothing with the recommender's (+ L_diff + ``reconstruction_weight`` · L_rec), and generates
      the gaps anew before every epoch but the first, whatever the study's ``completion``. Its
      losses are of ``joint_items`` items drawn for each batch; published are all, which for 7,000
      items takes 1.5 hours an epoch on one core. Only what is lacking is generated, without the
      step on the decoder that the published code takes after an epoch.
    * Batches and negatives are those of every model here; the published ones are random users with
      a positive each, and negatives from all items.
    * The reference is chosen on validation, like any parameter; the published code's loop over it
      judges on the test.

    The defaults are a preset for processors: an epoch of 44,000 pairs of Last.fm-2K in batches of
    8,192, with its validation, takes 1.6 s of one core. Published are 256 columns, ``joint`` with
    ``generator = "published"`` and all items in a batch: 200 s an epoch on a V100 for Amazon Baby
    (the log of a fork), some hours on a core.
    """

    name = "MoDiCF"
    paper = Paper(
        title="Generating with Fairness: A Modality-Diffused Counterfactual Framework for "
        "Incomplete Multimodal Recommendations",
        authors="Li, Wang, Zhang, Yu, Chen",
        venue="WWW",
        year=2025,
        url="https://arxiv.org/abs/2501.11916",
    )
    modality_need = ModalityNeed.ANY

    class Parameters(GraphRecommender.Parameters):
        heads: int = parameter(8, "heads of the attention over modalities", ge=1)
        feature_layers: int = parameter(2, "propagations of the features, there and back", ge=1)
        visibility_weight: float = parameter(
            0.7, "weight of the ranking by visibility alone", ge=0, space=(0.3, 0.5, 0.7)
        )
        feature_weight: float = parameter(
            0.4, "weight of the features in a representation", ge=0, space=(0.3, 0.4)
        )
        identity_weight: float = parameter(
            0.7, "weight of what modality graphs add to the embeddings", ge=0
        )
        contrast_weight: float = parameter(
            0.09, "weight of the contrast of modality graphs and users", ge=0
        )
        temperature: float = parameter(0.5, "divides the contrast's cosines", gt=0)
        regularization: float = parameter(1e-5, "weight of the squared representations", ge=0)
        feature_regularization: float = parameter(1e-5, "weight of the squared features", ge=0)
        reference: float = parameter(
            0.01,
            "relevance at which visibility is taken out of the ranking",
            ge=0,
            space=(0.0, 0.01, 1.0, 20.0),
        )
        modality_graph: Literal["none", "interactions", "refreshed"] = parameter(
            "none", "graphs of users and items by modality; none is what is published in effect"
        )
        joint: bool = parameter(
            False, "go on training the diffusion that completes features; needs two modalities"
        )
        generator: Literal["small", "published"] = parameter(
            "small", "size and first training of the diffusion, where joint"
        )
        reconstruction_weight: float = parameter(
            1.0, "weight of the diffusion's reconstruction, where joint", ge=0
        )
        joint_items: int = parameter(
            512, "items in a batch that the diffusion learns from, where joint; 0 for all", ge=0
        )
        compatibility: Literal["corrected", "published"] = parameter(
            "corrected", "published: the attention over modalities is their mean"
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        self.settings = parameters
        size = parameters.embedding_size
        if size % parameters.heads:
            raise InputError(
                f"{self.name}: embedding_size {size} is not divisible by {parameters.heads} heads"
            )
        self.to_users, self.to_items = one_sided_blocks(dataset)
        self.encoders = _encoders(self.features, size, "xavier_uniform")
        self.attention = None
        if parameters.modality_graph != "none":
            corrected = parameters.compatibility == "corrected"
            self.attention = ModalityAttention(size, parameters.heads, corrected)
        self.visibility_encoders = _encoders(self.features, size)
        joined = size * len(self.features.modalities)
        self.visibility = nn.Sequential(linear(joined, size), nn.LeakyReLU(), linear(size, 1))
        self.similar = None
        if parameters.modality_graph == "refreshed":
            self.similar = SimilarItems(dataset, len(self.features.modalities))
        self.completion = None
        if parameters.joint:
            reason = Diffusion.refusal(dataset)
            if reason is not None:
                raise InputError(f"{self.name}, joint: {reason}")
            small = parameters.generator == "small"
            diffusion = Diffusion() if small else Diffusion.published()
            self.completion = JointCompletion(
                dataset, self.features, diffusion, parameters.joint_items
            )

    def before_epoch(self, epoch: int) -> None:
        if self.completion is not None:
            if epoch == 0:
                self.completion.begin()
            else:
                self.completion.refresh()
        if self.similar is not None and epoch > 0:
            with torch.no_grad():
                self.similar.find(self._features())

    def loss(self, batch: Batch) -> Tensor:
        assert batch.negatives is not None
        settings = self.settings
        sides = self._features()
        graphs = self._modality_sides()
        all_users, all_items = self._joined(sides, graphs)
        users, positives, negatives = batch.rows(all_users, all_items)
        visible, other = self._visibility(torch.cat([batch.positives, batch.negatives])).chunk(2)
        total = bpr_loss(
            dot_products(users, positives) * visible.sigmoid(),
            dot_products(users, negatives) * other.sigmoid(),
        )
        total = total + settings.visibility_weight * bpr_loss(visible, other)
        squared = half_squared_sum(users, positives, negatives) / batch.nominal_size
        total = total + settings.regularization * squared
        squared = half_squared_sum(*(side for pair in sides for side in pair))
        total = total + settings.feature_regularization * squared / self.dataset.item_count
        if graphs is not None and settings.contrast_weight > 0:
            total = total + settings.contrast_weight * self._contrast(graphs, all_users)
        if self.completion is not None:
            diffusion, reconstruction = self.completion.losses()
            total = total + diffusion + settings.reconstruction_weight * reconstruction
        return total

    def representations(self) -> tuple[Tensor, Tensor]:
        """So that a dot product is (y − reference)·σ(s): users have a column of ones, and items
        what the reference costs them."""
        users, items = self._joined(self._features(), self._modality_sides())
        shown = self._visibility(None).sigmoid()[:, None]
        ones = users.new_ones(len(users), 1)
        taken_out = -self.settings.reference * shown
        return torch.cat([users, ones], dim=1), torch.cat([items * shown, taken_out], dim=1)

    def _features(self) -> list[tuple[Tensor, Tensor]]:
        """Every modality's features of users and of items, after the last propagation."""
        sides = []
        for modality, encoder in self.encoders.items():
            items = functional.leaky_relu(encoder(self.features.rows(modality)))
            for _ in range(self.settings.feature_layers):
                users = propagate(self.to_users, items)
                items = propagate(self.to_items, users)
            sides.append((users, items))
        return sides

    def _modality_sides(self) -> tuple[Tensor, Tensor] | None:
        """What each modality's graph makes of the embeddings, for users and for items, shape
        ``[modalities, rows, size]``; ``None`` without such graphs."""
        if self.attention is None:
            return None
        found = None if self.similar is None else self.similar.graphs()
        graphs = found or [(self.to_users, self.to_items)]
        users, items = zip(
            *(
                (propagate(to_users, self.item_embedding), propagate(to_items, self.user_embedding))
                for to_users, to_items in graphs
            ),
            strict=True,
        )
        count = len(self.features.modalities)
        return torch.stack(users).expand(count, -1, -1), torch.stack(items).expand(count, -1, -1)

    def _joined(
        self, sides: list[tuple[Tensor, Tensor]], graphs: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Representations of all users and all items."""
        users: Tensor = self.user_embedding
        items: Tensor = self.item_embedding
        if graphs is not None and self.attention is not None:
            weight = self.settings.identity_weight
            users = users + weight * functional.normalize(self.attention(graphs[0]))
            items = items + weight * functional.normalize(self.attention(graphs[1]))
        next_users = propagate(self.to_users, items)
        next_items = propagate(self.to_items, next_users)
        last_users = propagate(self.to_users, next_items).softmax(dim=1)
        last_items = propagate(self.to_items, last_users).softmax(dim=1)
        users = (users + next_users + last_users) / 3
        items = (items + next_items + last_items) / 3
        for of_users, of_items in sides:
            users = users + self.settings.feature_weight * functional.normalize(of_users)
            items = items + self.settings.feature_weight * functional.normalize(of_items)
        return users, items

    def _visibility(self, items: Tensor | None) -> Tensor:
        """s of these items, or of all, shape ``[items]``."""
        encoded = [
            functional.leaky_relu(encoder(self.features.rows(modality, items)))
            for modality, encoder in self.visibility_encoders.items()
        ]
        score: Tensor = self.visibility(torch.cat(encoded, dim=1))[:, 0]
        return score

    def _contrast(self, graphs: tuple[Tensor, Tensor], users: Tensor) -> Tensor:
        """Each modality's view of a user against the user, all other users and their views."""
        users = functional.normalize(users)
        total = users.new_zeros(())
        for view in graphs[0]:
            views = functional.normalize(view)
            total = total + sum_over_products(self._lost, [views, views], [views, users])
        return total / len(users)

    def _lost(
        self, span: slice, among_views: Tensor, among_users: Tensor
    ) -> Iterable[tuple[Tensor, Tensor]]:
        """The sum over a block of views and its gradient by either product."""
        temperature = self.settings.temperature
        views, users = (x.div_(temperature).exp_() for x in (among_views, among_users))
        # A view's product with itself is no pair.
        views.diagonal(span.start).zero_()
        fits = users.diagonal(span.start).clone()
        normalizers = views.sum(dim=1) + users.sum(dim=1)
        shares = fits / normalizers
        by_fits = -1 / ((shares + _LOGARITHM_EPSILON) * normalizers * temperature)
        by_normalizers = -(by_fits * shares)[:, None]
        yield -(shares + _LOGARITHM_EPSILON).log().sum(), views.mul_(by_normalizers)
        users.mul_(by_normalizers).diagonal(span.start).add_(fits * by_fits)
        yield users.new_zeros(()), users


class ModalityAttention(nn.Module):
    """Joins what the modalities' graphs say, by heads in which modalities attend to each other.

    Args:
        size: Columns.
        heads: Heads; each keeps the full width.
        corrected: Whether modalities attend; the published code takes their mean by a slip.
    """

    def __init__(self, size: int, heads: int, corrected: bool) -> None:
        super().__init__()
        self.heads = heads
        self.join = nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads * size, size)))
        self.query = self.key = None
        if corrected:
            self.query = nn.Parameter(nn.init.xavier_uniform_(torch.empty(size, size)))
            self.key = nn.Parameter(nn.init.xavier_uniform_(torch.empty(size, size)))

    def forward(self, sides: Tensor) -> Tensor:
        """From ``[modalities, rows, size]`` to ``[rows, size]``."""
        size = sides.shape[2]
        blocks = self.join.view(self.heads, size, size)
        if self.query is None or self.key is None:
            return sides.mean(dim=0) @ blocks.sum(dim=0)
        queries, keys = (
            (sides @ weight).view(*sides.shape[:2], self.heads, size // self.heads)
            for weight in (self.query, self.key)
        )
        scores = torch.einsum("mnhd,knhd->hmnk", queries, keys) / (size // self.heads) ** 0.5
        attended = torch.einsum("hmnk,knd->hmnd", scores.softmax(dim=3), sides).mean(dim=1)
        return torch.einsum("hnd,hde->ne", attended, blocks)


def _encoders(features: ItemFeatures, size: int, weight: str = "default") -> nn.ModuleDict:
    """For each modality two maps, through half its columns; the last activation is the caller's."""
    encoders = {}
    for modality in features.modalities:
        width = features.width(modality)
        hidden = max(1, min(width // 2, size))
        encoders[modality] = nn.Sequential(
            linear(width, hidden, weight),
            nn.LeakyReLU(),
            linear(hidden, size, weight, of_features=True),
        )
    return nn.ModuleDict(encoders)
