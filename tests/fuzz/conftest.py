"""Settings and fixtures of the fuzz tests.

They mutate the input that comes from outside: a file, a list, a request, the arguments of a command. Each test tries 25
examples, always the same ones. FUZZ_EXAMPLES=10000 tries 10000 random ones.
"""

import hashlib
import os
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest

hypothesis = pytest.importorskip("hypothesis")

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))

hypothesis.settings.register_profile(
    "fuzz",
    max_examples=EXAMPLES,
    derandomize=EXAMPLES <= 40,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("fuzz")


def contents(folder):
    """The contents of a folder, by path: targets of links, hashes of files; for large files their size and time."""
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
    """A block that fails if it takes longer."""

    def late(*_):
        raise AssertionError(f"it was not finished after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def fuzz():
    """`contents` and `in_seconds`, for tests that cannot import this file."""

    class Tools:
        pass

    Tools.contents, Tools.in_seconds = staticmethod(contents), staticmethod(in_seconds)
    return Tools
