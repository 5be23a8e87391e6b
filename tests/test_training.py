"""`bisenetv1 train` with unreadable samples, NaN, kills and full disks, and resuming afterwards."""

import inspect
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import paddle
import pytest
import yaml
from paddleseg import core

from bisenetv1_plugin import files, zoo
from bisenetv1_plugin.cli import main
from bisenetv1_plugin.compat import reader_failure
from bisenetv1_plugin.datasets.classes import DEMO_CLASSES
from bisenetv1_plugin.datasets.synthetic import write_scenes
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.losses import ohem
from bisenetv1_plugin.training import checkpoints
from bisenetv1_plugin.training import train as training
from bisenetv1_plugin.training.builder import load_config

SIZE = (96, 64)
FILES = ("model.pdparams", "model.pdopt")
PROGRESS = "progress.json"
KILLS = 12


@pytest.fixture
def project(tmp_path):
    """A folder with scenes, and a configuration without random transforms."""
    write_scenes(tmp_path / "data", train=4, val=2, size=SIZE, classes=DEMO_CLASSES)
    config = yaml.safe_load(zoo.path_of("bisenetv1_demo_256x128").read_text(encoding="utf-8"))
    config["model"]["backbone"] = {"type": "Xception39"}  # small, for small checkpoints
    config.update(batch_size=4, test_config={"auc_roc": True})  # for `val`; PaddleSeg's `train` does not know it
    config["train_dataset"].update(dataset_root="data", train_path="data/train.txt", transforms=[{"type": "Normalize"}])
    config["val_dataset"].update(dataset_root="data", val_path="data/val.txt")
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    return tmp_path


def command(*arguments):
    head = ["train", "--config", "config.yml", "--device", "cpu", "--log_iters", "1", "--save_dir", "out"]
    return [*head, *map(str, arguments)]


@pytest.fixture
def train(project, monkeypatch, capfd):
    """Runs the command in this process, which is faster. Returns what `subprocess.run` would.

    Afterwards its workers end, and Paddle's handler of their deaths is removed, as at the end of a process.
    """
    monkeypatch.chdir(project)
    before = signal.getsignal(signal.SIGCHLD)

    def run(*arguments):
        with paddle.utils.unique_name.guard():  # the parameter names of a new process
            code = main(command(*arguments))
        out, err = capfd.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    yield run
    reader_failure._end_all_workers()
    signal.signal(signal.SIGCHLD, before)


