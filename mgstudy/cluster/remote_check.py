"""Runs on the cluster, as a small job: does the cluster fit the study?

    python -m mgstudy.cluster.remote_check '{"study": "x.yaml", "home": null, "overrides": []}'

The last line it prints holds the findings as JSON, for ``mgstudy submit`` and ``mgstudy doctor``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from mgstudy.cluster.findings import MARK, Finding, fine, problem, warning
from mgstudy.cluster.probe import (
    check_agreement,
    check_machine,
    installed_versions,
    look_at_nodes,
)
from mgstudy.cluster.stores import check_storage, check_tracking
from mgstudy.errors import MgstudyError
from mgstudy.study.definition.study import Study, read_study
from mgstudy.study.running.driver import ray_session
from mgstudy.study.running.placement import alive_nodes, trial_resources
from mgstudy.urls import first_line
from mgstudy.workspace import HOME_VARIABLE


def check_cluster(request: dict[str, Any]) -> list[Finding]:
    """What speaks for and against the cluster that this process runs on.

    Args:
        request: ``versions`` of the submitting side; and, for a study, ``study`` (its file),
            ``overrides`` and ``home``.
    """
    with ray_session():
        machines, findings = look_at_nodes()
        for machine in machines:
            findings += check_machine(machine)
        findings += check_agreement(machines)
        findings += _compare_versions(request.get("versions", {}))
        if request.get("study"):
            findings += check_study_there(
                Path(request["study"]), request.get("overrides", []), request.get("home")
            )
    return findings


def check_study_there(file: Path, overrides: list[str], home: str | None) -> list[Finding]:
    """Whether a study could run on the cluster that this process is connected to."""
    if home is None and not os.environ.get(HOME_VARIABLE):
        return [
            problem(
                "workspace",
                "the cluster has none: the job's own folder ends with it",
                "give --home, a folder that every node sees, or set MGSTUDY_HOME on the nodes",
            )
        ]
    try:
        study = read_study(file, overrides, home)
    except MgstudyError as error:
        return [
            problem("study", first_line(error), "prepare datasets on the cluster, or in its --home")
        ]
    return [
        fine("datasets", ", ".join(study.datasets)),
        _check_resources(study),
        check_storage(study.folder.storage_url(study.config), nodes=len(alive_nodes())),
        check_tracking(study.workspace, study.config.tracking.uri),
    ]


def _check_resources(study: Study) -> Finding:
    try:
        resources = trial_resources(study.config.resources, alive_nodes())
    except MgstudyError as error:
        return problem("resources", first_line(error), "or add nodes that are large enough")
    return fine(
        "resources",
        f"{resources.slots} trials at once, {resources.cpu:g} CPU and {resources.gpu:g} GPU each",
    )


def _compare_versions(theirs: dict[str, str]) -> list[Finding]:
    """The submitting side's versions against this node's.

    Nothing but the study file crosses over, so only another mgstudy changes what it means.
    """
    ours = installed_versions()
    findings = []
    if "mgstudy" in theirs and theirs["mgstudy"] != ours.get("mgstudy"):
        findings.append(
            problem(
                "mgstudy",
                f"{theirs['mgstudy']} here, {ours.get('mgstudy')} on the cluster",
                "install the same version on both sides",
            )
        )
    ray_here, ray_there = theirs.get("ray", ""), ours.get("ray", "")
    if ray_here and ray_here.split(".")[:2] != ray_there.split(".")[:2]:
        findings.append(
            warning(
                "ray",
                f"{ray_here} here, {ray_there} on the cluster",
                "results are the cluster's; install the same version here to be sure that jobs "
                "can be followed",
            )
        )
    return findings


def main() -> None:
    """Print the findings for the request on the command line."""
    findings = check_cluster(json.loads(sys.argv[1]))
    print(MARK + json.dumps([finding.content() for finding in findings]))


if __name__ == "__main__":
    main()
