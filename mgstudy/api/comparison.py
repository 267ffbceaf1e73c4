"""What studies have come to, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mgstudy.report.comparison.baselines import parse_baseline
from mgstudy.report.comparison.formats import default_metrics
from mgstudy.report.comparison.paper import whole_method
from mgstudy.report.comparison.studies import Comparison, compare_studies
from mgstudy.report.results import StudyResults
from mgstudy.workspace import Workspace


def load_study(name: str, home: Path | str | None = None) -> StudyResults:
    """What a launched study has come to, as pandas tables, also while it runs.

    >>> mgstudy.load_study("tiktok").comparison()  # doctest: +SKIP

    Args:
        name: The study's name.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.

    Raises:
        InputError: If the workspace has no study of that name.
    """
    return StudyResults.load(Workspace.resolve(home), name)


def compare(
    names: Sequence[str],
    baseline: str | None = None,
    metrics: Sequence[str] = (),
    everything: bool = False,
    home: Path | str | None = None,
    ablation: bool = False,
) -> Comparison:
    """Set every cell of launched studies beside its baseline, see ``Comparison``.

    Args:
        names: The studies.
        baseline: ``factor=level`` pairs, separated by commas, that make a cell a baseline;
            the first study's first question when not given, ``gradient=plain`` if it asks none.
        metrics: What to compare; the objective and NDCG when not given.
        everything: Whether, with no metrics given, all that was measured is compared.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.
        ablation: Whether, with no baseline given, it is the method that all others are parts of.

    Raises:
        InputError: If there is no such study, factor, level or metric, the studies have different
            objectives, or no method has all parts of the others.
        MgstudyError: If a study cannot be read.
    """
    summaries = [load_study(name, home).summary for name in dict.fromkeys(names)]
    chosen: dict[str, str] | None = None
    if baseline:
        chosen = parse_baseline(baseline, summaries)
    elif ablation:
        chosen = whole_method(summaries)
    shown = metrics or (None if everything else default_metrics(summaries))
    return compare_studies(summaries, chosen, shown)
