"""The type of `progress` arguments: a function iterates over `progress(items, desc=..., unit=...)`.

Pass `tqdm.tqdm` to see a bar; the commands pass `cli.progress.bar`. The default, `silent`, shows nothing.
"""

from __future__ import annotations

from typing import Iterable, Protocol, TypeVar

Item = TypeVar("Item")


class Progress(Protocol):
    """Yields the items one by one and shows the progress.

    Args:
        items: the items to go through.
        desc: a word for the work.
        unit: a word for an item, in the singular.
        total: the number of items, if they have no length.
    """

    def __call__(self, items: Iterable[Item], *, desc: str, unit: str, total: int | None = None) -> Iterable[Item]: ...


def silent(items: Iterable[Item], *, desc: str, unit: str, total: int | None = None) -> Iterable[Item]:
    """The `Progress` that shows nothing."""
    return items
