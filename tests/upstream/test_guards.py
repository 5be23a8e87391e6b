"""The guards in PaddleSeg's unmodified tools/train.py, which imports `train` before the plugin can act.

Needs PADDLESEG_DIR, an unpacked PaddleSeg; see test_tools.py.
"""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import paddle
import pytest
import yaml

from bisenetv1_plugin import zoo
from bisenetv1_plugin.datasets.classes import DEMO_CLASSES
from bisenetv1_plugin.datasets.synthetic import write_scenes

pytestmark = pytest.mark.slow

# Runs Python code, {what}, and then tools/train.py with its arguments.
SCRIPT = """
import builtins, os, runpy, sys
{what}
del sys.argv[0]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""
KILLED_WHILE_IT_SAVES = """
opened = builtins.open
def dying_open(path, mode="r", *args, **kwargs):
    file = opened(path, mode, *args, **kwargs)
    if "w" in mode and "iter_4" in str(path) and str(path).endswith(".pdparams"):
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), 9)
    return file
builtins.open = dying_open
"""
KILLED_WORKER = """
import random
from paddleseg.datasets import Dataset
read = Dataset.__getitem__
def dying_read(self, index):
    if os.getpid() != training and random.random() < 0.2:
        os.kill(os.getpid(), 9)
    return read(self, index)
training, Dataset.__getitem__ = os.getpid(), dying_read
"""


@pytest.fixture
def train(tmp_path):
    """Runs tools/train.py in tmp_path; returns the finished process."""
    if not os.environ.get("PADDLESEG_DIR"):
        pytest.skip("PADDLESEG_DIR names no PaddleSeg checkout")
    write_scenes(tmp_path / "data", train=8, val=2, size=(96, 64), classes=DEMO_CLASSES)
    config = yaml.safe_load(zoo.path_of("bisenetv1_demo_256x128").read_text(encoding="utf-8"))
    config.update(batch_size=2)
    config["train_dataset"].update(dataset_root="data", train_path="data/train.txt", transforms=[{"type": "Normalize"}])
    config["val_dataset"].update(dataset_root="data", val_path="data/val.txt")
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))

    def run(*arguments, what="", largest_file=resource.RLIM_INFINITY):
        (tmp_path / "script.py").write_text(SCRIPT.format(what=what))
        tool = Path(os.environ["PADDLESEG_DIR"], "tools/train.py").resolve()
        options = ["--config", "config.yml", "--device", "cpu", "--iters", "6", "--save_interval", "2"]
        return subprocess.run(
            [sys.executable, "script.py", str(tool), *options, "--save_dir", "out", *map(str, arguments)],
            cwd=tmp_path,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file)),
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def sentence(done):
    assert done.returncode == 1
    return re.findall(r"^bisenetv1_plugin.errors.InputError: (.*)", done.stderr, re.MULTILINE)[-1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_image(train, tmp_path, num_workers):
    broken = sorted((tmp_path / "data/images/train").iterdir())[3]
    broken.write_bytes(b"no picture")
    said = sentence(train("--num_workers", num_workers))
    assert str(broken.relative_to(tmp_path)) in said and "cannot be read" in said


def test_killed_worker(train):
    assert "a process that reads the data was killed (Killed)" in sentence(
        train("--num_workers", 2, "--iters", 100, what=KILLED_WORKER)
    )


def test_kill_while_saving(train, tmp_path):
    assert train(what=KILLED_WHILE_IT_SAVES).returncode == -9
    assert not (tmp_path / "out/iter_4/model.pdparams").exists() and list(tmp_path.glob("out/iter_4/part-*"))
    assert paddle.load(str(tmp_path / "out/iter_2/model.pdparams"))


def test_full_disk(train, tmp_path):
    done = train(largest_file=10_000_000)
    assert done.returncode == 1 and "OSError" in done.stderr and "out/iter_2/model.pdparams" in done.stderr
    assert list(tmp_path.glob("out/iter_2/*.pd*")) == []


def test_nan(train, tmp_path):
    said = sentence(train("--learning_rate", 1e6, "--iters", 40, "--save_interval", 1))
    stopped = int(re.search(r"stopped at iteration (\d+): ", said)[1])
    assert (tmp_path / f"out/iter_{stopped - 1}").is_dir() and not (tmp_path / f"out/iter_{stopped}").exists()


def test_resume(train, tmp_path):
    assert train().returncode == 0
    assert train("--resume_model", "out/iter_6", "--iters", 8).returncode == 0
    begun = {re.search(r'"begun": (.*),', path.read_text())[1] for path in tmp_path.glob("out/iter_*/progress.json")}
    assert len(begun) == 1 and (tmp_path / "out/iter_8/progress.json").is_file()
