"""How the loss is made robust: the interface of every robust training method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mgstudy.config.parameters import ParameterSet
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.models.base import Batch, Recommender
from mgstudy.registry import Registry
from mgstudy.training.gradient.base import LossClosure
from mgstudy.training.robust.reach import Reach, reach_of


@dataclass(frozen=True)
class BatchContext:
    """Where in the training a loss is computed.

    Attributes:
        batch: The current batch.
        epoch: 0-based epoch.
    """

    batch: Batch
    epoch: int


class RobustMethod(ABC):
    """Wraps the closure of a batch's loss into one that trains for robustness.

    It reaches a model only through what every model has: its item features
    (``ItemFeatures.transformed``), its graphs (``entries_scaled``), its inner signals
    (``signals_transformed``), its parameters and the closure. It knows no model.

    A gradient strategy that calls the closure more than once per batch (Mirror Gradient, SAM) gets
    fresh noise and a fresh adversary on every call, each computed at the weights of that call.

    Args:
        model: The model that is trained.
        parameters: An instance of the class's ``Parameters``; its defaults when left out.

    Raises:
        InputError: If the method cannot act on the model; see ``refusal``.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[Reach, ...]] = ()
    """What a model's loss must pass through for the method to act on it."""
    modalities_needed: ClassVar[int] = 0
    """How many modalities a dataset must have."""

    class Parameters(ParameterSet):
        """The method's own settings."""

    def __init__(self, model: Recommender, parameters: ParameterSet | None = None) -> None:
        refusal = self.refusal(type(model), model.dataset)
        if refusal is not None:
            raise InputError(refusal)
        self.model = model
        self.parameters = self.Parameters() if parameters is None else parameters

    @classmethod
    def refusal(cls, model: type[Recommender], dataset: Dataset | None = None) -> str | None:
        """Why this method cannot act on ``model``, or ``None`` when it can.

        Args:
            model: The model's class; nothing of it needs to be built or trained for this.
            dataset: What it is to be trained on; without, that is not looked at.
        """
        if not model.trainable:
            return f"{cls.name} makes training robust, and {model.name} is not trained"
        if dataset is not None and len(dataset.features) < cls.modalities_needed:
            return (
                f"{cls.name} needs {cls.modalities_needed} or more modalities, "
                f"dataset {dataset.name!r} has {len(dataset.features)}"
            )
        try:
            missing = [need for need in cls.needs if need not in reach_of(model)]
        except InputError as error:
            return str(error)
        if missing:
            return f"{cls.name} needs {missing[0].value}, which the loss of {model.name} has not"
        return None

    @classmethod
    def prepared(cls, dataset: Dataset, parameters: ParameterSet) -> Dataset:
        """The data to build, train and evaluate the model on; by default ``dataset`` itself."""
        return dataset

    @abstractmethod
    def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
        """Return a closure of the robust loss on the same batch; ``loss`` itself, untouched, in a
        neutral setting."""

    @classmethod
    def computations_per_loss(cls, parameters: ParameterSet) -> float:
        """Forward-and-backward passes that one call of the wrapped closure costs."""
        return 1.0

    def state_dict(self) -> Mapping[str, Any]:
        """What a checkpoint needs to continue exactly."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict()``."""


def compose(
    methods: Sequence[RobustMethod], loss: LossClosure, context: BatchContext
) -> LossClosure:
    """Wrap ``loss`` in every method, the first one innermost.

    A method that computes several losses (an adversary, R-Drop) thus sees the noise of those before
    it in the list, drawn anew for each. What the later ones change in the features they change
    first.
    """
    for method in methods:
        loss = method.wrap(loss, context)
    return loss


def prepare_dataset(
    methods: Iterable[tuple[type[RobustMethod], ParameterSet]], dataset: Dataset
) -> Dataset:
    """Let every method prepare the data, in order, before a model is built on it."""
    for method, parameters in methods:
        dataset = method.prepared(dataset, parameters)
    return dataset


robust_methods: Registry[RobustMethod] = Registry(
    kind="robust method",
    base=RobustMethod,  # type: ignore[type-abstract]
    package="mgstudy.training.robust",
    entry_point_group="mgstudy.robust_methods",
)
"""Every robust training method that is installed."""
