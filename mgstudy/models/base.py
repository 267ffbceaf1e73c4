"""What every recommender model is: a loss on a batch and a full ranking of the items."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from mgstudy.config.parameters import ParameterSet, Space, Value, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.models.item_features import ItemFeatures
from mgstudy.models.layers import xavier_uniform_embedding
from mgstudy.models.rows import gather_rows
from mgstudy.registry import Registry

Scorer: TypeAlias = Callable[[Tensor], Tensor]
"""From user ids, int64 of shape ``[n]``, to their scores of all items, shape ``[n, items]``.
The tensor is made for the caller, who may overwrite it, and who may call from several threads."""


class ModalityNeed(Enum):
    """How many of a dataset's modalities a model can work with."""

    NONE = "none: learns from interactions alone"
    ANY = "one or more"
    TWO_OR_MORE = "two or more"

    def minimum(self) -> int:
        return {"NONE": 0, "ANY": 1, "TWO_OR_MORE": 2}[self.name]


@dataclass(frozen=True)
class Paper:
    """Where a method was published."""

    title: str
    authors: str
    venue: str
    year: int
    url: str


@dataclass(frozen=True)
class Batch:
    """Training pairs, with a sampled negative item each where the model wants one.

    Attributes:
        users: int64, shape ``[rows]``.
        positives: int64, shape ``[rows]``: an item the user interacted with.
        negatives: int64, shape ``[rows]``, or ``None``: an item the user did not interact with.
        nominal_size: The configured batch size. The last batch of an epoch has fewer rows; some
            published losses divide by the nominal size even then.
    """

    users: Tensor
    positives: Tensor
    negatives: Tensor | None
    nominal_size: int

    def __len__(self) -> int:
        return len(self.users)

    def rows(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The rows of the batch's users, positives and negatives, each ``[rows, width]``, of a
        table of all users and one of all items."""
        assert self.negatives is not None
        return (
            gather_rows(users, self.users),
            gather_rows(items, self.positives),
            gather_rows(items, self.negatives),
        )

    def nodes(self, user_count: int) -> Tensor:
        """Users, positives and negatives in a row as nodes of the user-item graph, where items
        come after all users: int64, shape ``[3 * rows]``, or ``[2 * rows]`` without negatives."""
        items = [self.positives] if self.negatives is None else [self.positives, self.negatives]
        return torch.cat([self.users, *(rows + user_count for rows in items)])


def train_features_parameter() -> Any:
    """The parameter ``train_features``, for a model whose published code trains its copy of the
    features (``freeze=False``)."""
    return parameter(
        True,
        "train a copy of the feature tables, as published; costs their size four times over "
        "(values, gradient and two optimizer moments)",
    )


class Recommender(nn.Module, ABC):
    """A model: built from a dataset, it gives a loss on a batch and scores of all items.

    A subclass in its own file under ``mgstudy/models/`` is found by its ``name``; nothing else has
    to be edited. All randomness (initial weights, dropout) comes from torch's global generator,
    which the caller seeds.

    Args:
        dataset: What to learn from. Graphs come from ``dataset.train`` and, for item graphs,
            ``dataset.features``, through ``dataset.derived`` so that trials share them.
        parameters: An instance of the class's ``Parameters``.
    """

    name: ClassVar[str]
    paper: ClassVar[Paper | None] = None
    modality_need: ClassVar[ModalityNeed] = ModalityNeed.NONE
    samples_negatives: ClassVar[bool] = True
    """Whether a training batch carries sampled negatives; without, it is pairs only."""
    trainable: ClassVar[bool] = True
    """False for a method without training, which is only evaluated."""
    reconstructed_from: ClassVar[str | None] = None
    """What a model was rebuilt from whose paper could not be had, such as its title. Every table
    marks its name (``mgstudy.report.table``), since its numbers say nothing of the paper's model;
    a label that a study gives it begins with its name."""
    reads_order: ClassVar[bool] = False
    """Whether it reads the order, times or ratings of users' interactions
    (``mgstudy.data.histories``). To others a study hands users and items alone, and ``mgstudy
    plan`` says of this one where a dataset's order is not to be had, or tells too much."""
    optimizer_spaces: ClassVar[Mapping[str, Space]] = {}
    """Published optimizer settings that differ from the optimizer's own defaults, by name."""
    tried_with: ClassVar[Mapping[str, Value]] = {}
    """Parameters to try the model out with on a few users and items, where the defaults need what
    may not be there, such as a language model."""
    given: ClassVar[tuple[str, ...]] = ()
    """Submodules whose weights come from elsewhere and stay as they are but for what requires a
    gradient. They are read again wherever the model is built, so they are in no checkpoint."""

    class Parameters(ParameterSet):
        """Hyper-parameters with the published defaults and search spaces."""

    def __init__(self, dataset: Dataset, parameters: ParameterSet) -> None:
        super().__init__()
        refusal = self.refusal(dataset)
        if refusal is not None:
            raise InputError(refusal)
        self.dataset = dataset
        self.features = ItemFeatures(
            {} if self.modality_need is ModalityNeed.NONE else dataset.features,
            trained=getattr(parameters, "train_features", False),
        )
        self.register_state_dict_post_hook(_leave_out_given)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_add_given)  # type: ignore[no-untyped-call]

    @classmethod
    def refusal(cls, dataset: Dataset) -> str | None:
        """Why this model cannot work with ``dataset``, or ``None`` when it can."""
        needed, given = cls.modality_need.minimum(), len(dataset.features)
        if given >= needed:
            return None
        return (
            f"{cls.name} needs {needed} or more modalities, "
            f"dataset {dataset.name!r} has {given} ({', '.join(dataset.features) or 'none'})"
        )

    @classmethod
    def without_effect(cls, dataset: Dataset, fixed: Mapping[str, Value]) -> Mapping[str, Value]:
        """Parameters that change nothing on ``dataset`` where others are ``fixed``, with the value
        that stands for all: a study does not search them there."""
        return {}

    @classmethod
    def cost(cls, dataset: Dataset, parameters: ParameterSet, pairs: int) -> str | None:
        """What an epoch of so many training pairs and a validation cost, in words, where it is out
        of the ordinary: ``mgstudy plan`` says it."""
        return None

    def trained_parameters(self) -> list[nn.Parameter]:
        """What an optimizer is to step."""
        return [weight for weight in self.parameters() if weight.requires_grad]

    def given_weights(self) -> dict[str, Tensor]:
        """What is ``given`` and not trained, by its name in the model."""
        return {
            f"{module}.{name}": weight
            for module in self.given
            for name, weight in self.get_submodule(module).named_parameters(remove_duplicate=False)
            if not weight.requires_grad
        }

    def before_epoch(self, epoch: int) -> None:
        """Do what the published code does at the start of an epoch (0-based), such as pruning. A
        loss may be computed without: a trained model's, or to try a model out."""

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """The training loss on one batch: a scalar that gradients flow from."""

    @abstractmethod
    def scorer(self) -> Scorer:
        """Compute what ranking needs once, with the current weights, and return the scoring
        function. Called in evaluation mode and without gradients."""


