"""A resumed training gives the same result as one without a stop, in every part and after any number of stops."""

import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import paddle
import pytest
import yaml
from paddleseg import core

from bisenetv1_plugin import zoo
from bisenetv1_plugin.cli.training_view import TrainingView
from bisenetv1_plugin.compat import core_train, progress_file, resumed_training
from bisenetv1_plugin.datasets.classes import DEMO_CLASSES
from bisenetv1_plugin.datasets.synthetic import write_scenes
from bisenetv1_plugin.drawing import plots
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.models.bisenetv1 import BiSeNetV1
from bisenetv1_plugin.training import builder, checkpoints
from bisenetv1_plugin.training import train as training
from bisenetv1_plugin.training.watch import Watcher

SIZE = (96, 64)
MODEL, AVERAGE = "model.pdparams", "ema_model.pdparams"
BEST = {"best_model": MODEL, "ema_best_model": AVERAGE}
# mIoU of the network and of the average at 2, 4, 6 and 8. The best are at 4 and at 2.
FIGURES = [(0.3, 0.4), (0.5, 0.3), (0.2, 0.35), (0.4, 0.1)]


def write_project(folder):
    """Scenes, and a configuration with random transforms, dropout and a schedule that does not depend on `iters`."""
    write_scenes(folder / "data", train=12, val=2, size=SIZE, classes=DEMO_CLASSES)
    config = yaml.safe_load(zoo.path_of("bisenetv1_demo_256x128").read_text(encoding="utf-8"))
    config.update(batch_size=2)
    config["model"].update(variant="mmseg", backbone={"type": "Xception39"})  # small, for small checkpoints
    config["lr_scheduler"].update(decay_steps=50, learning_rate=0.01)
    config["train_dataset"].update(dataset_root="data", train_path="data/train.txt")
    config["train_dataset"]["transforms"][0]["crop_size"] = list(SIZE)
    config["val_dataset"].update(dataset_root="data", val_path="data/val.txt")
    (folder / "config.yml").write_text(yaml.safe_dump(config))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a project, in which the test runs."""
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(out, iters, opts=None, **options):
    options = {"save_interval": 2, "log_iters": 1, "do_eval": True, "use_ema": True, "seed": 5, **options}
    cfg = builder.load_config("config.yml", opts, iters=iters)
    with paddle.utils.unique_name.guard():  # the parameter names of a new process
        training.train(cfg, out, device="cpu", resume_model="latest", **options)


def return_figures(monkeypatch, scores):
    """Make evaluations return FIGURES, and append them to `scores`."""

    def evaluate(network, dataset, **options):
        network.eval()
        scores.append(FIGURES[len(scores) // 2 % len(FIGURES)][len(scores) % 2])
        return scores[-1], scores[-1], None, None, None

    monkeypatch.setattr(core_train.module(), "evaluate", evaluate)


@pytest.fixture
def figures(monkeypatch):
    return_figures(monkeypatch, [])


@pytest.fixture
def seen(monkeypatch):
    """The images that the network receives in training."""
    seen, forward = [], BiSeNetV1.forward

    def record(self, images):
        if self.training:
            seen.append(images.astype("float64").sum([1, 2, 3]).tolist())
        return forward(self, images)

    monkeypatch.setattr(BiSeNetV1, "forward", record)
    return seen


def state(path):
    return paddle.load(str(path), return_numpy=True)


def difference(a, b):
    """The largest difference between two files of tensors."""
    a, b = state(a), state(b)
    assert a.keys() == b.keys() and a.pop("LR_Scheduler", None) == b.pop("LR_Scheduler", None)
    return max(np.abs(a[key].astype("float64") - b[key]).max() for key in a if a[key].size)


def progress(folder):
    """The values in progress.json, without the times."""
    values = json.loads((folder / progress_file.NAME).read_text())
    return {key: value for key, value in values.items() if key not in ("begun", "saved")}


def files(folder):
    """The names in an output folder, without the records of VisualDL, which begin anew with each start."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("vdlrecords."))


def same(a, b, last):
    assert files(a) == files(b)
    for kind, name in {**BEST, f"iter_{last}": MODEL}.items():
        assert difference(a / kind / name, b / kind / name) <= 1e-6, kind
        assert progress(a / kind) == progress(b / kind)
    for name in ("model.pdopt", AVERAGE):
        assert difference(a / f"iter_{last}" / name, b / f"iter_{last}" / name) <= 1e-6, name


