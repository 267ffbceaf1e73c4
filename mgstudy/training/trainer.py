"""Train a model, one epoch at a time."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from mgstudy.config.training import TrainingSettings, parse_objective
from mgstudy.data.dataset import Dataset, as_tensor
from mgstudy.data.sampling import EpochSampler
from mgstudy.errors import InputError
from mgstudy.models.base import Batch, Recommender
from mgstudy.models.item_features import FeatureTransform
from mgstudy.training.checkpoint import random_states, set_random_states
from mgstudy.training.evaluation import Evaluator
from mgstudy.training.gradient.base import GradientStrategy, LossClosure
from mgstudy.training.metrics.groups import refusal
from mgstudy.training.optimizers.base import DECAY_EPOCHS
from mgstudy.training.results import DivergedError, EarlyStopper, EpochResult, StopReason
from mgstudy.training.robust.base import BatchContext, RobustMethod, compose


class Trainer:
    """Trains a model and keeps the weights of its best epoch.

    Iterate ``epochs()`` and stop whenever you like::

        for result in trainer.epochs():
            print(result.epoch, result.loss, result.metrics)
        trainer.restore_best()

    Two sources of randomness are used: a NumPy generator of the trainer's own for the order of the
    batches and the negatives, and torch's global ones for what models draw. With the same seeds the
    numbers are the same to the bit on the same machine, library versions and number of threads; on
    a GPU too, where nothing is summed in an order that could change (a model that cannot do without
    says so). A GPU draws and rounds differently from a processor, and from another kind of GPU.

    Args:
        model: The model, on the device it is to be trained on.
        dataset: What it was built from.
        gradient: Drives the optimizer; ``None`` for a model without training.
        robust: Robust methods, the first one innermost.
        settings: How long, in which batches, judged by what.
        seed: Of batch order and negatives.
        learning_rate_decay: Factor by which the learning rate falls in 50 epochs: in the 0-based
            epoch e it is the optimizer's own times decay^(e/50).

    Attributes:
        gradient_computations: How often the model's loss was computed so far, each time with a
            backward pass as a rule: what strategies and robust methods are compared at.
        next_epoch: The 0-based epoch that comes next.
        best_metrics: Metrics of the best epoch, ``None`` before the first validation.
        after_risks: For each objective of ``settings`` that is measured after a risk, what gives
            the change of the features; whoever builds the trainer sets it.

    Raises:
        InputError: If a model that is trained has no gradient strategy, the dataset has no
            validation split, or an objective means nothing of it.
    """

    def __init__(
        self,
        model: Recommender,
        dataset: Dataset,
        *,
        gradient: GradientStrategy | None,
        robust: Sequence[RobustMethod] = (),
        settings: TrainingSettings | None = None,
        seed: int = 0,
        learning_rate_decay: float = 1.0,
    ) -> None:
        if model.trainable and gradient is None:
            raise InputError(f"{model.name} is trained, which needs a gradient strategy")
        self.model = model
        self.dataset = dataset
        self.gradient = gradient if model.trainable else None
        self.robust = tuple(robust)
        self.settings = TrainingSettings() if settings is None else settings
        self.learning_rate_decay = learning_rate_decay
        for name in self.settings.objectives:
            measure = parse_objective(name).metric.measure
            if (reason := refusal(measure, dataset)) is not None:
                raise InputError(f"objective {name}: {measure} means nothing: {reason}")
        self.device = next((tensor.device for tensor in _tensors(model)), torch.device("cpu"))
        self.validation = Evaluator(
            dataset,
            "validation",
            self.settings.metrics,
            device=self.device,
            block_size=self.settings.evaluation_block_size,
        )
        self.early_stopper = EarlyStopper(self.settings.early_stopping)
        self.best_metrics: Mapping[str, float] | None = None
        self.gradient_computations = 0
        self.next_epoch = 0
        self.after_risks: Mapping[str, Callable[[], FeatureTransform]] = {}
        self._sampler = EpochSampler(
            dataset, seed, negatives=model.trainable and model.samples_negatives
        )
        self._best_weights: dict[str, Tensor] | None = None
        if self.gradient is None:
            self.epoch_count = 1
            return
        self.epoch_count = self.gradient.epochs(self.gradient.parameters, self.settings.epochs)
        for group in self.gradient.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    @property
    def stop_reason(self) -> StopReason | None:
        """Why no epoch follows, or ``None`` if one does."""
        if self.next_epoch >= self.epoch_count:
            return "epochs"
        return "early_stopping" if self.early_stopper.should_stop(self.next_epoch) else None

    def epochs(self) -> Iterator[EpochResult]:
        """Train, and yield one result per epoch, until the epochs are used up or early stopping
        ends it. Called again, it continues where it was left.

        Raises:
            DivergedError: If the loss or the scores are no longer finite.
            InputError: If an objective is measured after a risk, and ``after_risks`` lacks it.
        """
        after_risks = [name for name in self.settings.objectives if parse_objective(name).risk]
        if missing := [name for name in after_risks if name not in self.after_risks]:
            raise InputError(
                f"{missing[0]}: only a study measures after a risk; give a metric alone, and "
                "`TrainedModel` measures the trained model"
            )
        while self.stop_reason is None:
            yield self._epoch(self.next_epoch)

    def restore_best(self) -> None:
        """Put the weights of the best epoch back into the model, if any was validated."""
        if self._best_weights is not None:
            self.model.load_state_dict(self._best_weights)

    def test_metrics(self) -> dict[str, float]:
        """Restore the best epoch's weights and measure them on the test split.

        Never called by the trainer itself: the test is for a configuration that is chosen.
        """
        return self.tested()[1]

    def test_users(self) -> dict[str, NDArray[Any]]:
        """As ``test_metrics``, but for each user: the ids under ``user``, ascending, and under the
        name of each metric that users have its values, shape ``[users]``."""
        return self.tested()[0]

    def tested(self) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
        """What ``test_users`` and ``test_metrics`` give, of one ranking."""
        evaluator = Evaluator(
            self.dataset,
            "test",
            self.settings.metrics,
            device=self.device,
            block_size=self.settings.evaluation_block_size,
            exclude_validation=self.settings.mask_validation_in_test,
        )
        self.restore_best()
        users, metrics = self._evaluate(evaluator)
        return {"user": evaluator.users, **users}, metrics

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue to the bit, between two epochs.

        Tensors are shared with the trainer: save or copy them before training goes on.
        """
        return {
            "model": self.model.name,
            "interactions": self.dataset.fingerprint,
            "next_epoch": self.next_epoch,
            "gradient_computations": self.gradient_computations,
            "weights": self.model.state_dict(),
            "gradient": None if self.gradient is None else dict(self.gradient.state_dict()),
            "optimizer": None if self.gradient is None else self.gradient.optimizer.state_dict(),
            "robust": [dict(method.state_dict()) for method in self.robust],
            "early_stopping": self.early_stopper.state_dict(),
            "best_metrics": self.best_metrics and dict(self.best_metrics),
            "best_weights": self._best_weights,
            "numpy_random": self._sampler.state,
            **random_states(self.device),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict()`` of a trainer that was built alike.

        Raises:
            InputError: If the state is of another model or of other interactions.
        """
        for what, expected in (
            ("model", self.model.name),
            ("interactions", self.dataset.fingerprint),
        ):
            if state.get(what) != expected:
                raise InputError(
                    f"the checkpoint was made with another {what}: "
                    f"{state.get(what)}, not {expected}"
                )
        self.next_epoch = state["next_epoch"]
        self.gradient_computations = state["gradient_computations"]
        self.model.load_state_dict(state["weights"])
        if self.gradient is not None:
            # The optimizer keeps the tensors it is given, and changes them in place.
            self.gradient.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
            self.gradient.load_state_dict(state["gradient"])
        for method, method_state in zip(self.robust, state["robust"], strict=True):
            method.load_state_dict(method_state)
        self.early_stopper.load_state_dict(state["early_stopping"])
        self.best_metrics = state["best_metrics"]
        self._best_weights = state["best_weights"] and {
            name: value.to(self.device, copy=True) for name, value in state["best_weights"].items()
        }
        self._sampler.state = state["numpy_random"]
        set_random_states(state, self.device)

    def _epoch(self, epoch: int) -> EpochResult:
        started = time.perf_counter()
        losses = [] if self.gradient is None else self._train(self.gradient, epoch)
        trained = time.perf_counter()
        self.next_epoch = epoch + 1
        metrics, is_best = None, False
        due = self.next_epoch % self.settings.validate_every == 0
        # Before a training ends, its last epoch has its chance to be the best.
        if due or self.stop_reason is not None:
            metrics, is_best = self._validate(epoch, batches=len(losses))
        groups = [] if self.gradient is None else self.gradient.optimizer.param_groups
        return EpochResult(
            epoch=epoch,
            loss=math.fsum(losses) / len(losses) if losses else math.nan,
            metrics=metrics,
            is_best=is_best,
            best_epoch=self.early_stopper.best_epoch,
            best_value=self.early_stopper.best_value,
            seconds_training=trained - started,
            seconds_evaluation=time.perf_counter() - trained,
            gradient_computations=self.gradient_computations,
            learning_rate=groups[0]["lr"] if groups else 0.0,
            stop_reason=self.stop_reason,
        )

    def _train(self, gradient: GradientStrategy, epoch: int) -> list[float]:
        """Train one epoch and return the loss of each batch."""
        for group in gradient.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.learning_rate_decay ** (epoch / DECAY_EPOCHS)
        self.model.train()
        self.model.before_epoch(epoch)
        gradient.start_epoch(epoch)
        losses: list[Tensor] = []
        for index, batch in enumerate(self._batches()):
            losses.append(gradient.step(self._loss(batch, epoch)))
            # Reading a loss makes an accelerator wait, so there all are read at the end.
            if self.device.type == "cpu":
                _require_finite(losses[-1].item(), epoch, index)
        values: list[float] = torch.stack(losses).tolist()
        for index, value in enumerate(values):
            _require_finite(value, epoch, index)
        gradient.end_epoch(epoch)
        return values

    def _loss(self, batch: Batch, epoch: int) -> LossClosure:
        def loss() -> Tensor:
            self.gradient_computations += 1
            return self.model.loss(batch)

        return compose(self.robust, loss, BatchContext(batch=batch, epoch=epoch))

    def _batches(self) -> Iterator[Batch]:
        """The training pairs in a new order, with new negatives, cut into batches."""
        size = self.settings.batch_size
        # All of an epoch is moved to the device at once, and cut there.
        drawn = self._sampler.next_epoch()[:, : self.settings.rows_per_epoch]
        pairs = as_tensor(drawn).to(self.device).long()
        for users, positives, *negatives in torch.split(pairs, size, dim=1):
            yield Batch(users, positives, negatives[0] if negatives else None, size)

    def _validate(self, epoch: int, batches: int) -> tuple[dict[str, float], bool]:
        """Evaluate, keep the weights if they are the best, and say whether they are."""
        with nullcontext() if self.gradient is None else self.gradient.evaluated_weights():
            try:
                _, metrics = self._evaluate(self.validation)
            except FloatingPointError as error:
                raise DivergedError(str(error), epoch, max(0, batches - 1)) from error
            is_best = self.early_stopper.update(epoch, metrics[self.settings.objective])
            if is_best:
                self.best_metrics = metrics
                self._keep_weights()
        return metrics, is_best

    @torch.no_grad()
    def _evaluate(self, evaluator: Evaluator) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
        """What ``Evaluator.evaluate_both`` gives, and each objective that is measured after a
        risk."""
        self.model.eval()
        users, metrics = evaluator.evaluate_both(self.model.scorer())
        for name, change in self.after_risks.items():
            metric = str(parse_objective(name).metric)
            with self.model.features.transformed(change()):
                users_after, after = evaluator.evaluate_both(self.model.scorer())
            metrics[name] = after[metric]
            if metric in users_after:
                users[name] = users_after[metric]
        return users, metrics

    def _keep_weights(self) -> None:
        weights = self.model.state_dict()
        if self._best_weights is None:
            self._best_weights = {name: torch.empty_like(value) for name, value in weights.items()}
        for name, value in weights.items():
            self._best_weights[name].copy_(value)


def _tensors(model: Recommender) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _require_finite(loss: float, epoch: int, batch: int) -> None:
    if not math.isfinite(loss):
        raise DivergedError(f"the loss became {loss}", epoch, batch)
