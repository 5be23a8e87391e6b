"""Tables of figures for the terminal."""

from __future__ import annotations

import unicodedata
from typing import Mapping, Sequence


def align(rows: Sequence[Sequence[str]], first: int, other: int) -> str:
    """Align rows: a title of at least `first` characters, then cells of `other` characters each."""
    width = max(first, *(_width(title) + 1 for title, *_ in rows))
    return "\n".join(
        title + " " * (width - _width(title)) + "".join(f"{cell:>{other}}" for cell in cells) for title, *cells in rows
    )


def class_table(names: Sequence[str], columns: Mapping[str, Sequence[float]]) -> str:
    """Format a table with one line per class and figures to four decimals.

    Args:
        names: names of the classes.
        columns: title -> figure of every class.
    """
    rows = [[name, *(f"{value:.4f}" for value in values)] for name, *values in zip(names, *columns.values())]
    return align([["class", *columns], *rows], first=16, other=13)


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (titles, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(titles), *lines[1:]])


def _width(text: str) -> int:
    """Return the width of text in terminal columns; a Chinese character has two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
