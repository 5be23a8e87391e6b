"""A DataLoader with unreadable samples, and one of a killed training, with the guards on and off."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bisenetv1_plugin.compat import orphan_workers, reader_failure

LOADER = """
import multiprocessing, os, sys
import numpy as np, paddle, paddleseg
from bisenetv1_plugin.losses.ohem import BiSeNetV1Loss

kinds, num_workers, start = sys.argv[1].split(), int(sys.argv[2]), sys.argv[3]

what = kinds[0]

class Images(paddle.io.Dataset):
    file_list = [[f"image{i}.png", f"label{i}.png"] for i in range(40)]

    def __len__(self):
        return len(self.file_list)

    def __getitem__(self, i):
        if i == 13 and what == "broken" or i == 3 and what == "few":
            raise OSError("truncated")
        if i == 13 and what == "killed":
            os.kill(os.getpid(), 9)
        width = 60 if i == 13 and what == "shapes" else 64
        return {"img": np.zeros((3, 8, width), "float32"), "label": np.zeros((8, 64), "int64"), "trans_info": []}

if __name__ == "__main__":
    multiprocessing.set_start_method(start)
    BiSeNetV1Loss()
    for what in kinds:
        if what == "few":
            del Images.file_list[4:]
        if what == "nameless":
            del Images.file_list
            Images.__len__ = lambda self: 40
            Images.__getitem__ = lambda self, i: [1 / (i - 13)]
        # Printed first, so that a slow start does not look like a hang.
        print("loading", flush=True)
        for batch in paddle.io.DataLoader(Images(), batch_size=4, num_workers=num_workers):
            pass
        print("all read")
