"""A dataset as text when it is prepared or described, and as one small page with histograms."""

from __future__ import annotations

from jinja2 import Environment

from mgstudy.data.description import DatasetDescription, Degrees
from mgstudy.data.manifest import Manifest
from mgstudy.report.table import Table

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ data.name }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1b1b; background: #fff }
table { border-collapse: collapse; margin: .5rem 0 } td, th { padding: .15rem .8rem .15rem 0;
       text-align: right; font-variant-numeric: tabular-nums } th:first-child { text-align: left }
       tbody th { font-weight: normal } thead th { border-bottom: 1px solid #999 }
td[style] { width: 14rem; background: linear-gradient(to right, #2f6db3 calc(100% * var(--share)),
            transparent 0) } pre { white-space: pre-wrap } .found { color: #a11 }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 2rem }
</style></head><body>
<h1>{{ data.name }}</h1><p>{{ data.description }}</p>
{{ size.html() }}
<h2>Training interactions</h2><div class="pair">
{% for title, table in degrees.items() %}<section><h3>per {{ title }}</h3>
{{ table.html() }}</section>{% endfor %}</div>
<h2>Everything else</h2><pre>{{ text }}</pre>
<h2>Leakage</h2>{% if data.leakage.findings %}<ul class="found">
{% for finding in data.leakage.findings %}<li>{{ finding }}</li>{% endfor %}</ul>
{% else %}<p>Nothing breaks what the pipeline declares.</p>{% endif %}
</body></html>
"""


def prepared_text(manifest: Manifest) -> str:
    """What was prepared: its size, splits, features and what every step dropped."""
    counts = manifest.counts
    lines = [
        f"dataset {manifest.name}: {counts.users:,} users, {counts.items:,} items",
        f"  interactions: {counts.train:,} train, {counts.validation:,} validation, "
        f"{counts.test:,} test (sparsity {counts.sparsity:.4%})",
        f"  items without a training interaction: {counts.items_without_training:,}",
    ]
    lines += [
        f"  {modality}: {table.shape[0]:,} × {table.shape[1]:,}"
        for modality, table in manifest.features.items()
    ]
    lines += [f"  {name}: a text of each item" for name in manifest.texts]
    lines += [
        f"  {step.name}: {step.rows_in:,} rows in, {step.rows_out:,} out" for step in manifest.steps
    ]
    lines.append(f"next: name it under `factors: dataset` of a study file: {manifest.name}")
    return "\n".join(lines)


def description_text(data: DatasetDescription) -> str:
    """The description in a few lines of text."""
    splits = ", ".join(f"{count:,} {split}" for split, count in data.interactions.items())
    lines = [
        f"dataset {data.name}: {data.users:,} users, {data.items:,} items",
        f"  interactions: {splits} (sparsity {data.sparsity:.4%})",
        f"  training interactions per user: {_quantiles(data.user_degrees)}",
        f"  training interactions per item: {_quantiles(data.item_degrees)}",
    ]
    lines += [
        f"  cold in {split}: {cold.items:,} items ({cold.interactions_with_items:,} interactions), "
        f"{cold.users:,} users"
        for split, cold in data.cold_start.items()
    ]
    lines += [
        f"  domain {name}: {domain.users:,} users, {domain.items:,} items, "
        + ", ".join(f"{count:,} {split}" for split, count in domain.interactions.items())
        + f"; {domain.known_in_others:,} users train in another domain, too"
        for name, domain in data.domains.items()
    ]
    lines += [
        f"  {modality}: {table.shape[0]:,} × {table.shape[1]:,} "
        f"({table.encoder or 'from the source'}); "
        f"{table.missing:,} missing items filled ({table.missing_share:.2%}), "
        f"{table.zero_rows:,} rows of zeros, {table.constant_columns:,} constant columns, "
        f"mean length {table.mean_length:.3g}"
        for modality, table in data.modalities.items()
    ]
    lines += [
        f"  {step['name']}: {step['rows_in']:,} rows in, {step['rows_out']:,} out"
        + "".join(f"; {count:,} {what}" for what, count in step["counts"].items())
        for step in data.steps
    ]
    leakage = data.leakage
    repeated = ", ".join(
        f"{count:,} in {split}" for split, count in leakage.repeated_within.items()
    )
    lines.append(f"  repeated pairs: {repeated}")
    if leakage.training_after_held_out is not None:
        lines.append(
            f"  users who train on interactions later than held-out ones: "
            f"{leakage.training_after_held_out:.1%}; training interactions later than the first of "
            f"test: {leakage.training_after_first_test:.1%}"
        )
    lines += [f"  LEAKAGE: {finding}" for finding in leakage.findings]
    if not leakage.findings:
        lines.append("  leakage: nothing breaks what the pipeline declares")
    return "\n".join(lines)


def description_page(data: DatasetDescription) -> str:
    """The description as one self-contained HTML page."""
    counts = (data.users, data.items, *data.interactions.values())
    row = [*(f"{count:,}" for count in counts), f"{data.sparsity:.4%}"]
    template = Environment(autoescape=True).from_string(_PAGE)
    return template.render(
        data=data,
        size=Table(["users", "items", *data.interactions, "sparsity"], [row], texts=()),
        degrees={"user": _histogram(data.user_degrees), "item": _histogram(data.item_degrees)},
        text=description_text(data),
    )


def _histogram(degrees: Degrees) -> Table:
    counts, edges = degrees.histogram.counts, degrees.histogram.edges
    most = max(1, *counts)
    rows = [
        [f"{low:,}" if high == low + 1 else f"{low:,} to {high - 1:,}", f"{count:,}", ""]
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    bars = {(row, ""): count / most for row, count in enumerate(counts)}
    return Table(["interactions", "count", ""], rows, ["interactions"], shades=bars)


def _quantiles(degrees: Degrees) -> str:
    names = {"0": "fewest", "0.5": "median", "1": "most"}
    told = [f"{names.get(share, share)} {value:g}" for share, value in degrees.quantiles.items()]
    return f"{', '.join(told)}, mean {degrees.mean:.1f}"
