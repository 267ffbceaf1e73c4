"""How near completions come to rows that were there, and are hidden from them.

Items lose modalities as a level of a study would take them; of what is left, the rows are hidden
that ``diffusion`` holds out to judge itself by. Each completion fills these, and its error is the
root of the mean squared error over the deviation of the hidden rows about their mean: 1 is as far
as that mean. Beside them stands what can be known: a ridge regression from the item's other
modality with that of five strengths that is best on the hidden rows themselves. A draw from what is
possible is √2 times as far as its mean, so the mean of 20 rows that ``diffusion`` generates stands
beside its one.

    python benchmarks/completions.py --home WORKSPACE --dataset ml_100k_multimodal
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from mgstudy.config.factors import MissingModalities
from mgstudy.data.dataset import Dataset
from mgstudy.data.derived import DerivedArrays
from mgstudy.data.loading import load_dataset, load_without
from mgstudy.data.missing import Masks
from mgstudy.features.completions.base import complete, completions
from mgstudy.features.completions.diffusion import Diffusion, Pretrained, relative_error
from mgstudy.workspace import Workspace


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--home", required=True, help="workspace with the prepared dataset")
    arguments.add_argument("--dataset", default="ml_100k_multimodal")
    arguments.add_argument("--rate", type=float, default=0.4)
    options = arguments.parse_args()
    torch.set_num_threads(1)

    workspace = Workspace.resolve(options.home)
    takes = MissingModalities(pattern="protected", rate=options.rate, seed=0)
    whole = load_dataset(workspace, options.dataset)
    level = load_without(workspace, whole, takes, "level")
    known, hidden = Diffusion().parted(level)
    # Nothing of another run is kept or found.
    judged = replace(level, observed=known, derived=DerivedArrays())
    print(f"{options.dataset}, protected {options.rate}: {level.item_count} items")
    for name in ("mean", "noise", "neighbours"):
        filled = complete(judged, completions.get(name)()).features
        say(name, {of: filled[of][rows] for of, rows in hidden.items()}, level, hidden)
    began = time.process_time()
    # Others would be hidden beside these.
    diffusion = Diffusion(Diffusion.Parameters(held_out=0.0))
    emptied = {of: table * known[of][:, None] for of, table in judged.features.items()}
    trained = diffusion.pretrained(judged.with_features(emptied), lambda *_: None)
    for of, rows in trained.completed.rows.items():
        emptied[of][~known[of]] = rows
    say("diffusion", {of: emptied[of][rows] for of, rows in hidden.items()}, level, hidden)
    print(f"{'':14}{time.process_time() - began:.0f} s of a processor")
    say("of 20 draws", mean_of_draws(trained, emptied, hidden), level, hidden)
    say("regression", regression(judged, level, hidden), level, hidden)


def say(name: str, made: Mapping[str, np.ndarray], level: Dataset, hidden: Masks) -> None:
    """Print how far rows are off, by modality."""
    errors = ", ".join(
        f"{of} {relative_error(rows, level.features[of][hidden[of]]):.3f} ({len(rows)} rows)"
        for of, rows in made.items()
    )
    print(f"  {name:<12}{errors}", flush=True)


def mean_of_draws(
    trained: Pretrained, filled: Mapping[str, np.ndarray], hidden: Masks
) -> dict[str, np.ndarray]:
    """Means of 20 generated rows, from the items' other modalities as they were filled."""
    tables = {
        of: torch.from_numpy(trained.scalings[of].reduced(table)) for of, table in filled.items()
    }
    means = {}
    for of, rows in hidden.items():
        others = {name: table[torch.from_numpy(rows)] for name, table in tables.items()}
        draws = [trained.generator.generated(of, others).numpy() for _ in range(20)]
        means[of] = trained.scalings[of].restored(np.mean(draws, axis=0))
    return means


def regression(judged: Dataset, level: Dataset, hidden: Masks) -> dict[str, np.ndarray]:
    """Ridge regressions from the other modality over the items that have both."""
    made = {}
    for of, other in ((name, *(o for o in hidden if o != name)) for name in hidden):
        both = judged.observed[of] & judged.observed[other]
        given, wanted = judged.features[other].astype(np.float64), judged.features[of]
        about, mean = given[both].mean(axis=0), wanted[both].mean(axis=0)
        centred = given[both] - about
        square = centred.T @ centred
        unit = np.trace(square) / len(square) * np.eye(len(square))
        rows = [
            mean
            + (given[hidden[of]] - about)
            @ np.linalg.solve(square + strength * unit, centred.T @ (wanted[both] - mean))
            for strength in (0.1, 1, 10, 100, 1000)
        ]
        truth = level.features[of][hidden[of]]
        made[of] = min(rows, key=lambda of_one: relative_error(of_one, truth))
    return made


if __name__ == "__main__":
    main()
