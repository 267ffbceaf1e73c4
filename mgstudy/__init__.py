"""Hyperparameter studies of Mirror Gradient and robust training for multimodal recommenders.

What is listed here is what a user can rely on: the verbs that the command line calls too, and every
type that they take or give. It is imported when it is first used: ``import mgstudy`` itself costs
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgstudy.lazy import have_a_home, importing

if TYPE_CHECKING:
    from mgstudy.api import (
        Launched,
        Synced,
        compare,
        describe_dataset,
        export_study,
        fork_study,
        import_study,
        launch,
        load_dataset,
        load_study,
        measure_robustness,
        plan,
        prepare,
        read_launched_study,
        read_study,
        read_summary,
        recommend,
        resume,
        sync,
        write_report,
    )
    from mgstudy.config.parameters import (
        Choice,
        FloatRange,
        IntegerRange,
        LogFloatRange,
        ParameterSet,
        Space,
        parameter,
    )
    from mgstudy.config.robustness import Robustness
    from mgstudy.config.study import StudyConfig
    from mgstudy.config.training import TrainingSettings
    from mgstudy.data.dataset import Dataset, Interactions
    from mgstudy.data.description import DatasetDescription
    from mgstudy.data.manifest import Manifest
    from mgstudy.data.sources.base import Source
    from mgstudy.errors import InputError, MgstudyError
    from mgstudy.models.base import EmbeddingRecommender, Recommender
    from mgstudy.report.comparison.studies import Comparison
    from mgstudy.report.results import StudyResults
    from mgstudy.report.robustness.comparison import RobustnessTables
    from mgstudy.robustness.risks.base import Risk
    from mgstudy.study.definition.study import Study
    from mgstudy.study.results.summary import StudySummary
    from mgstudy.study.search.events import StudyListener, TrialRequest
    from mgstudy.study.search.state import CellState
    from mgstudy.study.search.trials import RecordedTrial, Stage, State
    from mgstudy.training.gradient.base import GradientStrategy
    from mgstudy.training.gradient.mirror_gradient import MirrorGradient
    from mgstudy.training.optimizers.base import OptimizerPart
    from mgstudy.training.results import DivergedError, EpochResult
    from mgstudy.training.robust.base import RobustMethod
    from mgstudy.training.run import TrainingRun, build_trainer, train
    from mgstudy.training.trainer import Trainer

__all__ = [
    "CellState",
    "Choice",
    "Comparison",
    "Dataset",
    "DatasetDescription",
    "DivergedError",
    "EmbeddingRecommender",
    "EpochResult",
    "FloatRange",
    "GradientStrategy",
    "InputError",
    "IntegerRange",
    "Interactions",
    "Launched",
    "LogFloatRange",
    "Manifest",
    "MgstudyError",
    "MirrorGradient",
    "OptimizerPart",
    "ParameterSet",
    "Recommender",
    "RecordedTrial",
    "Risk",
    "RobustMethod",
    "Robustness",
    "RobustnessTables",
    "Source",
    "Space",
    "Stage",
    "State",
    "Study",
    "StudyConfig",
    "StudyListener",
    "StudyResults",
    "StudySummary",
    "Synced",
    "Trainer",
    "TrainingRun",
    "TrainingSettings",
    "TrialRequest",
    "build_trainer",
    "compare",
    "describe_dataset",
    "export_study",
    "fork_study",
    "import_study",
    "launch",
    "load_dataset",
    "load_study",
    "measure_robustness",
    "parameter",
    "plan",
    "prepare",
    "read_launched_study",
    "read_study",
    "read_summary",
    "recommend",
    "resume",
    "sync",
    "train",
    "write_report",
]

have_a_home()
__getattr__ = importing(__name__)


def __dir__() -> list[str]:
    return __all__
