"""A prepared dataset in a few lines of text."""

from __future__ import annotations

from mgstudy.data.manifest import Manifest


def dataset_text(manifest: Manifest) -> str:
    """What was prepared: its size, splits, features and what every step dropped."""
    counts = manifest.counts
    lines = [
        f"dataset {manifest.name}: {counts.users:,} users, {counts.items:,} items",
        f"  interactions: {counts.train:,} train, {counts.validation:,} validation, "
        f"{counts.test:,} test (sparsity {counts.sparsity:.4%})",
        f"  items without a training interaction: {counts.items_without_training:,}",
    ]
    lines += [
        f"  {modality}: {table.shape[0]:,} × {table.shape[1]:,}"
        for modality, table in manifest.features.items()
    ]
    lines += [
        f"  {step.name}: {step.rows_in:,} rows in, {step.rows_out:,} out" for step in manifest.steps
    ]
    lines.append(f"next: name it under `factors: dataset` of a study file: {manifest.name}")
    return "\n".join(lines)
