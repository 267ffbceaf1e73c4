"""Each cell's trained model as an MLflow model: versions of one registered model, which is called
like the study and has an alias for each cell.

The model answers from ranked lists: the first items of every user that the dataset knows, computed
with the trained weights when it is logged. So it needs no workspace, no dataset and no mgstudy to
predict, takes and gives the raw data's ids, and knows no other users. The weights lie beside the
lists, as the artifact ``weights``.
"""

from __future__ import annotations

import json
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mgstudy.data.dataset import Dataset
from mgstudy.data.loading import raw_ids
from mgstudy.errors import MgstudyError
from mgstudy.files import Progress, no_progress
from mgstudy.fingerprint import fingerprint
from mgstudy.study.definition.study import Study
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.robustness.plan import TrainedCell, trained_models
from mgstudy.study.search.state import CellState
from mgstudy.tracking.store import STUDY_TAG, TRIAL_TAG, TrackingStore, linked, using_mlflow
from mgstudy.training.checkpoint import load_checkpoint
from mgstudy.training.ranking import NO_ITEM, FullRanking
from mgstudy.training.run import build_model

LIST_LENGTH = 100
"""Items kept of each user's ranking."""
DEFAULT_K = 20
_SCRIPT = Path(__file__).with_name("ranked_lists.py")
_HASH_DIGITS = 8
_LONGEST_ALIAS = 200
"""In characters, of the 255 that MLflow takes, without the hash."""
_REQUIRED = ("mlflow", "pandas", "pyarrow")


def cell_alias(levels: Mapping[str, str]) -> str:
    """The alias of a cell's model: its labels, joined by hyphens. What an alias may not hold
    becomes ``_``.

    Where that could give two cells one alias, or one too long, it ends in a hash of the labels.

    Args:
        levels: Factor to the label of its level; the first may hold hyphens, as datasets' names do.
    """
    first, *others = levels.values()
    alias = re.sub(r"[^A-Za-z0-9_-]", "_", "-".join([first, *others]))
    is_plain = all(
        re.fullmatch(r"[A-Za-z0-9_]+", label) for label in (first.replace("-", ""), *others)
    )
    if is_plain and len(alias) <= _LONGEST_ALIAS:
        return alias
    return f"{alias[:_LONGEST_ALIAS]}-{fingerprint(dict(levels))[:_HASH_DIGITS]}"


@using_mlflow()
def register_models(
    store: TrackingStore, study: Study, summary: StudySummary, progress: Progress = no_progress
) -> list[str]:
    """Log and register the model of every cell that has one, unless that is done already.

    Args:
        store: Where the study is recorded.
        study: The study.
        summary: What it has come to.
        progress: Told how many are registered.

    Returns:
        The URIs of the models, such as ``models:/tiktok@tiktok-BPR-plain-none-adam-999``.

    Raises:
        MgstudyError: If a trial has no run in MLflow.
        Exception: Whatever the tracking server does.
    """
    registered: list[str] = []
    chosen = list(_chosen_models(study, summary))
    for trained in chosen:
        progress("models", len(registered), len(chosen))
        run = store.find_run({STUDY_TAG: summary.name, TRIAL_TAG: trained.key})
        if run is None:
            raise MgstudyError(f"trial {trained.key} has no run there")
        name, alias = summary.name, cell_alias(trained.cell.levels)
        number = _version(store, name, run, trained, study)
        if str(store.client.get_registered_model(name).aliases.get(alias)) != number:
            store.client.set_registered_model_alias(name, alias, number)
        registered.append(f"models:/{name}@{alias}")
    return registered


def cells_without_model(store: TrackingStore, summary: StudySummary) -> list[str]:
    """Keys of the cells with a completed trial and no model in the registry.

    Args:
        store: Where the study is recorded.
        summary: What it has come to.

    Raises:
        Exception: Whatever the tracking server does.
    """
    found = store.client.search_registered_models(f"name = '{summary.name}'", max_results=1)
    aliases = set(found[0].aliases) if found else set()
    return [
        cell.key
        for cell in summary.cells
        if cell.best is not None and not cell.is_hidden and cell_alias(cell.levels) not in aliases
    ]


