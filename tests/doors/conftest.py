"""What every door's tests share: how many examples are tried, and what must hold whatever comes in.

A door is a place where something from outside comes in: a file, a list, a request, the words of a command. The tests
try 40 examples each, always the same ones; DOOR_EXAMPLES=10000 searches.
"""

import hashlib
import os
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
from small_network import dynamic, export, logits, small  # noqa: F401 - fixtures

hypothesis = pytest.importorskip("hypothesis")

EXAMPLES = int(os.environ.get("DOOR_EXAMPLES", "40"))

hypothesis.settings.register_profile(
    "doors",
    max_examples=EXAMPLES,
    derandomize=EXAMPLES <= 40,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("doors")


def contents(folder):
    """What is in a folder, by path: where links lead, and the bytes of files; of large ones, what the system notes."""
    found = {}
    for inner, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = os.path.join(inner, name)
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isfile(path) and os.path.getsize(path) > 1 << 20:
                state = os.stat(path)
                found[path] = state.st_ino, state.st_size, state.st_mtime_ns
            elif os.path.isfile(path):
                found[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return found


@contextmanager
def in_seconds(seconds):
    """A block that may take so long: what hangs fails."""

    def late(*_):
        raise AssertionError(f"it was not done after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def door():
    """`contents` and `in_seconds`, for tests that cannot import this file."""

    class Door:
        pass

    Door.contents, Door.in_seconds = staticmethod(contents), staticmethod(in_seconds)
    return Door
