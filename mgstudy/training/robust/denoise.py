"""Denoising: items' outlying features are replaced by what their other modalities suggest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.dataset import Dataset, as_tensor
from mgstudy.fingerprint import fingerprint
from mgstudy.models.base import ModalityNeed, Recommender
from mgstudy.training.gradient.base import LossClosure
from mgstudy.training.robust.base import BatchContext, RobustMethod

_MAD_TO_DEVIATION = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""


class Denoise(RobustMethod):
    """Denoising across modalities, the cached-feature analogue of SGBD's first stage.

    One of several readings of the abstract, which is all that could be had (ASSUMED, all of it).
    SGBD (Srivastava & Wu, ICCV Workshops 2025) lets a vision-language model, BLIP, clean images and
    texts before features are extracted. Features that are already extracted can be cleaned by
    agreement instead; only the idea is theirs:

    1. A ridge regression predicts each modality's features x_i from the item's other modalities.
       With r_i the length of the leave-one-out residual, item i's modality is an outlier if its
       modified z-score, (r_i − median r) / (1.4826 · MAD r), is above ``threshold`` (Iglewicz &
       Hoaglin 1993 recommend 3.5).
    2. The regression is fitted again without the outliers, and theirs become
       x_i + strength · (x̂_i − x_i).

    An item whose modalities disagree stands out in each of them; only the modality with the highest
    z-score is replaced. The model is built, trained and evaluated on the cleaned features, so item
    graphs are made from them too; the loss is left as it is. With ``strength = 0`` the data are.

    Cost: 1 forward-and-backward pass per loss; two regressions per modality once per dataset, whose
    result trials share.
    """

    name = "denoise"
    modalities_needed = 2

    class Parameters(ParameterSet):
        """What counts as an outlier, and what becomes of it."""

        threshold: float = parameter(
            3.5,
            "modified z-score above which an item's features are replaced",
            gt=0,
            space=(2.5, 3.5, 5.0),
        )
        strength: float = parameter(
            1.0, "how far towards the reconstruction an outlier is moved", ge=0, le=1
        )
        ridge: float = parameter(
            0.1, "penalty of the regressions, over the mean variance of their inputs", gt=0
        )

    @classmethod
    def refusal(cls, model: type[Recommender], dataset: Dataset | None = None) -> str | None:
        if model.trainable and model.modality_need is ModalityNeed.NONE:
            return f"{cls.name} cleans item features, which {model.name} does not use"
        return super().refusal(model, dataset)

    @classmethod
    def prepared(cls, dataset: Dataset, parameters: ParameterSet) -> Dataset:
        assert isinstance(parameters, Denoise.Parameters)
        if parameters.strength == 0:
            return dataset
        inputs = {
            "features": list(dataset.feature_fingerprints.items()),
            "parameters": parameters.model_dump(),
            "version": 1,
        }
        # Keyed by position: a modality's name need not be a file name.
        arrays = dataset.derived.get(
            "denoised_features",
            inputs,
            lambda: {
                str(position): table
                for position, table in enumerate(_denoised(dataset, parameters))
            },
        )
        modalities = tuple(dataset.features)
        return replace(
            dataset,
            features={
                modality: arrays[str(position)] for position, modality in enumerate(modalities)
            },
            feature_fingerprints={
                modality: fingerprint({"denoised": modality, **inputs}) for modality in modalities
            },
        )

    def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
        return loss


def outliers(dataset: Dataset, threshold: float, ridge: float) -> dict[str, NDArray[np.int64]]:
    """Items whose features of a modality disagree most with their other modalities.

    Args:
        dataset: With two or more modalities.
        threshold: Modified z-score above which an item counts.
        ridge: Penalty of the regressions, over the mean variance of their inputs.

    Returns:
        Modality to item ids, rising; an item is in one modality's list at most.
    """
    scores = torch.stack(
        [
            _modified_z(_Regression(*_centred(dataset, modality), ridge).left_out_residuals())
            for modality in dataset.features
        ]
    )
    worst = scores.argmax(dim=0)
    return {
        modality: ((worst == position) & (scores[position] > threshold)).nonzero()[:, 0].numpy()
        for position, modality in enumerate(dataset.features)
    }


def _denoised(dataset: Dataset, parameters: Denoise.Parameters) -> list[NDArray[np.float32]]:
    replaced = outliers(dataset, parameters.threshold, parameters.ridge)
    inlying = torch.ones(dataset.item_count, dtype=torch.bool)
    inlying[np.concatenate(list(replaced.values()))] = False
    tables = []
    for modality, table in dataset.features.items():
        items = torch.from_numpy(replaced[modality])
        cleaned = np.array(table, dtype=np.float32)
        if len(items):
            others, own = _centred(dataset, modality)
            means = others[inlying].mean(dim=0), own[inlying].mean(dim=0)
            regression = _Regression(
                others[inlying] - means[0], own[inlying] - means[1], parameters.ridge
            )
            residuals = own[items] - means[1] - regression.predict(others[items] - means[0])
            cleaned[replaced[modality]] -= (parameters.strength * residuals).numpy()
        tables.append(cleaned)
    return tables


def _centred(dataset: Dataset, modality: str) -> tuple[Tensor, Tensor]:
    """The other modalities side by side, each with a total variance of 1, and the modality itself;
    float64, with columns of mean 0."""
    tables = {}
    for name, table in dataset.features.items():
        values = as_tensor(table).double()
        tables[name] = values - values.mean(dim=0)
    own = tables.pop(modality)
    others = [table / _spread(table) for table in tables.values()]
    return torch.cat(others, dim=1), own


def _spread(table: Tensor) -> Tensor:
    spread: Tensor = table.square().sum(dim=1).mean().sqrt()
    return spread if spread > 0 else torch.ones_like(spread)


class _Regression:
    """Ridge regression of centred outputs on centred inputs.

    Args:
        inputs: float64, shape ``[items, columns]``.
        outputs: float64, shape ``[items, width]``.
        ridge: Penalty, over the mean variance of the inputs' columns.
    """

    def __init__(self, inputs: Tensor, outputs: Tensor, ridge: float) -> None:
        self.inputs, self.outputs = inputs, outputs
        products = inputs.t() @ inputs
        penalty = ridge * products.trace() / len(products)
        products.diagonal().add_(penalty.clamp_min(torch.finfo(torch.float64).tiny))
        self._factor = torch.linalg.cholesky(products)
        self._weights = torch.cholesky_solve(inputs.t() @ outputs, self._factor)

    def predict(self, inputs: Tensor) -> Tensor:
        predicted: Tensor = inputs @ self._weights
        return predicted

    def left_out_residuals(self) -> Tensor:
        """Length of each item's residual had the item been left out of the fit, ``[items]``."""
        half = torch.linalg.solve_triangular(self._factor, self.inputs.t(), upper=False)
        leverages = half.square().sum(dim=0) + 1 / len(self.inputs)
        residuals = torch.linalg.vector_norm(self.outputs - self.predict(self.inputs), dim=1)
        left_out: Tensor = residuals / (1 - leverages).clamp_min(1e-6)
        return left_out


def _modified_z(values: Tensor) -> Tensor:
    deviations: Tensor = values - values.median()
    spread = _MAD_TO_DEVIATION * deviations.abs().median()
    return deviations / spread if spread > 0 else torch.zeros_like(deviations)
