"""The manifest that every launch writes into the study's folder."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mgstudy.environment import describe_environment
from mgstudy.study.definition.study import Study
from mgstudy.study.search.record import cell_study_name
from mgstudy.urls import recorded_url


def study_manifest(study: Study, storage_url: str, tracking: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a study that is launched: what is asked, what comes of it, and where it runs.

    Args:
        study: The study.
        storage_url: Of its Optuna storage.
        tracking: Where MLflow has its record.
    """
    return {
        "name": study.config.name,
        "config": _config_without_passwords(study),
        "storage": recorded_url(storage_url),
        "tracking": dict(tracking),
        "cells": [
            {
                "key": cell.key,
                "levels": dict(cell.levels),
                "study": cell_study_name(study.config.name, cell),
                "budget": study.budgets[cell.key],
                "fixed": cell.fixed,
                "spaces": cell.describe()["spaces"],
            }
            for cell in study.plan.cells
        ],
        "left_out": [
            {"levels": dict(entry.levels), "reason": entry.reason} for entry in study.plan.left_out
        ],
        "datasets": {
            name: {
                "interactions": dataset.fingerprint,
                "features": dict(dataset.feature_fingerprints),
            }
            for name, dataset in study.datasets.items()
        },
        "launched": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe_environment(),
    }


def _config_without_passwords(study: Study) -> dict[str, Any]:
    content = study.config.model_dump(mode="json")
    if content["storage"] is not None:
        content["storage"] = recorded_url(content["storage"])
    if content["tracking"]["uri"] is not None:
        content["tracking"]["uri"] = recorded_url(content["tracking"]["uri"])
    return content
