"""Training by name: from the words of a study file, or of a notebook, to a trainer."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mgstudy.config.document import Document
from mgstudy.config.parameters import Fixed, ParameterSet
from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.models.base import Recommender, models
from mgstudy.training.checkpoint import seed_everything
from mgstudy.training.gradient.base import gradient_strategies
from mgstudy.training.optimizers.base import OptimizerPart, optimizers
from mgstudy.training.results import EpochResult
from mgstudy.training.robust.base import RobustMethod, prepare_dataset, robust_methods
from mgstudy.training.trainer import Trainer


@dataclass(frozen=True)
class TrainingRun:
    """A finished training.

    Attributes:
        trainer: With the best epoch's weights in ``trainer.model``.
        results: One per epoch.
    """

    trainer: Trainer
    results: Sequence[EpochResult]

    @property
    def model(self) -> Recommender:
        """The model, with the weights of its best epoch."""
        return self.trainer.model

    @property
    def best(self) -> EpochResult:
        """The result of the best epoch."""
        best_epoch = self.results[-1].best_epoch
        return next(result for result in self.results if result.epoch == best_epoch)


def build_trainer(
    dataset: Dataset,
    *,
    model: str = "VBPR",
    model_parameters: Mapping[str, Any] | None = None,
    gradient: str = "plain",
    gradient_parameters: Mapping[str, Any] | None = None,
    robust: Sequence[tuple[str, Mapping[str, Any]]] = (),
    optimizer: str = "adam",
    optimizer_parameters: Mapping[str, Any] | None = None,
    settings: TrainingSettings | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Trainer:
    """Seed everything, then build a model and what trains it.

    Args:
        dataset: What to learn from.
        model: Name of a model.
        model_parameters: Its parameters; what is left out has its default.
        gradient: Name of a gradient strategy.
        gradient_parameters: Its parameters.
        robust: Names and parameters of robust methods, the first one innermost.
        optimizer: Name of an optimizer.
        optimizer_parameters: Its parameters. What is left out has the value the model's authors
            fixed it at, if they did, else the optimizer's default.
        settings: How long, in which batches, judged by what.
        seed: Of the initial weights, dropout, batch order and negatives.
        device: Where to train, for example ``"cuda"``.

    Raises:
        UnknownNameError: If no part has one of the names.
        InputError: If a parameter is unknown or out of range, parts do not go together, or the
            objective means nothing of the dataset.
    """
    _keep_freed_memory()
    settings = TrainingSettings() if settings is None else settings
    model_class, model_set, methods = _model_parts(dataset, model, model_parameters, robust)
    optimizer_class = optimizers.get(optimizer)
    strategy_class = gradient_strategies.get(gradient)
    optimizer_set = optimizer_class.Parameters.validated(
        f"optimizer {optimizer}",
        {**_published(model_class, optimizer_class), **(optimizer_parameters or {})},
    )
    strategy_set = strategy_class.Parameters.validated(
        f"gradient strategy {gradient}", gradient_parameters
    )
    dataset = prepare_dataset(methods, dataset)
    seed_everything(seed)
    built = model_class(dataset, model_set).to(device)
    # Before the optimizer: a method may add weights of its own to the model.
    made_robust = [method(built, parameters) for method, parameters in methods]
    built.to(device)
    strategy = None
    if model_class.trainable:
        strategy = strategy_class(
            optimizer_class(optimizer_set).build(built.trained_parameters()),
            strategy_set,
            clip_norm=settings.clip_norm,
        )
    return Trainer(
        built,
        dataset,
        gradient=strategy,
        robust=made_robust,
        settings=settings,
        seed=seed,
        learning_rate_decay=optimizer_set.learning_rate_decay,
    )


def _keep_freed_memory() -> None:
    """Have glibc, if it is what allocates, keep freed memory for the next tensor.

    A step makes and frees tables of some megabytes. By default they go back to the system each
    time, and every page that it gives anew is cleared and mapped first, which takes longer than
    what is computed in it. Tensors beyond glibc's own limit of 32 MiB still go back.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # As <malloc.h> numbers them.
        mallopt(trim_threshold, -1)
        mallopt(mmap_threshold, 32 * 2**20)


