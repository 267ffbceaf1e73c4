"""Published figures, shipped with their source, beside a study's own."""

from __future__ import annotations

import importlib.resources
import io

import pandas as pd

from mgstudy.report.comparison.studies import Comparison
from mgstudy.report.table import Table
from mgstudy.report.texts import percent, relative, score
from mgstudy.study.definition.manifest import CellEntry

CAVEAT = (
    "Published figures come from one seed, a random split (8:1:1) of their authors' own and the "
    "configuration that was best on the test split itself; ours are means over seeds of the "
    "configuration that was best on validation."
)

_OURS = ("study", "cell", "dataset", "model", "gradient", "metric", "mean", "low", "high")


def published_figures() -> pd.DataFrame:
    """Every figure that is shipped: a metric on the test split.

    Returns:
        Columns ``dataset`` (``baby``, ``sports`` or ``elec``, as the reference repositories call
        them), ``model``, ``gradient`` (``plain``, or ``mirror_gradient`` as published:
        loss-scaled), ``metric``, ``value`` (rounded to four decimals by its authors) and
        ``source`` (where it stands).
    """
    file = importlib.resources.files("mgstudy.report.comparison").joinpath("published.csv")
    return pd.read_csv(io.BytesIO(file.read_bytes()))


def against_published(comparison: Comparison) -> pd.DataFrame:
    """A row for each of our cells and metrics that has a published figure.

    A cell has one if its model has, its features are the prepared ones, it uses no robust method,
    its gradient strategy is ``plain`` or Mirror Gradient that may be loss-scaled, and a word of its
    dataset's name is the published one's (``baby`` in ``amazon_baby``).

    Returns:
        Columns ``study``, ``cell``, ``dataset``, ``model``, ``gradient``, ``metric``, ``mean``,
        ``low``, ``high``, ``published``, ``difference``, ``relative_difference`` and ``source``;
        no rows where nothing is published.
    """
    strategies = {
        (study.name, entry.key): _published_gradient(entry)
        for study in comparison.studies
        for entry in study.manifest.cells
        if entry.levels["dataset"] not in study.changed_datasets
    }
    ours = comparison.table[[*_OURS]]
    keys = zip(ours["study"], ours["cell"], strict=True)
    ours = ours.assign(
        published_gradient=[strategies.get(key) or "" for key in keys],
        word=ours["dataset"].str.lower().str.split(r"[^a-z0-9]+", regex=True),
    )
    figures = published_figures().rename(
        columns={"dataset": "word", "gradient": "published_gradient", "value": "published"}
    )
    found = ours.explode("word").merge(
        figures, on=["word", "model", "published_gradient", "metric"]
    )
    found["difference"] = found["mean"] - found["published"]
    found["relative_difference"] = list(map(relative, found["difference"], found["published"]))
    return found[[*_OURS, "published", "difference", "relative_difference", "source"]]


def published_table(found: pd.DataFrame, comparison: Comparison) -> Table:
    """Our figures beside published ones; without rows, and said to be so, where nothing is
    published.

    Args:
        found: What ``against_published`` returns.
        comparison: Our cells.
    """
    levels = ["dataset", "model", "gradient", "metric"]
    titles = [*levels, "ours", "published", "difference", "source"]
    rows = [
        [
            *(str(row[name]) for name in levels),
            score(row["mean"], row["low"], row["high"]),
            score(row["published"]),
            percent(row["relative_difference"]),
            row["source"],
        ]
        for row in found.to_dict("records")
    ]
    datasets = ", ".join(sorted(set(comparison.table["dataset"])))
    nothing = (
        f"No published figures for the cells on {datasets}: those that are shipped are of Amazon "
        "Baby, Sports and Elec, for models with or without Mirror Gradient alone."
    )
    return Table(titles, rows, levels, CAVEAT if rows else nothing, notes=("source",))


def _published_gradient(entry: CellEntry) -> str | None:
    """Which published strategy the cell is, by the parameters it has; ``None`` if neither."""
    spaces = entry.spaces
    if entry.levels["robust"] != "none":
        return None
    strategies = {name.split(".")[1] for name in spaces if name.startswith("gradient.")}
    if not strategies:
        return "plain" if entry.levels["gradient"] == "plain" else None
    is_mirror = strategies == {"mirror_gradient"}
    variant = spaces.get("gradient.mirror_gradient.variant")
    return "mirror_gradient" if is_mirror and variant != "update_scaled" else None
