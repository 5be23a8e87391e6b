"""How a function says how far it is: what it goes through, it goes through `progress(items, desc=..., unit=...)`.

`tqdm.tqdm` may be given for it; the commands give `cli.progress.bar`. By default nobody is told.
"""

from __future__ import annotations

from typing import Iterable, Protocol, TypeVar

Item = TypeVar("Item")


class Progress(Protocol):
    """Gives the items back, one by one.

    Args:
        items (iterable): what there is to do.
        desc (str): what is done, a word.
        unit (str): what an item is, in the singular.
        total (int, optional): how many items there are, where they have no length.
    """

    def __call__(self, items: Iterable[Item], *, desc: str, unit: str, total: int | None = None) -> Iterable[Item]: ...


def silent(items: Iterable[Item], *, desc: str, unit: str, total: int | None = None) -> Iterable[Item]:
    """The `Progress` that tells nobody."""
    return items
