"""Tables of figures for the terminal."""

from __future__ import annotations

import unicodedata
from typing import Mapping, Sequence


def by_class(names: Sequence[str], columns: Mapping[str, Sequence[float]]) -> str:
    """A line a class, its figures to four decimals, under a line of titles.

    Args:
        names (sequence[str]): of the classes.
        columns (mapping): a title -> a figure of every class.
    """
    width = max(16, *(_width(name) + 1 for name in names))
    lines = [f"{'class':<{width}}" + "".join(f"{title:>13}" for title in columns)]
    for name, *values in zip(names, *columns.values()):
        lines.append(name + " " * (width - _width(name)) + "".join(f"{value:>13.4f}" for value in values))
    return "\n".join(lines)


def _width(text: str) -> int:
    """In columns of the terminal, of which a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
