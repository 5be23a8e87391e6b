"""What the user may say about data of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence


@dataclass(frozen=True)
class Options:
    """Everything that is not in the files.

    Attributes:
        classes: names of the classes, in the order of their numbers; before all names that the folder has.
        colors: a table of colors, see `tables.read`; before one that lies in the folder.
        class_weights: weigh the classes in the loss by how rare they are.
        keep_rare: numbers and colors that nobody listed, and that are rare or behind a gap, are classes.
        ignore_rare: the rare ones become 255.
        skip_broken: leave out the files that cannot be read.
        unlabeled: what pixels without a shape of labelme's are, "background" or "ignored"; None: background where they
            are more than 5 % of all, else ignored.
        line_width: pixels of labelme's lines; labelme's own width is the default.
        max_size: the longest side that the network gets to see, 0 for any; None: any up to 3000 pixels, else 2048.
    """

    classes: Sequence[str] | None = None
    colors: str | None = None
    class_weights: bool = False
    keep_rare: bool = False
    ignore_rare: bool = False
    skip_broken: bool = False
    unlabeled: str | None = None
    line_width: int = 10
    max_size: int | None = None
