"""Read prepared datasets from a workspace."""

from __future__ import annotations

from mgstudy.config.factors import name_fault
from mgstudy.data.dataset import Dataset
from mgstudy.data.derived import DerivedArrays
from mgstudy.data.layouts import read_features, read_interactions
from mgstudy.data.manifest import Manifest
from mgstudy.data.prepare import repair
from mgstudy.data.tables import DamagedTableError, TableStore, read_facts
from mgstudy.errors import InputError, suggestion
from mgstudy.workspace import Workspace


def load_dataset(workspace: Workspace, name: str) -> Dataset:
    """Read a prepared dataset, making damaged tables again from their source.

    Its fingerprints are the keys of its tables: what they were made from.

    Raises:
        InputError: If no dataset of that name is prepared, its manifest is not that of its tables,
            or a table is damaged and its source is gone or has changed.
    """
    manifest = read_manifest(workspace, name)
    store = TableStore(workspace.tables)
    keys = [manifest.interactions.key, *(table.key for table in manifest.features.values())]
    for key in keys:
        for path in store.files(key):
            workspace.fetch(path)
    try:
        for key in keys:
            store.check(key)
    except DamagedTableError:
        manifest = repair(manifest, workspace)
    interactions = store.path(manifest.interactions.key)
    if read_facts(interactions)["counts"] != manifest.counts.model_dump():
        raise InputError(
            f"{workspace.manifest(name)}: its counts are not those of {interactions.name}; prepare "
            "the dataset again"
        )
    splits = read_interactions(interactions)
    return Dataset(
        name=name,
        user_count=manifest.counts.users,
        item_count=manifest.counts.items,
        **splits,
        features={
            modality: read_features(store.path(table.key))
            for modality, table in manifest.features.items()
        },
        fingerprint=manifest.interactions.key,
        feature_fingerprints={modality: table.key for modality, table in manifest.features.items()},
        derived=DerivedArrays(workspace.derived),
    )


def read_manifest(workspace: Workspace, name: str) -> Manifest:
    """The manifest of a prepared dataset.

    Raises:
        InputError: If no dataset of that name is prepared, or it is no name.
    """
    if fault := name_fault(name):
        raise InputError(f"a dataset's name: {fault}")
    workspace.fetch(workspace.manifest(name), anew=True)
    manifest = Manifest.read(workspace.manifest(name))
    if manifest is None:
        near = suggestion(name, _prepared(workspace))
        raise InputError(
            f"dataset {name!r} is not prepared in {workspace.place} ({near}); "
            f"type `mgstudy prepare pipelines/{name}.yaml`"
        )
    return manifest


def _prepared(workspace: Workspace) -> list[str]:
    names = workspace.names(workspace.datasets)
    if workspace.shared is not None:  # There, a folder is there because of its manifest.
        return names
    return [name for name in names if workspace.manifest(name).exists()]