def _chosen_models(study: Study, summary: StudySummary) -> Iterator[TrainedCell]:
    found = (chosen_model(study, state) for state in summary.cells)
    return (model for model in found if model is not None)


def chosen_model(study: Study, state: CellState) -> TrainedCell | None:
    """The replicate of a cell with the best validation score, else its best trial; ``None`` if the
    last launch did not ask for the cell, or its weights are gone."""
    cell = next((cell for cell in study.plan.cells if cell.key == state.key), None)
    found = trained_models(state, cell, study.folder) if cell is not None else []
    values = {replicate.number: replicate.value or 0.0 for replicate in state.confirmations}
    return max(found, key=lambda model: values.get(model.replicate, 0.0), default=None)


def ranked_lists(
    trained: TrainedCell,
    study: Study,
    users: NDArray[np.int64] | None = None,
    length: int = LIST_LENGTH,
) -> pd.DataFrame:
    """The first items of users of the dataset, as the study ranks them.

    Args:
        trained: The model.
        study: Its study.
        users: Ids of users; all when not given.
        length: How many items of each, if there are so many to recommend.

    Returns:
        ``user``, ``rank`` (from 1), ``item`` and ``score``, in this order; users and items by what
        the raw data calls them.
    """
    dataset, training = _dataset(trained, study), study.config.training
    cell, own = trained.cell, trained.cell.own
    model = build_model(
        dataset,
        model=cell.model,
        model_parameters=own("model", cell.model, trained.parameters),
        robust=[(method, own("robust", method, trained.parameters)) for method in cell.robust],
    )
    model.load_state_dict(load_checkpoint(trained.weights)["model"])
    model.eval()
    ranking = FullRanking(
        dataset, _excluded(trained, study), block_size=training.evaluation_block_size
    )
    asked = torch.arange(dataset.user_count) if users is None else torch.as_tensor(users)
    blocks = torch.split(asked, ranking.block_size)
    with torch.no_grad():
        scorer = model.scorer()
        lists = list(ranking.lists(scorer, asked, length))
        scores = [
            scorer(block).gather(1, items.clamp(min=0))
            for block, items in zip(blocks, lists, strict=True)
        ]
    items = torch.cat(lists).numpy()
    rows, places = np.nonzero(items != NO_ITEM)
    user_ids, item_ids = user_and_item_ids(trained, study)
    return pd.DataFrame(
        {
            "user": user_ids[asked.numpy()[rows]],
            "rank": (places + 1).astype(np.int64),
            "item": item_ids[items[rows, places]],
            "score": torch.cat(scores).numpy()[rows, places].astype(np.float64),
        }
    )


def user_and_item_ids(trained: TrainedCell, study: Study) -> tuple[NDArray[Any], NDArray[Any]]:
    """What the raw data calls the users and the items that a model was trained on, by id."""
    label = trained.cell.dataset
    changed = (level for level in study.config.factors.dataset if not isinstance(level, str))
    names = {level.label: level.name for level in changed}
    return raw_ids(study.workspace, names.get(label, label))


def _excluded(trained: TrainedCell, study: Study) -> tuple[str, ...]:
    masked = study.config.training.mask_validation_in_test and trained.split == "test"
    return ("train", "validation") if masked else ("train",)


def _dataset(trained: TrainedCell, study: Study) -> Dataset:
    return trained.cell.completed(study.datasets[trained.cell.dataset])


