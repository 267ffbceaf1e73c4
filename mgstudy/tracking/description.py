"""What MLflow's parent run and experiment say of a study, from what its last launch wrote down."""

from __future__ import annotations

import json

from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.tracking.run_writer import StudyDescription
from mgstudy.tracking.views import experiment_tags


def describe_study(manifest: StudyManifest, requirements: str | None = None) -> StudyDescription:
    """The description of a study.

    Args:
        manifest: What the launch wrote down.
        requirements: The installed packages, where the study runs now.
    """
    config, environment = manifest.config, manifest.environment
    tags = {"mgstudy.objective": config.training.objective}
    if environment.get("git_revision"):
        tags["mlflow.source.git.commit"] = environment["git_revision"]
    cells = [{"levels": cell.levels, "spaces": cell.spaces} for cell in manifest.cells]
    return StudyDescription(
        name=manifest.name,
        question=config.question,
        artifacts={
            "study.json": config.model_dump_json(indent=2),
            "cells.json": json.dumps(cells, indent=2),
            "environment.json": json.dumps(environment, indent=2),
            **({} if requirements is None else {"requirements.txt": requirements}),
        },
        tags=tags,
        varying_factors=tuple(manifest.varying_factors),
        experiment_tags=experiment_tags(manifest),
    )
