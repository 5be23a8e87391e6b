"""Fixtures for all tests. The package must be installed, because its entry points and start-up files are tested."""

import os
import signal
import subprocess
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from PIL import Image

try:
    version("bisenetv1-plugin")
except PackageNotFoundError:
    pytest.exit("Install the package first: pip install -e '.[cpu,test]'", returncode=3)

# Two processes run the tests. One thread for each keeps them from slowing each other down. Libraries read it at import.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# nohup, and a shell's background, let a process ignore these, and every process that it starts.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, usual)

pytest_plugins = ["small_network"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark very slow tests as slow, too, so that `-m "not slow"` deselects them.

    Files with much that is slow come first, so that both processes end together.
    """
    slow = Counter()
    for item in items:
        if item.get_closest_marker("very_slow"):
            item.add_marker(pytest.mark.slow)
        elif item.get_closest_marker("slow"):
            slow[item.path] += 1
    items.sort(key=lambda item: -slow[item.path])  # stable: the order inside a file stays


@pytest.fixture(autouse=True)
def most_pixels(monkeypatch):
    """Restore Pillow's limit, which a command with --is_slide raises for its process."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


@pytest.fixture(scope="session")
def camvid():
    """The folder of CamVid images and labels that CAMVID_DIR names."""
    if not os.environ.get("CAMVID_DIR"):
        pytest.skip("CAMVID_DIR names no CamVid folder")
    return Path(os.environ["CAMVID_DIR"])


@pytest.fixture
def python(tmp_path):
    """Runs Python code or arguments in a process of its own, in tmp_path; returns the finished process."""

    def run(*arguments, timeout=300, **environment):
        env = {**os.environ, **{key: str(value) for key, value in environment.items()}}
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env=env,
            text=True,
            timeout=timeout,
            capture_output=True,
        )

    return run


@pytest.fixture
def command(capfd):
    """Runs a command in this process, without the imports of one of its own; returns what `subprocess.run` does."""
    from bisenetv1_plugin import cli

    def run(*arguments):
        capfd.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return subprocess.CompletedProcess(arguments, code, *capfd.readouterr())

    return run


@pytest.fixture
def python_without_paddle(python, tmp_path_factory):
    """Like `python`, but without Paddle and PaddleSeg, also in child processes."""
    folder = tmp_path_factory.mktemp("absent")
    for name in ("paddle", "paddleseg"):
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')\n")
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]

    def run(*arguments, **environment):
        return python(*arguments, PYTHONPATH=os.pathsep.join(paths), **environment)

    return run