def _version(store: TrackingStore, name: str, run: str, trained: TrainedCell, study: Study) -> str:
    """The registered version of a run's model; made when there is none."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    for existing in store.client.search_model_versions(f"run_id = '{run}'"):
        if existing.name == name:
            return str(existing.version)
    logged = cell_alias(trained.cell.levels)
    model = _logged_model(store, run, logged) or _log(store, run, logged, trained, study)
    try:
        store.client.create_registered_model(name, {STUDY_TAG: name})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    created = store.client.create_model_version(
        name, model.artifact_location, run_id=run, model_id=model.model_id
    )
    return str(created.version)


def _logged_model(store: TrackingStore, run: str, name: str) -> Any:
    """What was logged of the run by a launch that did not come to register it."""
    found = store.client.search_logged_models(
        [store.experiment_id], filter_string=f"source_run_id = '{run}' AND name = '{name}'"
    )
    return next((model for model in found if model.status == "READY"), None)


def _log(store: TrackingStore, run: str, name: str, trained: TrainedCell, study: Study) -> Any:
    """Log the model of a run, with what it needs to predict."""
    from mlflow.entities import LoggedModelOutput  # noqa: PLC0415
    from mlflow.models import Model  # noqa: PLC0415
    from mlflow.pyfunc import save_model  # noqa: PLC0415

    client = store.client
    with tempfile.TemporaryDirectory(prefix="mgstudy-model-") as folder:
        lists, description = Path(folder, "lists.parquet"), Path(folder, "model.json")
        users, known = Path(folder, "users.parquet"), user_and_item_ids(trained, study)
        ranked_lists(trained, study).to_parquet(lists, index=False)
        pd.DataFrame({"user": known[0]}).to_parquet(users, index=False)
        description.write_text(json.dumps(_description(trained, study), indent=2), "utf-8")
        model = client.create_logged_model(
            store.experiment_id,
            name=name,
            source_run_id=run,
            tags={STUDY_TAG: study.config.name, "mgstudy.cell": trained.cell.key},
            params={name: str(value) for name, value in trained.parameters.items()},
        )
        saved = Path(folder, "saved")
        with warnings.catch_warnings():
            # The signature is given: it needs no example to be found out from.
            warnings.filterwarnings("ignore", message=".*input example", category=UserWarning)
            save_model(
                saved,
                python_model=str(_SCRIPT),
                artifacts={
                    "lists": str(lists),
                    "users": str(users),
                    "description": str(description),
                    "weights": str(trained.weights),
                },
                mlflow_model=Model(
                    artifact_path=model.artifact_location,
                    run_id=run,
                    model_uuid=model.model_id,
                    model_id=model.model_id,
                ),
                signature=_signature(*known),
                # Given, they are not found out by loading the model in another process.
                pip_requirements=[f"{package}=={version(package)}" for package in _REQUIRED],
            )
        client.log_model_artifacts(model.model_id, str(saved))
    linked(trained.weights, f"{model.artifact_location}/artifacts/{trained.weights.name}")
    client.log_outputs(run, [LoggedModelOutput(model.model_id, step=0)])
    return client.finalize_logged_model(model.model_id, "READY")


def _signature(users: NDArray[Any], items: NDArray[Any]) -> Any:
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema  # noqa: PLC0415

    user, item = ("long" if ids.dtype.kind == "i" else "string" for ids in (users, items))
    return ModelSignature(
        # Without a name, so that lists and arrays are users too.
        inputs=Schema([ColSpec(user)]),
        outputs=Schema(
            [
                ColSpec(user, "user"),
                ColSpec("long", "rank"),
                ColSpec(item, "item"),
                ColSpec("double", "score"),
            ]
        ),
        params=ParamSchema([ParamSpec("k", "long", DEFAULT_K)]),
    )


def _description(trained: TrainedCell, study: Study) -> dict[str, Any]:
    dataset = _dataset(trained, study)
    return {
        "study": study.config.name,
        "cell": trained.cell.describe(),
        "trial": trained.key,
        "seed": trained.seed,
        "parameters": dict(trained.parameters),
        "dataset": {
            "name": dataset.name,
            "interactions": dataset.fingerprint,
            "features": dict(dataset.feature_fingerprints),
        },
        "users": dataset.user_count,
        "items": dataset.item_count,
        "list_length": min(LIST_LENGTH, dataset.item_count),
        "left_out": list(_excluded(trained, study)),
    }