class Running:
    """A training in another process, with its output in a file."""

    def __init__(self, project, *arguments):
        self.project, self.log, self.begun = project, project / "log.txt", len(logged(project))
        words = [sys.executable, "-m", "bisenetv1_plugin", *command(*arguments)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(words, cwd=project, stdout=log, stderr=subprocess.STDOUT)

    def wait_for(self, condition):
        deadline = time.time() + 120
        while self.process.poll() is None and not condition() and time.time() < deadline:
            time.sleep(0.02)
        assert condition(), self.said

    def wait_for_checkpoint(self, iteration):
        self.wait_for((self.project / "out" / f"iter_{iteration}" / FILES[-1]).exists)

    def end(self):
        try:
            return self.process.wait(120)
        finally:
            self.process.kill()

    @property
    def said(self):
        return self.log.read_text()

    @property
    def iteration(self):
        """The last logged iteration."""
        return max([0, *map(int, re.findall(r"iter: (\d+)/", logged(self.project, self.begun)))])


def logged(project, begin=0):
    """The log of the trainings in the folder, from this character on."""
    path = project / "out" / "train.log"
    return path.read_text()[begin:] if path.exists() else ""


def refused(said):
    """The last message of a failed command."""
    assert "Traceback" not in said
    return re.findall(r"bisenetv1: .*", said)[-1]  # it may be on the line of a progress bar


def readable(folder):
    """The weights of a checkpoint. Checks that all its files are readable and finite."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith("part-")} - {PROGRESS}
    for name in names:
        state = paddle.load(str(folder / name), return_numpy=True)
        assert state and checkpoints._is_finite(state), folder / name
    assert not names or isinstance(json.loads((folder / PROGRESS).read_text()), dict)
    return sorted(names)


@pytest.mark.slow
class TestData:
    def test_is_checked_before_the_network_is_built(self, project, train):
        images = sorted((project / "data/images/train").iterdir())
        for image in images:
            image.write_bytes(b"no picture")
        done = train("--verbose")
        assert done.returncode == 2 and "Config Information" in done.stdout
        assert "config to build model" not in done.stdout
        assert images[0].name in refused(done.stderr) and "And 1 more: `bisenetv1 data check" in refused(done.stderr)

    @pytest.mark.very_slow
    def test_validation_data_are_ignored_without_do_eval(self, project, train):
        """With --do_eval, the same images may be used for both."""
        shutil.rmtree(project / "data/images/val")
        assert train("--iters", 1).returncode == 0
        done = train("--iters", 1, "--do_eval")
        assert done.returncode == 2 and "images/val" in refused(done.stderr)
        shutil.copy(project / "data/train.txt", project / "data/val.txt")
        done = train("--iters", 1, "--do_eval")
        assert done.returncode == 0 and "bisenetv1: The scores will be too good: " in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [pytest.param(0, marks=pytest.mark.very_slow), 2])
class TestUnreadableSample:
    """The sample breaks during the training. The data check finds earlier defects."""

    def test_in_training(self, project, num_workers):
        running = Running(project, "--num_workers", num_workers, "--save_interval", 2, "--iters", 1000)
        running.wait_for_checkpoint(2)
        image = project / (project / "data/train.txt").read_text().split()[0]
        broken = project / "data" / image.relative_to(project)
        broken.write_bytes(b"no picture")
        assert running.end() == 2
        sentence = refused(running.said)
        assert str(broken.relative_to(project)) in sentence and "cannot be read" in sentence
        assert readable(project / "out/iter_2") == sorted(FILES)

    def test_in_evaluation(self, project, train, monkeypatch, num_workers):
        broken = next((project / "data/images/val").iterdir())
        check = training.quick_check

        def check_and_break(cfg):
            report = check(cfg)
            broken.write_bytes(b"no picture")
            return report

        monkeypatch.setattr(training, "quick_check", check_and_break)
        done = train("--num_workers", num_workers, "--save_interval", 1, "--iters", 1000, "--do_eval")
        assert done.returncode == 2
        assert f"{broken.relative_to(project)} with label " in refused(done.stderr)


@pytest.mark.slow
class TestNaN:
    def test_nan_is_not_saved(self, project, train):
        """The learning rate is far too high. The first iteration is still finite."""
        done = train(*("--learning_rate", 1e6, "--iters", 40, "--save_interval", 1, "--do_eval"))
        assert done.returncode == 2
        iteration = int(re.search(r"stopped at iteration (\d+): ", refused(done.stderr))[1])
        assert "lower learning rate" in refused(done.stderr)
        kept = [path.name for path in (project / "out").iterdir() if path.name.startswith("iter_")]
        assert f"iter_{iteration - 1}" in kept and f"iter_{iteration}" not in kept
        for name in kept:
            assert readable(project / "out" / name)
        assert readable(project / "out/best_model")

    def test_stops_between_checkpoints(self, project, train, monkeypatch):
        monkeypatch.setattr(ohem, "_CHECK_EVERY", 10)
        done = train(*("--learning_rate", 1e6, "--iters", 500, "--save_interval", 500, "--batch_size", 1))
        assert done.returncode == 2
        first = re.search(r"iter: (\d+)/500, loss: nan", logged(project))[1]
        at, since = re.search(
            r"stopped at iteration (\d+): the loss has been NaN since iteration (\d+)", refused(done.stderr)
        ).groups()
        assert since == first and int(at) <= int(first) + 10 + ohem._PATIENCE
        assert os.listdir(project / "out") == ["train.log"] and refused(done.stderr) in logged(project)


@pytest.mark.slow
class TestResume:
    """What a resumed training restores: tests/test_resuming.py."""

    def test_without_a_checkpoint_and_after_the_last_iteration(self, project, train):
        options = ["--iters", 1, "--resume_model", "latest"]
        done = train(*options)
        assert done.returncode == 0 and "no complete checkpoint in out: starting from the beginning" in done.stdout
        done = train(*options)
        assert done.returncode == 0 and "Nothing is left to do: out/iter_1 has all of the 1 iterations" in done.stdout


class TestNewest:
    @pytest.fixture
    def said(self, monkeypatch):
        said = []
        monkeypatch.setattr(checkpoints.logger, "info", said.append)
        monkeypatch.setattr(checkpoints.logger, "warning", said.append)
        return said

    @pytest.fixture
    def out(self, tmp_path):
        """Four complete checkpoints."""
        for iteration in (2, 4, 8, 10):
            for name in FILES:
                paddle.save({"a": paddle.ones([100])}, str(tmp_path / f"iter_{iteration}" / name))
        return tmp_path

    def test_skips_broken_checkpoints(self, out, said):
        (out / "iter_10" / FILES[1]).unlink()
        os.truncate(out / "iter_8" / FILES[0], 50)
        paddle.save({"a": {"b": paddle.to_tensor([float("nan")])}}, str(out / "iter_4" / FILES[1]))
        (out / "iter_12").mkdir()
        for number in (2, 4, 8, 10, 12):  # restore the times of writing after the damage
            for path in (out / f"iter_{number}", *(out / f"iter_{number}").iterdir()):
                os.utime(path, (number, number))
        (out / "iter_best").mkdir()
        (out / "iter_2" / "part-abc_12xy.pdparams").touch()
        (out / "best_model").mkdir()
        (out / "best_model" / "part-abc_12xy.pdparams").touch()
        assert checkpoints.newest(str(out)) == str(out / "iter_2")
        reasons = ["12: it has no model.pdparams", "10: it has no model.pdopt", "8: model.pdparams cannot be read"]
        reasons += ["4: model.pdopt holds NaN or infinity"]
        assert len(said) == 5 and all(reason in line for reason, line in zip(reasons, said))
        assert said[-1] == f"Resuming from {out / 'iter_2'}, the newest complete checkpoint in {out}."
        assert not list(out.glob("*/part-*"))

    def test_is_the_last_one_written(self, out, said):
        """It is not the one with the most iterations, which another training left."""
        for number, written in ((2, 40), (4, 50), (8, 20), (10, 30)):
            for path in (out / f"iter_{number}").iterdir():
                os.utime(path, (written, written))
        assert checkpoints.newest(str(out)) == str(out / "iter_4")
        values = {"begun": 1, "seed": 0, "average": False, "mIoU": None, "ema_mIoU": None, "stop_count": 0}
        for number, saved in ((2, 70), (4, 60)):  # progress.json has precedence: copies have other file times
            progress = {**values, "saved": saved, "loss_scaling": None}
            (out / f"iter_{number}" / PROGRESS).write_text(json.dumps(progress))
        assert checkpoints.newest(str(out)) == str(out / "iter_2")
        (out / "iter_2" / PROGRESS).write_text(json.dumps({**progress, "average": True, "saved": 80}))
        assert checkpoints.newest(str(out)) == str(out / "iter_4")
        assert [line for line in said if "Skipping" in line and "it has no ema_model.pdparams" in line]
        (out / "iter_4" / PROGRESS).write_text("{}")
        assert checkpoints.newest(str(out)) == str(out / "iter_10")
        assert [line for line in said if f"Skipping {out / 'iter_4'}: " in line and "begun cannot be" in line]

    def test_none(self, tmp_path, said):
        for folder in (tmp_path, tmp_path / "absent"):
            assert checkpoints.newest(str(folder)) is None
        assert all("starting from the beginning" in line for line in said)

    def test_broken_checkpoint_is_refused_by_name(self, out):
        (out / "iter_10" / FILES[1]).unlink()
        with pytest.raises(InputError, match="it has no model.pdopt; resume from the checkpoint before it, or from"):
            checkpoints.refuse_broken(str(out / "iter_10"))
        with pytest.raises(InputError, match="give a folder named iter_N, or `latest`"):
            checkpoints.refuse_broken(str(out))


class TestOutputFolder:
    @pytest.mark.slow
    def test_has_one_training_at_a_time(self, project, train):
        """A kill releases the folder at once, even if data-loading processes are still running."""
        options = ["--save_interval", 2, "--keep_checkpoint_max", 1000, "--num_workers", 2, "--resume_model", "latest"]
        running = Running(project, "--iters", 1000, *options)
        running.wait_for_checkpoint(2)
        part = project / "out/iter_2/part-abc_12xy.pdparams"
        part.touch()
        before = len(logged(project))
        done = train("--iters", 1, *options)
        assert done.returncode == 2 and "another training is writing into out: wait until it ends" in refused(
            done.stderr
        )
        running.wait_for(lambda: logged(project, before) != "")
        assert part.exists() and running.process.poll() is None
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
        done = train("--iters", 1, *options)
        assert done.returncode == 0 and "Nothing is left to do" in done.stdout, done.stderr
        assert not part.exists()

    def test_is_shared_by_the_processes_of_one_training(self, tmp_path):
        reserve_folder = checkpoints.reserve_folder
        with reserve_folder(str(tmp_path), True), reserve_folder(str(tmp_path), False):
            pass

    def test_is_removed_if_it_stays_empty(self, tmp_path):
        with pytest.raises(InputError, match="no reason"), checkpoints.reserve_folder(str(tmp_path / "out"), True):
            assert (tmp_path / "out").is_dir()
            raise InputError("no reason")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("there", [False, True])
    def test_has_no_empty_best_model_after_an_early_end(self, tmp_path, there):
        """As when SIGTERM arrives while the first best model is written."""
        best = tmp_path / "best_model"
        if there:
            best.mkdir()
        with pytest.raises(KeyboardInterrupt), checkpoints.reserve_folder(str(tmp_path), True), files.whole_file(
            best / "model.pdparams"
        ):
            raise KeyboardInterrupt
        assert best.exists() == there

    def test_keeps_the_best_model(self, tmp_path):
        with checkpoints.reserve_folder(str(tmp_path), True):
            files.write(tmp_path / "best_model" / "model.pdparams", b"weights")
        assert (tmp_path / "best_model" / "model.pdparams").read_bytes() == b"weights"

    def test_file_is_refused(self, tmp_path):
        """PaddleSeg would delete the file."""
        (tmp_path / "out").write_text("mine")
        with pytest.raises(InputError, match="out is not a folder"), checkpoints.reserve_folder(
            str(tmp_path / "out"), True
        ):
            pass
        assert (tmp_path / "out").read_text() == "mine"

    def test_other_files_named_part_are_kept(self, tmp_path):
        for name in ("book", "moved", "iter_6", "iter_notes"):
            (tmp_path / name).mkdir()
        (tmp_path / "iter_4").symlink_to("moved")
        mine = [tmp_path / "book/part-1.pdf", tmp_path / "book/part-1.pdparams"]
        mine += [tmp_path / "moved/part-abc_12xy.pdparams", tmp_path / "iter_notes/part-abc_12xy.json"]
        mine.append(tmp_path / "iter_6/part-00000-of-2.json")
        for path in mine:
            path.touch()
        assert checkpoints.newest(str(tmp_path)) is None
        assert all(path.exists() for path in mine)


class TestOverwriting:
    """A training does not overwrite its inputs or files of other programs."""

    @staticmethod
    def check(out, reads="none", iters=10, do_eval=True, resume_model=None):
        values = {"model": {"backbone": {"pretrained": str(reads)}}}
        checkpoints.check_outputs(values, iters, str(out), resume_model, 5, do_eval, False)

    @pytest.fixture
    def out(self, tmp_path):
        for name in ("iter_5", "iter_7", "iter_10", "best_model"):
            (tmp_path / "out" / name).mkdir(parents=True)
            for file in FILES if name != "best_model" else FILES[:1]:
                (tmp_path / "out" / name / file).write_text(name)
        return tmp_path / "out"

    def test_earlier_training_may_be_overwritten(self, out):
        self.check(out)
        self.check(out, resume_model=str(out / "iter_5"))
        (out / "iter_10" / "part-abc_12xy.pdparams").touch()
        (out / "iter_10" / FILES[1]).unlink()
        self.check(out)

    @pytest.mark.parametrize("name", ["best_model", "iter_5", "iter_10"])
    @pytest.mark.parametrize("link", [None, os.symlink, os.link])
    def test_inputs_are_refused(self, out, tmp_path, name, link):
        read = out / name / FILES[0]
        if link:
            link(read, tmp_path / "mine.pdparams")
            read = tmp_path / "mine.pdparams"
        with pytest.raises(InputError, match=f"{name}/model.pdparams would be written, and it is read"):
            self.check(out, read)

    def test_inputs_outside_of_the_outputs_are_allowed(self, out):
        self.check(out, out / "iter_7" / FILES[0])
        self.check(out, out / "best_model" / FILES[0], do_eval=False)
        self.check(out, out / "iter_10" / FILES[0], iters=9)
        self.check(out, out / "iter_5" / FILES[0], resume_model=str(out / "iter_5"))

    def test_other_files_are_refused(self, out, tmp_path):
        shutil.rmtree(out / "iter_10")
        (out / "iter_10").write_text("mine")
        with pytest.raises(
            InputError, match="iter_10 is not a folder, and the training would write a checkpoint there"
        ):
            self.check(out)
        (out / "iter_10").unlink()
        (out / "iter_10").mkdir()
        (out / "iter_10" / "notes.txt").write_text("mine")
        with pytest.raises(InputError, match="iter_10 has files that no training wrote: move it away"):
            self.check(out)
        shutil.rmtree(out / "iter_10")
        (tmp_path / "elsewhere").mkdir()
        (out / "iter_10").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(InputError, match="iter_10 points outside"):
            self.check(out)
        (out / "iter_10").unlink()
        (tmp_path / "mine.pdparams").write_text("mine")
        (out / "best_model" / FILES[0]).unlink()
        (out / "best_model" / FILES[0]).symlink_to(tmp_path / "mine.pdparams")
        with pytest.raises(InputError, match="best_model/model.pdparams points outside"):
            self.check(out)

    @pytest.mark.slow
    def test_in_a_training(self, project, train):
        assert train("--iters", 1).returncode == 0
        config = yaml.safe_load((project / "config.yml").read_text())
        config["model"]["pretrained"] = "out/iter_1/model.pdparams"
        (project / "config.yml").write_text(yaml.safe_dump(config))
        before = (project / "out/iter_1/model.pdparams").read_bytes()
        done = train("--iters", 1)
        assert done.returncode == 2
        assert "out/iter_1/model.pdparams would be written, and it is read" in refused(done.stderr)
        assert (project / "out/iter_1/model.pdparams").read_bytes() == before


@pytest.mark.slow
def test_loss_with_wrong_coefficients(project, monkeypatch):
    """The ValueError becomes an `InputError`."""
    monkeypatch.chdir(project)
    config = yaml.safe_load(Path("config.yml").read_text())
    config["loss"]["types"][0]["weight"] = [1, 2, 3]
    Path("config.yml").write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match="the loss cannot be computed: `weight` has 3 numbers"):
        training.train(load_config("config.yml", iters=1), "out", device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["CrossEntropyLoss", "DiceLoss"])
def test_loss_of_paddleseg(project, monkeypatch, kind):
    """PaddleSeg 2.8's `train` cannot log these losses with Paddle 2.5 or later. Later versions can."""
    config = yaml.safe_load((project / "config.yml").read_text())
    config["loss"]["types"] = [{"type": kind}]
    (project / "config.yml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(project)
    cfg = load_config("config.yml", iters=1)
    if "early_stop_intervals" not in inspect.signature(core.train).parameters:  # PaddleSeg 2.8
        with pytest.raises(InputError, match="a loss of this configuration cannot be computed"):
            training.train(cfg, "out", device="cpu")
    else:
        training.train(cfg, "out", device="cpu")
        assert readable(project / "out/iter_1")


@pytest.mark.slow
def test_full_disk(project, train):
    """Simulated by a limit on the file size, which also fails in the middle of a file."""
    assert train("--iters", 1).returncode == 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        done = train("--iters", 2, "--resume_model", "latest")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.returncode == 2
    path, rest = re.search(r"bisenetv1: (\S+): (.*)", refused(done.stderr)).groups()
    assert "file is larger than is allowed" in rest and "continue with --resume_model latest" in rest
    assert re.fullmatch(r"out/iter_2/model\.pd\w+", path)
    assert not list((project / "out").rglob("part-*")) and not (project / path).exists()
    assert readable(project / "out/iter_1") == sorted(FILES)
    assert checkpoints.newest(str(project / "out")) == str(project / "out/iter_1")


@pytest.mark.very_slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_resumes_after_every_kill(project):
    """Only the iterations since the last complete checkpoint are lost."""
    moments, out, reached = random.Random(2), project / "out", 0
    options = ["--num_workers", 2, "--save_interval", 2, "--resume_model", "latest", "--batch_size", 2]
    lost, parts, skipped = [], 0, 0
    for kill in range(KILLS):
        running = Running(project, "--iters", 100000, *options)
        if kill % 4 == 3:
            time.sleep(moments.uniform(0, 6))  # at any moment, often during the start
        else:
            running.wait_for(lambda running=running: running.iteration > 0)
            time.sleep(moments.uniform(0, 3))
        assert running.process.poll() is None, running.said
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()

        resumed = re.search(r"Resuming from out/iter_(\d+)", running.said)
        if reached and running.iteration:
            assert resumed and int(resumed[1]) == reached
        skipped += running.said.count("Skipping")
        parts += len(list(out.rglob("part-*")))
        whole = [folder for folder in out.glob("iter_*") if readable(folder) == sorted(FILES)]
        newest = max([0, *(int(folder.name[5:]) for folder in whole)])
        assert newest >= reached
        if running.iteration:
            lost.append(running.iteration - newest)
        reached = newest
        for folder in sorted(whole, key=lambda folder: int(folder.name[5:]))[:-2]:
            shutil.rmtree(folder)  # PaddleSeg counts only the checkpoints of one run

    running = Running(project, "--iters", reached + 3, *options)
    assert running.end() == 0, running.said
    assert f"Resuming from out/iter_{reached}" in running.said
    assert readable(out / f"iter_{reached + 3}") == sorted(FILES) and not list(out.rglob("part-*"))
    print(f"{KILLS} kills, {reached + 3} iterations, lost {lost}, {parts} part files, {skipped} passed over")
    assert max(lost) <= 2
    deadline = time.time() + 15  # the workers check every five seconds
    while processes_in(project) and time.time() < deadline:
        time.sleep(0.5)
    assert not processes_in(project)


def processes_in(folder):
    """The processes with this working directory."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path(os.readlink(f"/proc/{process}/cwd")) == folder:
                found.append(int(process))
        except OSError:  # it has ended, or another user's
            continue
    return found
