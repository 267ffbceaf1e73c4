"""What a ranking can be measured by: the interface, and where metrics are found.

The metrics lie in ``mgstudy/training/metrics/``; here is what a study file knows of them.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from mgstudy.errors import InputError
from mgstudy.registry import Registry, may_state

ITEM_GROUPS = ("cold", "tail", "head", "complete", "incomplete")
"""Groups of items that a metric of relevant items can be asked of, as ``recall-tail``. Cold items
have no training interactions, those in the head are the most popular and have 80 % of them
together, and the tail is between; incomplete items lack a modality."""
USER_GROUPS = ("light", "heavy")
"""Groups of users that any metric can be asked of, as ``coverage-heavy``: the fifth with the most
training interactions (ASSUMED; Li et al., WWW 2021, take other shares), and the others."""
DOMAINS = "domains"
"""What a metric of relevant items is asked of as ``recall-domains``, in a dataset with domains: the
mean over the domains, in each of which only its items are ranked. Each domain's own value comes
with it, as ``recall-NAME``, and that of users who have no training interactions there, as
``recall-NAME_newcomers``."""
GROUPS = (*ITEM_GROUPS, *USER_GROUPS, DOMAINS)


class RankingMetric(ABC):
    """Measures the ranked lists of all users, which are made once for all metrics.

    A subclass in its own file under ``mgstudy/training/metrics/`` is found by its ``name``, and one
    of another package is written ``package.module:Class``; a study file asks for either under
    ``measures``. Its docstring has the definition and its source.
    """

    name: ClassVar[str]
    of_users: ClassVar[bool] = True
    """Whether every user has a value, whose mean is reported; else there is one of all lists."""
    larger_is_better: ClassVar[bool] = True
    of_relevance: ClassVar[bool] = False
    """Whether it looks at which listed items are relevant, so that it can be asked of a group of
    items: then only relevant items of the group count, for the users who have one."""
    beside: ClassVar[tuple[str, ...]] = ()
    """Metrics that are computed wherever it is, such as the level it has by chance."""

    @classmethod
    def refusal(cls, dataset: Any) -> str | None:
        """Why the metric means nothing of a ``Dataset``, or ``None`` where it does."""
        return None

    @abstractmethod
    def values(self, ranked: Any, cutoffs: Sequence[int]) -> Any:
        """The metric at each cutoff.

        Args:
            ranked: ``mgstudy.training.metrics.base.RankedLists``.
            cutoffs: Lengths of the lists' beginnings. One beyond the lists finds nothing there.

        Returns:
            A float64 tensor, shape ``[users, cutoffs]``, or ``[cutoffs]`` without ``of_users``.
        """


ranking_metrics: Registry[RankingMetric] = Registry(
    kind="metric",
    base=RankingMetric,  # type: ignore[type-abstract]
    package="mgstudy.training.metrics",
    entry_point_group="mgstudy.metrics",
)
"""Every metric that is installed."""


def split_group(measure: str) -> tuple[str, str | None]:
    """The metric's name in a measure, and the group it is asked of: ``recall-tail`` is recall and
    tail."""
    name, _, group = measure.rpartition("-")
    return (name, group) if name else (measure, None)


@functools.cache
def larger_is_better(metric: str) -> bool:
    """Whether of a metric, such as ``gini-heavy@20``, the larger value is the better one; taken to
    be so of a metric that is not installed here."""
    name, _ = split_group(metric.partition("@")[0])
    parts = ranking_metrics.package, ranking_metrics.entry_point_group
    # What does not say otherwise is not imported, and torch not with it.
    if ":" not in name and not may_state(*parts, name, "larger_is_better"):
        return True
    try:
        return ranking_metrics.get(name).larger_is_better
    except InputError:
        return True
