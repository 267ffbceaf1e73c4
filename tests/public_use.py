"""Someone who uses the public names, and two lines that use them wrongly; never run.

``make types`` checks it, strictly: what is ignored and is no mistake is one.
"""

from __future__ import annotations

from pathlib import Path

import mgstudy


class Ends(mgstudy.StudyListener):
    def trial_finished(
        self,
        trial: mgstudy.TrialRequest,
        state: mgstudy.State,
        value: float | None,
        outcome: object,
    ) -> None:
        print(trial.key, state, value)


def ask(file: str | Path, pipeline: str) -> mgstudy.Launched:
    dataset: mgstudy.Manifest = mgstudy.prepare(pipeline)
    study: mgstudy.Study = mgstudy.read_study(file, ["trials=2"])
    planned: int = mgstudy.plan(study)["trials_to_run"]
    print(dataset.name, planned)
    return mgstudy.launch(study, listeners=[Ends()])


def answer(name: str) -> tuple[mgstudy.Comparison, mgstudy.RobustnessTables]:
    launched: mgstudy.Launched = mgstudy.resume(name, retry_failed=True)
    summary: mgstudy.StudySummary = launched.summary
    for cell in summary.cells:
        best: mgstudy.RecordedTrial | None = cell.best
        print(cell.counts, best and best.parameters)
    results: mgstudy.StudyResults = mgstudy.load_study(name)
    print(results.trials().columns)
    synced: mgstudy.Synced = mgstudy.sync(name)
    print(synced.models, mgstudy.write_report(name, "report.html"))
    return mgstudy.compare([name]), mgstudy.measure_robustness(name)


def own_loop(name: str) -> float:
    dataset: mgstudy.Dataset = mgstudy.load_dataset(name)
    settings = mgstudy.TrainingSettings(epochs=2)
    trainer: mgstudy.Trainer = mgstudy.build_trainer(
        dataset, model="VBPR", gradient="mirror_gradient", settings=settings
    )
    result: mgstudy.EpochResult
    for result in trainer.epochs():
        print(result.loss)
    return trainer.test_metrics()["recall@20"]


def misuse(study: mgstudy.Study) -> None:
    launched: int = mgstudy.launch(study)  # type: ignore[assignment]
    print(launched, mgstudy.launch("a.yaml"))  # type: ignore[arg-type]