"""
HANG_TIMEOUT = 15

SENTENCES = {
    "broken": "image13.png with label label13.png cannot be read (OSError: truncated)",
    "few": "image3.png with label label3.png cannot be read (OSError: truncated)",  # one worker has no task
    "nameless": "sample 13 cannot be read (ZeroDivisionError: ",
    "shapes": "image13.png with label label13.png has img of shape 3x8x60 where others have 3x8x64",
    "killed": "a process that reads the data was killed (Killed), probably because the memory ran out",
}


@pytest.fixture
def load(python, tmp_path):
    def run(what, num_workers, switches="", timeout=120, start="fork"):
        (tmp_path / "load.py").write_text(LOADER)
        return python("load.py", what, num_workers, start, BISENETV1_PLUGIN_COMPAT=switches, timeout=timeout)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [pytest.param(0, marks=pytest.mark.very_slow), 2])
@pytest.mark.parametrize(
    "what",
    [pytest.param(what, marks=[] if what in ("broken", "killed") else pytest.mark.very_slow) for what in SENTENCES],
)
def test_failure_raises_its_reason(load, what, num_workers):
    if what == "killed" and num_workers == 0:
        pytest.skip("there is no process to kill")
    done = load(f"good {what}", num_workers)
    assert done.returncode == 1 and done.stdout.count("all read") == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("bisenetv1_plugin.errors.InputError: ") and SENTENCES[what] in last


@pytest.mark.slow
def test_failure_in_a_spawned_worker(load):
    """A spawned worker builds no network, and imports the guards through its init function."""
    done = load("broken", 1, start="spawn")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("bisenetv1_plugin.errors.InputError: ") and SENTENCES["broken"] in last


@pytest.mark.very_slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_working_loader_is_unchanged(load, num_workers):
    for switches in ("", "-reader_failure,-orphan_workers"):
        done = load("good", num_workers, switches)
        assert done.returncode == 0 and "all read" in done.stdout and "Error" not in done.stderr


@pytest.mark.very_slow
@pytest.mark.parametrize("what", ["broken", "shapes"])
def test_hangs_without_the_guard(load, what):
    with pytest.raises(subprocess.TimeoutExpired) as waited:
        load(what, 0, "-reader_failure", timeout=HANG_TIMEOUT)
    assert b"loading" in waited.value.stdout and b"all read" not in waited.value.stdout


@pytest.mark.very_slow
@pytest.mark.parametrize("what", ["broken", "killed"])
def test_reason_is_unknown_without_the_guard(load, what):
    done = load(what, 2, "-reader_failure")
    # The handler of SIGCHLD may report a worker's death before the queue does.
    last = ["Blocking queue is killed"] + ["exited is killed by signal: Killed"] * (what == "killed")
    assert done.returncode == 1 and any(words in done.stderr for words in last)
    assert SENTENCES[what] not in done.stderr and "image13.png" not in done.stderr


def test_probe(monkeypatch):
    """A Paddle that catches exceptions of the dataset needs no guard."""
    assert reader_failure.needed() and orphan_workers.needed()
    for guarded in (_guarded_by_exception, _guarded_by_all):
        monkeypatch.setattr(reader_failure._SINGLE, "_thread_loop", guarded)
        assert not reader_failure.needed()
    monkeypatch.setattr(orphan_workers.worker, "_worker_loop", _with_timeout)
    assert not orphan_workers.needed()


def _guarded_by_exception(self, place):
    while True:
        try:
            self._dataset_fetcher.fetch([0])
        except (StopIteration, Exception):  # noqa: BLE001
            return


def _guarded_by_all(self, place):
    try:
        self._dataset_fetcher.fetch([0])
    except:  # noqa: E722
        return


def _with_timeout(indices_queue):
    indices_queue.get(timeout=5)


class Samples:
    """Samples without files. Those in `bad` have another shape."""

    def __init__(self, *bad):
        self.bad = bad

    def __getitem__(self, index):
        return {"img": np.zeros((3, 4, 5) if index in self.bad else (3, 4, 4)), "label": np.zeros((4, 4)), "name": "a"}


class TestExplanation:
    def test_several_odd_samples(self):
        message = reader_failure.explanation(Samples(2, 3, 5, 6), list(range(10)), ValueError("stack"))
        assert message.count("img of shape 3x4x5 where others have 3x4x4") == 3 and "; and 1 more." in message

    def test_failure_that_does_not_repeat(self):
        message = reader_failure.explanation(Samples(), [4, 5], ValueError("by\nchance"))
        assert message == "a batch cannot be read (ValueError: by chance); its samples are sample 4, sample 5."

    @pytest.mark.parametrize("files, name", [("a.png", "a.png"), (["a.png", None], "a.png"), ([None], "sample 0")])
    def test_names(self, files, name):
        dataset = Samples()
        dataset.file_list = [files]
        assert reader_failure.name_of(dataset, 0) == name


TRAINING = """
import time
import numpy as np, paddle, paddleseg
from bisenetv1_plugin.losses.ohem import BiSeNetV1Loss

class Images(paddle.io.Dataset):
    def __len__(self):
        return 10000

    def __getitem__(self, i):
        return np.zeros((3, 256, 256), "float32")

if __name__ == "__main__":
    BiSeNetV1Loss()
    for batch in paddle.io.DataLoader(Images(), batch_size=4, num_workers=2):
        time.sleep(5)  # until the workers are idle: a busy worker notices the kill by itself
        print("a batch", flush=True)
        time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("switches, remain", [("", 0), pytest.param("-orphan_workers", 2, marks=pytest.mark.very_slow)])
def test_workers_of_a_killed_training_exit(tmp_path, switches, remain):
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    environment = {**os.environ, "BISENETV1_PLUGIN_COMPAT": switches}
    with subprocess.Popen(
        [sys.executable, script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as training:
        training.stdout.readline()
        assert len(running(script)) == 3
        training.kill()
    deadline = time.time() + 20  # they check every five seconds
    while len(running(script)) > remain and time.time() < deadline:
        time.sleep(0.2)
    if remain:
        time.sleep(10)
    left = running(script)
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert len(left) == remain


def running(script):
    """The ids of the processes that run a script."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{process}/cmdline", "rb") as command:
                if os.fsencode(script) in command.read().split(b"\0"):
                    found.append(int(process))
        except OSError:  # it has ended
            continue
    return found
