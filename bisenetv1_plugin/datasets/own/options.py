"""The options of `configure`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence


@dataclass(frozen=True)
class Options:
    """What the files do not say.

    Attributes:
        classes: class names in the order of their numbers; they override names found in the folder.
        colors: path of a color table, see `tables.read`; it overrides a table found in the folder.
        class_weights: give rare classes more weight in the loss.
        keep_rare: values that are not listed become classes, even rare ones and those after a gap in the numbers.
        ignore_rare: rare values become 255.
        skip_broken: omit files that cannot be read.
        unlabeled: labelme: "background" or "ignored", for pixels outside all shapes; None: background if they are more
            than 5 % of all pixels, else ignored.
        line_width: labelme: width of lines in pixels, as in labelme by default.
        max_size: longer images are resized to this longest side, 0 for none; None: 2048 for images longer than 3000.
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
