"""How far a command is, in one place: a bar on a terminal, elsewhere a line a minute. On stderr, past every `quiet`."""

from tqdm import tqdm

from bisenetv1_plugin.cli import terminal

MINUTE = 60


def bar(iterable=None, *, desc, unit, total=None, initial=0, delay=0, leave=True):
    """A `tqdm`, with its `update`, `n`, `total`, `set_postfix` and `close`.

    Args:
        iterable (optional): what to go through.
        desc, unit (str): what is done, and with what.
        total, initial (int, optional): of how many, and how many are done already.
        delay (float): seconds until a bar appears.
        leave (bool): whether a bar stays when it has come to its end.
    """
    file = terminal.stderr()
    common = {"desc": desc, "unit": unit, "total": total, "initial": initial, "file": file}
    if is_live():
        return tqdm(iterable, delay=delay, leave=leave, dynamic_ncols=True, **common)
    return _Lines(iterable, **common)


def is_live():
    """Whether somebody watches a terminal."""
    return terminal.stderr().isatty()


class _Lines(tqdm):
    """A line a minute; none at the end, which is for the command to tell."""

    _FORM = "{desc}: {n_fmt}/{total_fmt} {unit}s, {rate_fmt}, {remaining} left{postfix}"

    def __init__(self, *arguments, **keywords):
        pace = {"mininterval": MINUTE, "delay": MINUTE, "miniters": 1}
        super().__init__(*arguments, bar_format=self._FORM, disable=not terminal.is_first(), **pace, **keywords)

    def display(self, msg=None, pos=None):
        self.fp.write(f"{self}\n")
        self.fp.flush()

    def clear(self, *arguments, **keywords):
        """Nothing is in the way of another line."""

    def refresh(self, nolock=False, lock_args=None):
        """Not behind what `tqdm.write` has written, which is what `nolock` says here."""
        if not nolock:
            super().refresh(nolock, lock_args)

    def close(self):
        self.delay = float("inf")  # as if it had shown nothing yet
        super().close()
