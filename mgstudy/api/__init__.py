"""The library: prepare a dataset, read a study, launch it. The command line calls these functions.

The glue between the rooms; it decides nothing. Each part is imported when it is first used, so that
no command waits for what another one needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgstudy.lazy import importing

if TYPE_CHECKING:
    from mgstudy.api.comparison import compare, load_study
    from mgstudy.api.datasets import (
        clean_cache,
        describe_cached,
        describe_dataset,
        list_cache,
        list_datasets,
        load_dataset,
        prepare,
        verify_cache,
    )
    from mgstudy.api.launching import Launched, launch, resume
    from mgstudy.api.names import study_manifests, study_names
    from mgstudy.api.planning import plan
    from mgstudy.api.recommending import read_users, recommend
    from mgstudy.api.results import Synced, serve_pages, sync, write_report
    from mgstudy.api.robustness import measure_robustness
    from mgstudy.api.studies import (
        find_trial,
        list_studies,
        read_summary,
        trial_address,
    )
    from mgstudy.api.upkeep import (
        Deletion,
        delete_study,
        deletion,
        export_study,
        fork_study,
        import_study,
        rename_study,
    )
    from mgstudy.models.gguf import convert_language_model
    from mgstudy.study.definition.schema import file_schema
    from mgstudy.study.definition.study import read_launched_study, read_study

__all__ = [
    "Deletion",
    "Launched",
    "Synced",
    "clean_cache",
    "compare",
    "convert_language_model",
    "delete_study",
    "deletion",
    "describe_cached",
    "describe_dataset",
    "export_study",
    "file_schema",
    "find_trial",
    "fork_study",
    "import_study",
    "launch",
    "list_cache",
    "list_datasets",
    "list_studies",
    "load_dataset",
    "load_study",
    "measure_robustness",
    "plan",
    "prepare",
    "read_launched_study",
    "read_study",
    "read_summary",
    "read_users",
    "recommend",
    "rename_study",
    "resume",
    "serve_pages",
    "study_manifests",
    "study_names",
    "sync",
    "trial_address",
    "verify_cache",
    "write_report",
]

__getattr__ = importing(__name__)
