"""The report of a check, and its text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterable, NamedTuple, Sequence

import numpy as np

_IGNORED = "ignored (of all pixels)"


class Problem(NamedTuple):
    """Something that will stop or spoil a training: its kind (`missing`, `leak`, ...), the file and a message."""

    kind: str
    file: str
    message: str


@dataclass
class Report:
    """The result of a check, by split (`train`, `val`) as far as the config has them.

    Attributes:
        config: the config file.
        problems: errors in the data, in the order of the lists.
        counts: pixels per class, int64 [num_classes]; empty unless all labels were read.
        ignored: pixels that have the ignore index.
        images: image and label pairs in the list.
        classes: class names by index, if known.
        notes: what was not checked, and why.
        warnings: settings that are valid but probably not intended; `train` logs them and continues.
    """

    config: str
    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    classes: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True without problems. Classes that never occur are reported, but are not a problem."""
        return not self.problems

    def to_text(self, shown: int = 5) -> str:
        """The report as text: the problems by kind, at most `shown` of each, then a table of class shares."""
        by_kind: dict[str, list[str]] = {}
        for problem in self.problems:
            by_kind.setdefault(problem.kind, []).append(problem.message)

        lines = [f"{self.config}: {count_of(len(self.problems), 'problem') if self.problems else 'no problems'}"]
        for kind, messages in by_kind.items():
            lines += ["", f"{kind} ({len(messages)})"] + [f"  {message}" for message in messages[:shown]]
            if len(messages) > shown:
                lines.append(f"  ... and {len(messages) - shown} more")
        if self.notes or self.warnings:
            lines += [""] + self.warnings + self.notes
        if self.counts:
            lines += [""] + self.table()
        for split, counts in self.counts.items():
            never = [self._name(index) for index in np.flatnonzero(counts == 0)]
            if never:
                lines += ["", f"never in {split}: {', '.join(never)}"]
        return "\n".join(lines)

    def table(self) -> list[str]:
        """Shares of the labeled pixels by class, and of all pixels that are ignored."""
        width = max([len(_IGNORED)] + [len(self._name(i)) for c in self.counts.values() for i in range(len(c))])

        def row(name: str, cells: Iterable[object]) -> str:
            return f"{name:<{width}}" + "".join(f"{cell:>10}" for cell in cells)

        rows = [row("class", self.counts)]
        for index in range(max(len(counts) for counts in self.counts.values())):
            cells = (_share(c[index], c.sum()) if index < len(c) else "-" for c in self.counts.values())
            rows.append(row(self._name(index), cells))
        rows.append(row(_IGNORED, (_share(self.ignored[s], c.sum() + self.ignored[s]) for s, c in self.counts.items())))
        rows.append(row("images", (self.images[split] for split in self.counts)))
        return rows

    def _name(self, index: int) -> str:
        named = index < len(self.classes) and self.classes[index] != str(index)
        return f"{index} {self.classes[index]}" if named else str(index)


def count_of(number: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _share(part: int, whole: int) -> str:
    if not part:
        return "never" if whole else "-"
    share = f"{part / whole:.2%}"
    return "<0.01%" if share == "0.00%" else share
