"""The diffusion that MoDiCF goes on training beside the recommender, and the features it generates.

A file of its own beside ``modicf.py``: the two share no gradient, only the feature tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mgstudy.data.dataset import Dataset, as_tensor
from mgstudy.features.completions.diffusion import WIDEST, Diffusion, generator_of
from mgstudy.files import no_progress
from mgstudy.models.item_features import ItemFeatures

_ROWS_AT_ONCE = 2048


class JointCompletion(nn.Module):
    """Generates what items lack into a model's feature tables, and learns from what they have.

    The first stage, ``Diffusion``, is trained once for a dataset and its parameters and kept with
    what else is derived from the dataset; every trial starts from its weights and rows.

    Args:
        dataset: Says what is observed. What stands in its gaps is not looked at.
        features: The model's tables, which become its own.
        diffusion: The first stage.
        items_per_batch: Items that a loss is of, drawn at random; 0 for all.
    """

    def __init__(
        self, dataset: Dataset, features: ItemFeatures, diffusion: Diffusion, items_per_batch: int
    ) -> None:
        super().__init__()
        self.dataset, self.diffusion, self.items_per_batch = dataset, diffusion, items_per_batch
        # Of the model, which moves it to a device; a submodule here would be twice in its state.
        self._features = (features,)
        features.keep()
        self.names = list(features.modalities)
        known, _ = diffusion.parted(dataset)
        for position, name in enumerate(self.names):
            width = min(WIDEST, int(known[name].sum()), features.width(name))
            observed = as_tensor(dataset.observed[name])
            self._state(position, "observed", observed, persistent=False)
            self._state(position, "directions", torch.zeros(features.width(name), width))
            self._state(position, "start", torch.zeros(width))
            self._state(position, "span", torch.ones(width))
        widths = {name: len(self._of(name, "span")) for name in self.names}
        self.generator = generator_of(widths, diffusion.parameters)
        self._reduced: dict[str, Tensor] | None = None
        self.register_load_state_dict_post_hook(self._forget)  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        """Take the weights and rows of the first stage, which is trained if it never was."""
        content = self.diffusion.content()
        inputs = {
            "features": list(self.dataset.feature_fingerprints.items()),
            "observed": self.dataset.observed_fingerprint,
            **content,
            "version": 1,
        }
        arrays = self.dataset.derived.get("joint_completion", inputs, self._pretrained)
        with torch.no_grad():
            for name, value in self.generator.state_dict().items():
                value.copy_(torch.from_numpy(np.array(arrays[name])))
            for position, name in enumerate(self.names):
                for what in ("directions", "start", "span"):
                    own = self._of(name, what)
                    own.copy_(torch.from_numpy(np.array(arrays[f"{what}_{position}"])))
                self._fill(name, torch.from_numpy(np.array(arrays[f"rows_{position}"])))
        self._forget()

    def refresh(self) -> None:
        """Generate everything that is lacking anew, from the tables as they are."""
        reduced = self._tables()
        made = {}
        for name in self.names:
            lacking = (~self._of(name, "observed")).nonzero()[:, 0]
            made[name] = [
                self.generator.generated(name, {of: table[items] for of, table in reduced.items()})
                for items in torch.split(lacking, _ROWS_AT_ONCE)
                if len(items)
            ]
        for name, rows in made.items():
            if rows:
                scaled = torch.cat(rows) * self._of(name, "span") + self._of(name, "start")
                self._fill(name, scaled @ self._of(name, "directions").t())
        self._forget()

    def losses(self) -> tuple[Tensor, Tensor]:
        """What diffusion and what reconstruction lose on some of the items."""
        reduced = self._tables()
        observed = {name: self._of(name, "observed") for name in self.names}
        count = self.dataset.item_count
        if 0 < self.items_per_batch < count:
            items = torch.randperm(count, device=next(iter(reduced.values())).device)
            items = items[: self.items_per_batch]
            reduced = {name: table[items] for name, table in reduced.items()}
            observed = {name: mask[items] for name, mask in observed.items()}
        return self.generator.losses(reduced, observed)

    def _pretrained(self) -> Mapping[str, NDArray[Any]]:
        found = self.diffusion.pretrained(self.dataset, no_progress)
        arrays = {name: value.numpy() for name, value in found.generator.state_dict().items()}
        for position, name in enumerate(self.names):
            scaling = found.scalings[name]
            arrays |= {
                f"directions_{position}": scaling.directions.astype(np.float32),
                f"start_{position}": scaling.start.astype(np.float32),
                f"span_{position}": scaling.span.astype(np.float32),
                f"rows_{position}": found.completed.rows[name].astype(np.float32),
            }
        return arrays

    @torch.no_grad()
    def _fill(self, name: str, rows: Tensor) -> None:
        table = self._features[0].table(name)
        table[~self._of(name, "observed")] = rows.to(table)

    def _tables(self) -> dict[str, Tensor]:
        """The tables in fewer columns, which follow from those that the model has."""
        if self._reduced is None:
            with torch.no_grad():
                self._reduced = {
                    name: (
                        self._features[0].table(name) @ self._of(name, "directions")
                        - self._of(name, "start")
                    )
                    / self._of(name, "span")
                    for name in self.names
                }
        return self._reduced

    def _forget(self, *_: Any) -> None:
        """The tables have changed."""
        self._reduced = None

    def _state(self, position: int, what: str, value: Tensor, persistent: bool = True) -> None:
        self.register_buffer(f"{what}_{position}", value, persistent=persistent)

    def _of(self, name: str, what: str) -> Tensor:
        return getattr(self, f"{what}_{self.names.index(name)}")  # type: ignore[no-any-return]