def _leave_out_given(model: Recommender, state: dict[str, Any], prefix: str, _: Any) -> None:
    for name in model.given_weights():
        state.pop(prefix + name, None)


def _add_given(model: Recommender, state: dict[str, Any], prefix: str, *_: Any) -> None:
    state.update({prefix + name: weight for name, weight in model.given_weights().items()})


class EmbeddingRecommender(Recommender):
    """A model whose score is the dot product of a user's and an item's representation."""

    @abstractmethod
    def representations(self) -> tuple[Tensor, Tensor]:
        """User and item representations, shapes ``[users, width]`` and ``[items, width]``."""

    def scorer(self) -> Scorer:
        users, items = self.representations()
        items_transposed = items.t().contiguous()
        return lambda user_ids: users[user_ids] @ items_transposed

    def split_nodes(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of all users and those of all items, given a row per node, users first."""
        user_count = self.dataset.user_count
        return nodes[:user_count], nodes[user_count:]


class GraphRecommender(EmbeddingRecommender):
    """A model whose users and items start from trained embeddings of the same width: the nodes of
    the user-item graph."""

    class Parameters(ParameterSet):
        """Hyper-parameters of such a model; a subclass's own follow these."""

        embedding_size: int = parameter(64, "columns of the embeddings", ge=1)

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        size = parameters.embedding_size
        self.user_embedding = xavier_uniform_embedding(dataset.user_count, size)
        self.item_embedding = xavier_uniform_embedding(dataset.item_count, size)

    def embeddings(self) -> Tensor:
        """The embeddings of all nodes, users first, shape ``[users + items, size]``."""
        return torch.cat([self.user_embedding, self.item_embedding])


class UntrainedRecommender(Recommender):
    """A model without training: it has no parameters to learn and no loss."""

    trainable = False

    def loss(self, batch: Batch) -> Tensor:
        raise TypeError(f"{self.name} has no loss: it is not trained")


models: Registry[Recommender] = Registry(
    kind="model",
    base=Recommender,  # type: ignore[type-abstract]
    package="mgstudy.models",
    entry_point_group="mgstudy.models",
)
"""Every model that is installed."""
