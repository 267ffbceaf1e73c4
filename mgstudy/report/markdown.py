"""Tables of texts as Markdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def markdown_table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], texts: Collection[int]
) -> str:
    """A pipe table (GitHub Flavored Markdown), without a line end.

    Args:
        titles: Of the columns.
        rows: A text for each column.
        texts: Places of the columns that hold text, to be left aligned; the others hold numbers.
    """
    rule = ["---" if place in texts else "---:" for place in range(len(titles))]
    escaped = ([cell.replace("|", "\\|") for cell in cells] for cells in (titles, rule, *rows))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)
