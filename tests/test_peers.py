"""How the time to a quality is measured, beside other libraries or without them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from programs import finished

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_a_training_ends_when_it_no_longer_improves_and_a_missing_library_is_said(
    tmp_path: Path,
) -> None:
    generator = np.random.default_rng(0)
    rows = [
        f"{user}\t{item}\t{label}"
        for user in range(60)
        for label, item in zip([0] * 6 + [1, 2], generator.permutation(40), strict=False)
    ]
    (tmp_path / "tiny.inter").write_text("userID\titemID\tx_label\n" + "\n".join(rows) + "\n")
    np.save(tmp_path / "image_feat.npy", generator.standard_normal((40, 4), dtype=np.float32))
    words = ["--data", tmp_path, "--models", "BPR", "--patience", "2", "--epochs", "500"]
    found = finished(sys.executable, BENCHMARKS / "peers.py", *words)
    _, header, _, *lines = found.stdout.splitlines()
    names = [cell.strip() for cell in header.strip("|").split("|")]
    mgstudy, *others = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    row = dict(zip(names, mgstudy, strict=True))
    assert row["training"] == "mgstudy BPR"
    assert row["ended by"] == "patience"
    # One epoch more than the patience follows the best, and no training is shorter than 30.
    curve = [line.split("\t") for line in found.stderr.splitlines() if line.startswith("mgstudy")]
    assert len(curve) == max(30, int(row["in epoch"]) + 3)
    assert float(row["best recall@20"]) == max(float(recall) for *_, recall in curve)
    assert int(row["95 % of its best: epoch"]) <= int(row["in epoch"])
    assert others == [
        ["RecBole BPR", "ModuleNotFoundError: No module named 'recbole'"],
        ["implicit BPR", "ModuleNotFoundError: No module named 'implicit'"],
    ]


def test_validations_count_apart_and_a_quality_may_never_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    curve = importlib.import_module("peers").Curve(
        training=[3.0, 2.0, 2.0],
        wall=[4.0, 4.0, 4.0],
        recall=[0.1, 0.2, 0.15],
        validation=[0.5, 1.5],
        product=[0.4, 0.6],
    )
    reached = curve.reached(0.95 * curve.best)
    assert (reached.epochs, reached.seconds, reached.wall) == (2, 5.0, 8.0)
    assert (reached.products, reached.with_validations) == (10.0, 14.0)
    assert curve.reached(0.21) is None