def build_model(
    dataset: Dataset,
    *,
    model: str = "VBPR",
    model_parameters: Mapping[str, Any] | None = None,
    robust: Sequence[tuple[str, Mapping[str, Any]]] = (),
) -> Recommender:
    """Build a model without what trains it, to load trained weights into; see ``build_trainer``."""
    model_class, model_set, methods = _model_parts(dataset, model, model_parameters, robust)
    built = model_class(prepare_dataset(methods, dataset), model_set)
    for method, parameters in methods:
        method(built, parameters)
    return built


def _model_parts(
    dataset: Dataset,
    model: str,
    model_parameters: Mapping[str, Any] | None,
    robust: Sequence[tuple[str, Mapping[str, Any]]],
) -> tuple[type[Recommender], ParameterSet, list[tuple[type[RobustMethod], ParameterSet]]]:
    """The class of a model, its parameters, and the methods that make its training robust."""
    model_class = models.get(model)
    model_set = model_class.Parameters.validated(f"model {model}", model_parameters)
    methods: list[tuple[type[RobustMethod], ParameterSet]] = []
    for name, given in robust:
        method = robust_methods.get(name)
        refusal = method.refusal(model_class, dataset)
        if refusal is not None:
            raise InputError(refusal)
        methods.append((method, method.Parameters.validated(f"robust method {name}", given)))
    return model_class, model_set, methods


def train(
    dataset: Dataset,
    *,
    model: str = "VBPR",
    epochs: int | None = None,
    objective: str | None = None,
    threads: int | None = None,
    model_parameters: Mapping[str, Any] | None = None,
    gradient: str = "plain",
    gradient_parameters: Mapping[str, Any] | None = None,
    robust: Sequence[tuple[str, Mapping[str, Any]]] = (),
    optimizer: str = "adam",
    optimizer_parameters: Mapping[str, Any] | None = None,
    settings: TrainingSettings | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[EpochResult], None] | None = None,
) -> TrainingRun:
    """Train a model to its end and restore the weights of its best epoch.

    >>> run = train(dataset, model="BPR", gradient="mirror_gradient", epochs=20)  # doctest: +SKIP
    >>> run.best.metrics["recall@20"], run.trainer.test_metrics()  # doctest: +SKIP

    Args:
        dataset: What to learn from.
        model: As in ``build_trainer``.
        epochs: Most passes over the training interactions; as in ``settings`` when not given.
        objective: The validation metric that selects the epoch, such as ``recall@20``; as in
            ``settings`` when not given.
        threads: Threads of torch meanwhile; as many as it has when not given.
        model_parameters: As in ``build_trainer``, like all that follows.
        gradient: Name of a gradient strategy.
        gradient_parameters: Its parameters.
        robust: Names and parameters of robust methods, the first one innermost.
        optimizer: Name of an optimizer.
        optimizer_parameters: Its parameters.
        settings: How long, in which batches, judged by what.
        seed: Of the initial weights, dropout, batch order and negatives.
        device: Where to train, for example ``"cuda"``.
        on_epoch: Called with the result of each epoch, for example ``print``.

    Raises:
        InputError: As in ``build_trainer``, and if ``epochs``, ``objective`` or ``threads`` is
            wrong.
        DivergedError: If the loss or the scores are no longer finite.
    """
    chosen = {"epochs": epochs, "objective": objective}
    given = {name: value for name, value in chosen.items() if value is not None}
    if given:
        written = {} if settings is None else settings.model_dump()
        settings = Document("train", {**written, **given}).validate(TrainingSettings)
    if threads is not None and threads < 1:
        raise InputError(f"train: threads: expected at least 1, got {threads}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        trainer = build_trainer(
            dataset,
            model=model,
            model_parameters=model_parameters,
            gradient=gradient,
            gradient_parameters=gradient_parameters,
            robust=robust,
            optimizer=optimizer,
            optimizer_parameters=optimizer_parameters,
            settings=settings,
            seed=seed,
            device=device,
        )
        results = []
        for result in trainer.epochs():
            results.append(result)
            if on_epoch is not None:
                on_epoch(result)
    finally:
        torch.set_num_threads(before)
    trainer.restore_best()
    return TrainingRun(trainer, results)


def _published(model: type[Recommender], optimizer: type[OptimizerPart]) -> dict[str, Any]:
    """The optimizer settings that the model's authors fixed, where the optimizer has them."""
    return {
        name: space.value
        for name, space in model.optimizer_spaces.items()
        if isinstance(space, Fixed) and name in optimizer.Parameters.model_fields
    }
