"""The progress of a command: a bar on a terminal, elsewhere a line a minute. It is on stderr even in `quiet` blocks."""

from __future__ import annotations

import time
from typing import Any, Iterable, Iterator, Sized, TextIO

from bisenetv1_plugin.cli import terminal
from bisenetv1_plugin.progress import Progress

MINUTE = 60


def bar(
    items: Iterable[Any] | None = None,
    *,
    desc: str,
    unit: str,
    total: int | None = None,
    initial: int = 0,
    delay: float = 0,
    leave: bool = True,
) -> Any:
    """Iterate over `items` with a progress bar. Without items, call the result's `update`.

    It is a `tqdm` on a terminal, elsewhere an object with the methods of `tqdm` that the commands use.

    Args:
        items: the items to go through.
        desc: a word for the work.
        unit: a word for an item, in the singular.
        total: the number of items.
        initial: the number of items that are done already.
        delay: seconds until a bar appears.
        leave: whether the bar stays on the screen at its end.
    """
    file = terminal.stderr()
    if is_live():
        from tqdm import tqdm  # not above: importing it takes as long as segmenting a small picture

        shown: dict[str, Any] = {"delay": delay, "leave": leave, "dynamic_ncols": True, "file": file}
        return tqdm(items, desc=desc, unit=unit, total=total, initial=initial, **shown)
    if total is None and isinstance(items, Sized):
        total = len(items)
    return _Lines(items, desc, unit, total, initial, file)


_PROGRESS: Progress = bar  # lets mypy compare the signatures


def is_live() -> bool:
    """Whether the progress goes to a terminal."""
    return terminal.stderr().isatty()


class _Lines:
    """Prints a line a minute, and none at the end, because the command itself prints its result."""

    _FORM = "{desc}: {n_fmt}/{total_fmt} {unit}s, {rate_fmt}, {remaining} left{postfix}"

    def __init__(
        self, items: Iterable[Any] | None, desc: str, unit: str, total: int | None, initial: int, file: TextIO
    ) -> None:
        self.total, self.n = total, initial
        self._items, self._desc, self._unit, self._first, self._file = items or (), desc, unit, initial, file
        self._postfix = ""
        self._began = self._printed = time.monotonic()

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            yield item
            self.update()

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        self.n += n
        if time.monotonic() - self._printed >= MINUTE:
            self.refresh()

    def refresh(self) -> None:
        """Print a line now."""
        self._printed = time.monotonic()
        if terminal.is_first():
            self._file.write(f"{self._line(self._printed - self._began)}\n")
            self._file.flush()

    def _line(self, elapsed: float) -> str:
        from tqdm import tqdm

        return tqdm.format_meter(
            *(self.n, self.total, elapsed),
            initial=self._first,
            prefix=self._desc,
            unit=self._unit,
            bar_format=self._FORM,
            postfix=self._postfix,
        )

    def set_postfix(self, refresh: bool = False, **figures: object) -> None:
        self._postfix = ", ".join(f"{key}={value}" for key, value in figures.items())

    def close(self) -> None:
        """Do nothing: no bar is on the screen."""