@pytest.mark.slow
def test_three_stops_change_nothing(folder, figures, seen):
    """Weights, momentum, learning rate, averages, images and curves. The data-loading processes have their own test."""
    options = {"keep_checkpoint_max": 2, "use_vdl": True}
    train("straight", 8, **options)
    straight = seen[:]
    seen.clear()
    for iters in (2, 4, 6, 8):
        train("stopped", iters, **options)
    assert seen == straight and len({image for batch in seen[:6] for image in batch}) == 12, "all 12 images"
    assert files("straight") == ["best_model", "ema_best_model", "iter_6", "iter_8"]
    same(folder / "straight", folder / "stopped", 8)
    best = [progress(folder / "stopped" / kind) for kind in BEST]
    assert best == [{"mIoU": 0.5, "iteration": 4}, {"mIoU": 0.4, "iteration": 2}]
    assert progress(folder / "stopped/iter_8")["stop_count"] == 2
    rates = plots.read_curve("straight", "Train/lr")
    assert rates == plots.read_curve("stopped", "Train/lr") and [i for i, _ in rates] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert len({rate for _, rate in rates}) == 8

    # The comparison is sensitive enough: without momentum the network differs.
    optimizer = paddle.load("stopped/iter_6/model.pdopt")
    for name in optimizer:
        if "velocity" in name:
            optimizer[name] = paddle.zeros_like(optimizer[name])
    paddle.save(optimizer, "stopped/iter_6/model.pdopt")
    shutil.rmtree("stopped/iter_8")
    train("stopped", 8, **options)
    assert difference(folder / "straight/iter_8" / MODEL, folder / "stopped/iter_8" / MODEL) > 1e-3


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A training of four iterations."""
    folder = tmp_path_factory.mktemp("stopped")
    write_project(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        return_figures(monkeypatch, [])
        train("out", 4)
    return folder


@pytest.mark.slow
class TestAfterAStop:
    @pytest.fixture
    def stopped(self, project, tmp_path, monkeypatch):
        """A copy of its output folder. The next evaluation is the third."""
        shutil.copytree(project, tmp_path, dirs_exist_ok=True)
        monkeypatch.chdir(tmp_path)
        return_figures(monkeypatch, [number for pair in FIGURES[:2] for number in pair])
        return tmp_path / "out"

    def test_kill_before_the_best_model_was_written(self, stopped):
        """The watcher gets the restored best model."""
        for kind, at in {"best_model": 4, "ema_best_model": 2}.items():
            assert progress(stopped / kind)["iteration"] == at
        shutil.rmtree(stopped / "best_model")
        train("out", 5, do_eval=False)  # writes no best model
        assert not (stopped / "best_model").exists()
        shutil.rmtree(stopped / "iter_5")
        calls = []

        class Recorder(Watcher):
            def on_start(self, iteration, iters, best=None):
                calls.append((iteration, iters, best))

        train("out", 6, watcher=Recorder())
        assert calls == [(4, 6, (0.5, 4))]
        assert difference(stopped / "best_model" / MODEL, stopped / "iter_4" / MODEL) == 0
        assert progress(stopped / "best_model") == {"mIoU": 0.5, "iteration": 4}

    def test_checkpoint_of_paddleseg_without_the_plugin(self, stopped, monkeypatch):
        """Restores weights and optimizer, and logs what starts again."""
        said = []
        monkeypatch.setattr(resumed_training.logger, "warning", said.append)
        for path in stopped.rglob(progress_file.NAME):
            path.unlink()
        (stopped / "iter_4" / AVERAGE).unlink()
        train("out", 6)
        assert [line for line in said if "out/iter_4 has no progress.json" in line and "starts again" in line]
        assert [line for line in said if "The average of --use_ema starts at out/iter_4" in line]
        assert progress(stopped / "best_model") == {"mIoU": 0.2, "iteration": 6}

    def test_early_stop_is_final(self, stopped, monkeypatch):
        said = []
        monkeypatch.setattr(training.logger, "info", said.append)
        values = json.loads((stopped / "iter_4" / progress_file.NAME).read_text())
        progress_file.write(str(stopped / "iter_4"), **{**values, "stop_count": 2})
        train("out", 6, early_stop_intervals=2)
        assert "Nothing is left to do: the training was stopped early at out/iter_4." in said

    @pytest.mark.skipif("early_stop_intervals" not in inspect.signature(core.train).parameters, reason="PaddleSeg 2.9")
    def test_early_stop_count_is_restored(self, stopped):
        train("out", 6, early_stop_intervals=2)
        train("out", 12, early_stop_intervals=2)
        assert (stopped / "iter_8").exists() and not (stopped / "iter_10").exists()
        assert progress(stopped / "iter_8")["stop_count"] == 2

    def test_unsuitable_changes_are_refused(self, stopped):
        """One image per batch; a different network, even after the last iteration; a different optimizer."""
        before = (stopped / "iter_4" / MODEL).read_bytes()
        with pytest.raises(InputError, match="batch_size 1 on each device would spoil the weights"):
            train("out", 6, ["batch_size=1"])
        with pytest.raises(InputError, match="batch_size 1 on each device would spoil the weights"):
            train("other", 6, ["batch_size=1", "model.pretrained=out/iter_4/model.pdparams"])
        more = [f"{part}.num_classes=6" for part in ("model", "train_dataset", "val_dataset")]
        for iters, options in ((4, {}), (6, {}), (6, {"early_stop_intervals": 2})):
            if options:
                values = json.loads((stopped / "iter_4" / progress_file.NAME).read_text())
                progress_file.write(str(stopped / "iter_4"), **{**values, "stop_count": 2})
            with pytest.raises(InputError, match="out/iter_4 is of a different network: it lacks 6 tensors"):
                train("out", iters, more, **options)
        config = yaml.safe_load((stopped.parent / "config.yml").read_text())
        (stopped.parent / "config.yml").write_text(yaml.safe_dump({**config, "optimizer": {"type": "Adam"}}))
        with pytest.raises(InputError, match="out/iter_4 was not trained with the optimizer Adam"):
            train("out", 6)
        assert (stopped / "iter_4" / MODEL).read_bytes() == before and not (stopped.parent / "other").exists()


def test_progress_view_shows_the_restored_best(capsys):
    view = TrainingView("a network", "out")
    view.on_start(4, 8, (0.5, 2))
    for tag, value in (("Evaluate/mIoU", 0.4), ("Evaluate/Acc", 0.6)):
        view.on_scalar(tag, value, 6)
    view.close()
    view.summary()
    said = capsys.readouterr().out
    assert "Validation at 6: mIoU 0.4000, Acc 0.6000; best 0.5000 at 2" in said
    assert "The best weights, mIoU 0.5000 at 2, are in" in said


def test_line_after_the_first_iteration(capsys):
    """Without a terminal. The later lines come once a minute."""
    view = TrainingView("a network", "out")
    view.on_start(4, 8)
    for _ in range(3):
        view.on_step()
    view.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("train: 5/8 iterations, ") and " left" in line


def command(*arguments):
    head = [sys.executable, "-m", "bisenetv1_plugin", "train", "--config", "config.yml", "--device", "cpu"]
    return [*head, "--do_eval", "--use_ema", "--seed", "5", "--log_iters", "1", *map(str, arguments)]


@pytest.mark.very_slow
def test_twenty_iterations_with_three_kills(folder):
    """SIGKILL after the first checkpoints from iterations 4, 10 and 16 on, with data-loading processes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    options = ["--iters", 20, "--save_interval", 2, "--keep_checkpoint_max", 3, "--num_workers", 2]
    assert subprocess.run(command("--save_dir", "straight", *options), env=environment).returncode == 0
    options += ["--save_dir", "killed", "--resume_model", "latest"]
    for number in (4, 10, 16):
        process = subprocess.Popen(command(*options), env=environment)
        deadline = time.time() + 300
        while not (folder / f"killed/iter_{number}/{AVERAGE}").exists() and time.time() < deadline:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folder / "killed/iter_20").exists()
    assert subprocess.run(command(*options), env=environment).returncode == 0
    for out in ("straight", "killed"):
        os.unlink(f"{out}/train.log")
        for checkpoint in (folder / out).glob("iter_*"):
            if checkpoints.fault(checkpoint):  # killed while it was deleted
                shutil.rmtree(checkpoint)
    same(folder / "straight", folder / "killed", 20)


@pytest.mark.very_slow
def test_two_processes_with_too_few_images(folder, tmp_path):
    """PaddleSeg alone would wait forever: 12 images are 6 for each process, but a batch has 8."""
    launch = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--backend", "gloo", "--log_dir", "log"]
    script = os.path.join(os.path.dirname(sys.executable), "bisenetv1")
    arguments = [*command("--batch_size", 8, "--save_dir", "out", "--iters", 2)[3:]]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *launch, script, *arguments], env=environment, timeout=200)
    logs = [path.read_text() for path in (tmp_path / "log").glob("workerlog.*")]
    assert done.returncode != 0
    assert any("too few for a batch of 8 in each of 2 processes: lower batch_size" in log for log in logs)
