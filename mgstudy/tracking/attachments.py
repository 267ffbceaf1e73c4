"""Files that a study's parent run holds besides what the tracker writes."""

from __future__ import annotations

from mgstudy.tracking.run_writer import ROLE_TAG, STUDY_TAG
from mgstudy.tracking.store import TrackingStore


def attach(store: TrackingStore, study: str, name: str, content: str) -> bool:
    """Keep a text as a file of the study's parent run; whether there is such a run.

    Raises:
        Exception: Whatever the tracking server does.
    """
    experiment = store.client.get_experiment_by_name(store.experiment)
    if experiment is None:
        return False
    run = store.find_run({STUDY_TAG: study, ROLE_TAG: "study"})
    if run is None:
        return False
    store.client.log_text(run, content, name)
    return True
