"""How near completions come to rows that were there, and are hidden from them.

Items lose modalities as a level of a study would take them; of what is left, the rows are hidden
that ``diffusion`` holds out to judge itself by. Each completion fills these, and its error is the
root of the mean squared error over the deviation of the hidden rows about their mean: 1 is as far
as that mean.

    python benchmarks/completions.py --home WORKSPACE --dataset ml_100k_multimodal
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from mgstudy.config.factors import MissingModalities
from mgstudy.data.derived import DerivedArrays
from mgstudy.data.loading import load_dataset, load_without
from mgstudy.features.completions.base import complete, completions
from mgstudy.features.completions.diffusion import Diffusion
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
    for name in ("mean", "noise", "neighbours", "diffusion"):
        completion = completions.get(name)()
        if isinstance(completion, Diffusion):  # It would hide others beside these.
            completion = Diffusion(Diffusion.Parameters(held_out=0.0))
        began = time.process_time()
        filled = complete(judged, completion)
        seconds = time.process_time() - began
        errors = []
        for modality, rows in hidden.items():
            truth, made = level.features[modality][rows], filled.features[modality][rows]
            deviation = np.sqrt(np.square(truth - truth.mean(axis=0)).mean())
            error = np.sqrt(np.square(made - truth).mean()) / deviation
            errors.append(f"{modality} {error:.3f} ({rows.sum()} rows)")
        print(f"  {name:<12}{', '.join(errors)}; {seconds:.0f} s of a processor", flush=True)


if __name__ == "__main__":
    main()
