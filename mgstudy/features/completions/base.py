"""What stands where items lack a modality: the interface of every completion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mgstudy.config.parameters import ParameterSet
from mgstudy.data.dataset import Dataset
from mgstudy.files import Progress, no_progress
from mgstudy.fingerprint import fingerprint
from mgstudy.registry import Registry

Table: TypeAlias = NDArray[np.float32]
"""A feature table, shape ``[items, width]``."""


@dataclass(frozen=True)
class Completed:
    """What a completion made.

    Attributes:
        rows: Modality to the features of the items that lack it, in the order of their ids, shape
            ``[lacking, width]``, finite.
        errors: What is known of how good they are, by a name, such as ``image``: the root of the
            mean squared error on rows that were there and were held out, over the deviation of
            these rows.
    """

    rows: Mapping[str, NDArray[np.floating[Any]]]
    errors: Mapping[str, float] = field(default_factory=dict)


class Completion(ABC):
    """Fills the rows of items that lack a modality, from everything else.

    A subclass in its own file under ``mgstudy/features/completions/`` is found by its ``name``;
    nothing else has to be edited. It depends on the dataset and its parameters alone (draws have a
    seed among these), never on a trial: it is computed once and kept with what else is derived from
    the dataset.

    Args:
        parameters: An instance of the class's ``Parameters``; its defaults when left out.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised whenever the same parameters would give other rows than before."""
    modalities_needed: ClassVar[int] = 1
    """How many modalities a dataset must have."""

    class Parameters(ParameterSet):
        """The completion's own settings; each is one value, none is searched."""

    def __init__(self, parameters: ParameterSet | None = None) -> None:
        self.parameters = self.Parameters() if parameters is None else parameters

    @classmethod
    def refusal(cls, dataset: Dataset) -> str | None:
        """Why this completion cannot be made of ``dataset``, or ``None`` when it can."""
        if len(dataset.features) >= cls.modalities_needed:
            return None
        return (
            f"completion {cls.name} needs {cls.modalities_needed} or more modalities, "
            f"dataset {dataset.name!r} has {len(dataset.features)}"
        )

    @abstractmethod
    def completed(self, dataset: Dataset, progress: Progress) -> Completed:
        """Make the rows that are lacking.

        Args:
            dataset: What is known. Rows that are lacking are zero: ``observed`` tells them from
                rows that are there. Every modality has at least one that is.
            progress: Told what is being done, where that takes long.
        """

    def content(self) -> dict[str, Any]:
        """Everything the rows depend on besides the dataset, JSON-like."""
        return {
            "completion": self.name,
            "parameters": self.parameters.model_dump(mode="json"),
            "completion_version": self.version,
        }


def complete(dataset: Dataset, completion: Completion, progress: Progress = no_progress) -> Dataset:
    """The dataset with every row that is lacking filled by a completion, whatever stood there.

    The tables are made once and kept; a table that comes out as it was keeps its fingerprint.

    Args:
        dataset: The dataset.
        completion: Fills its gaps.
        progress: Told what is being done.
    """
    gaps = _gaps(dataset)
    if not gaps:
        return dataset
    arrays, inputs = _made(dataset, completion, progress)
    filled = {
        modality: arrays[f"table_{position}"]
        for position, modality in enumerate(gaps)
        if f"table_{position}" in arrays
    }
    return replace(
        dataset,
        features={**dataset.features, **filled},
        feature_fingerprints={
            **dataset.feature_fingerprints,
            **{modality: fingerprint({"completed": modality, **inputs}) for modality in filled},
        },
    )


def held_out_errors(dataset: Dataset, completion: Completion) -> dict[str, float]:
    """How far a completion was off on rows that were there and that it hid from itself, as
    ``Completed.errors``; empty for one that does not tell."""
    gaps = _gaps(dataset)
    if not gaps:
        return {}
    errors = _made(dataset, completion, no_progress)[0]["errors"]
    return {
        modality: float(error)
        for modality, error in zip(gaps, errors, strict=True)
        if np.isfinite(error)
    }


def _gaps(dataset: Dataset) -> list[str]:
    return [name for name in dataset.features if not dataset.observed[name].all()]


def _made(
    dataset: Dataset, completion: Completion, progress: Progress
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The tables that a completion changes, by the position of their modality among those with
    gaps, and what they follow from."""
    gaps = _gaps(dataset)
    inputs = {
        "features": list(dataset.feature_fingerprints.items()),
        "interactions": dataset.fingerprint,
        "observed": dataset.observed_fingerprint,
        **completion.content(),
        "version": 1,
    }

    def tables() -> dict[str, NDArray[Any]]:
        made = completion.completed(_with_zeros(dataset, gaps), progress)
        found: dict[str, NDArray[Any]] = {}
        for position, modality in enumerate(gaps):
            table = np.array(dataset.features[modality], dtype=np.float32)
            table[~dataset.observed[modality]] = made.rows[modality]
            if not np.array_equal(table, dataset.features[modality]):
                found[f"table_{position}"] = table
        found["errors"] = np.array([made.errors.get(modality, np.nan) for modality in gaps])
        return found

    # Keyed by position: a modality's name need not be a file name.
    return dataset.derived.get("completed_features", inputs, tables), inputs


def _with_zeros(dataset: Dataset, gaps: list[str]) -> Dataset:
    """The dataset without what was filled into its gaps, so that nothing can be learnt from it."""
    emptied = {
        modality: np.where(dataset.observed[modality][:, None], dataset.features[modality], 0)
        for modality in gaps
    }
    return replace(dataset, features={**dataset.features, **emptied})


completions: Registry[Completion] = Registry(
    kind="completion",
    base=Completion,  # type: ignore[type-abstract]
    package="mgstudy.features.completions",
    entry_point_group="mgstudy.completions",
)
"""Every completion that is installed."""
