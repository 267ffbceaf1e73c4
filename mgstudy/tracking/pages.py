"""The pages of MLflow's UI on which a study opens."""

from __future__ import annotations

from dataclasses import dataclass

from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.tracking.store import TrackingStore
from mgstudy.tracking.views import comparison_address, experiment_tags, study_views
from mgstudy.workspace import Workspace

_COMPARED_RUNS = 100
_IN_ORDER_OF_START = "attributes.start_time ASC"


@dataclass(frozen=True)
class Page:
    """A page to open in a browser."""

    title: str
    address: str


def study_pages(workspace: Workspace, study: str, server: str) -> list[Page]:
    """The pages of a study, after its experiment has been told of the views they show.

    Args:
        workspace: The workspace.
        study: The study's name.
        server: Address of MLflow's UI, without a slash at its end.

    Returns:
        Nothing if MLflow has no record of the study.

    Raises:
        InputError: If the workspace has no study of that name.
        MgstudyError: If its manifest cannot be read.
    """
    manifest = StudyManifest.read(StudyFolder.existing(workspace, study))
    settings = manifest.config.tracking
    store = TrackingStore(workspace, settings, study)
    experiment = store.client.get_experiment_by_name(store.experiment)
    if experiment is None:
        return []
    for name, content in experiment_tags(manifest).items():
        if experiment.tags.get(name) != content:
            store.client.set_experiment_tag(experiment.experiment_id, name, content)
    pages = [
        Page(view.title, view.address(server, experiment.experiment_id))
        for view in study_views(manifest)
    ]
    best = store.client.search_runs(
        [experiment.experiment_id],
        f"tags.`mgstudy.study` = '{study}' and tags.`mgstudy.best_of_cell` = 'true'",
        order_by=[_IN_ORDER_OF_START],
        max_results=_COMPARED_RUNS,
    )
    if len(best) > 1:
        address = comparison_address(
            server, experiment.experiment_id, [run.info.run_id for run in best]
        )
        pages.append(Page(f"{study}: best runs of the cells, compared", address))
    return pages
