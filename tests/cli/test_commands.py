"""The command line from end to end on a few generated scenes, and what it refuses."""

import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from PIL import Image

from bisenetv1_plugin import __main__, machine, zoo
from bisenetv1_plugin.cli import main
from bisenetv1_plugin.datasets.classes import DEMO_CLASSES
from bisenetv1_plugin.datasets.synthetic import write_scenes
from bisenetv1_plugin.drawing import plots

ITERS = 4


def bisenetv1(folder, *arguments):
    """Run a command in a process of its own."""
    words = [sys.executable, "-m", "bisenetv1_plugin", *map(str, arguments)]
    return subprocess.run(words, cwd=folder, text=True, capture_output=True, timeout=600)


def succeeded(done):
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def train(save_dir, *arguments):
    """The words of a training."""
    words = ["train", "--config", "config.yml", "--device", "cpu", "--save_dir", save_dir, "--log_iters", 1]
    return [*words, *arguments]


def logged(save_dir):
    """What the last training into this folder did not show."""
    return (save_dir / "train.log").read_text().rpartition("\n=== ")[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scenes and a configuration for them."""
    folder = tmp_path_factory.mktemp("tools")
    write_scenes(folder / "data", train=8, val=4, size=(96, 64), classes=DEMO_CLASSES)
    config = yaml.safe_load(zoo.path_of("bisenetv1_demo_256x128").read_text(encoding="utf-8"))
    config.update(iters=ITERS, batch_size=4)
    config["train_dataset"].update(dataset_root="data", train_path="data/train.txt")
    config["train_dataset"]["transforms"][0]["crop_size"] = [96, 64]
    config["val_dataset"].update(dataset_root="data", val_path="data/val.txt")
    (folder / "config.yml").write_text(yaml.safe_dump(config))
    return folder


TENSORBOARD = importlib.util.find_spec("tensorboard") is not None


@pytest.fixture(scope="module")
def shown(folder):
    """The output into a pipe of a training with evaluation, curves and an averaged network."""
    flags = ["--do_eval", "--use_vdl", "--use_ema", "--save_interval", 2, "--seed", 1, *["--tensorboard"] * TENSORBOARD]
    done = bisenetv1(folder, *train("out", *flags))
    succeeded(done)
    return done.stdout


@pytest.fixture(scope="module")
def trained(folder, shown):
    """That training's folder and its log."""
    return folder / "out", logged(folder / "out")


@pytest.fixture(scope="module")
def weights(trained):
    return trained[0] / f"iter_{ITERS}" / "model.pdparams"


@pytest.fixture(scope="module")
def exported(folder, weights):
    words = ["export", "--config", folder / "config.yml", "--model_path", weights, "--save_dir", folder / "ex"]
    assert main([*map(str, words), "--device", "cpu"]) == 0
    return folder / "ex"


@pytest.fixture
def here(folder, command, monkeypatch):
    """Runs a command in this process, in the folder of the scenes."""
    monkeypatch.chdir(folder)
    return command


def miou(output):
    return [float(value) for value in re.findall(r"mIoU: ([\d.]+)", output)]


class TestTrain:
    @pytest.mark.slow
    def test_checkpoints_and_curves(self, trained):
        out, log = trained
        for name in ("model.pdparams", "model.pdopt", "ema_model.pdparams"):
            assert (out / f"iter_{ITERS}" / name).stat().st_size > 1e6
        assert len(re.findall(r"\[TRAIN\]", log)) == ITERS and "ETA" in log
        losses = re.findall(r"iter: (\d+)/4, loss: ([\d.]+)", log)
        assert [(str(i), f"{loss:.4f}") for i, loss in plots.read_curve(out, "Train/loss")] == losses
        assert [i for i, _ in plots.read_curve(out, "Evaluate/mIoU")] == [2, 4]
        colors = {color for _, color in Image.open(out / "curves.png").convert("RGB").getcolors(100000)}
        assert {(31, 119, 180), (255, 127, 14)} <= colors  # both curves are drawn

    def test_curves_of_a_folder_whose_name_is_a_pattern(self, trained, tmp_path):
        odd = tmp_path / "runs[1]"
        odd.mkdir()
        for record in trained[0].glob("vdlrecords.*"):
            shutil.copy(record, odd)
        assert plots.read_curve(odd, "Train/loss") == plots.read_curve(trained[0], "Train/loss")

    def test_screen_output(self, folder, shown, trained):
        """What runs, every validation, the result, and where the files are; the log has all of PaddleSeg's lines."""
        lines = shown.splitlines()
        assert lines[0] == "Training BiSeNetV1 with ResNet18_v1b, batch 4: 4 iterations, on cpu"
        found = re.findall(r"\[EVAL\] #Images: 4 mIoU: ([\d.]+) Acc: ([\d.]+)", trained[1])
        assert len(found) == 4, "network and average, at 2 and at 4"
        for line, (miou, acc) in zip(lines[1:5], found):
            assert f"mIoU {miou}, Acc {acc}" in line
        assert [line.split(":")[0] for line in lines[1:5]] == [
            *("Validation at 2", "  averaged weights", "Validation at 4", "  averaged weights")
        ]
        best = max(found[0], found[2])[0]
        assert re.fullmatch(r"Trained 4 iterations in \d+\.\d minutes\.", lines[5])
        assert re.fullmatch(rf"The best weights, mIoU {best} at [24], are in out/best_model/model.pdparams", lines[6])
        assert lines[7:] == ["The curves are in out/curves.png", "The log is in out/train.log"]
        for line in (*lines[:-1], "Environment Information", "Config Information", "Total Flops"):
            assert line in trained[1]

    @pytest.mark.skipif(not TENSORBOARD, reason="tensorboard is not installed")
    def test_tensorboard_has_visualdl_s_curves(self, trained):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util import tensor_util

        events = EventAccumulator(str(trained[0]), size_guidance={"tensors": 0})
        events.Reload()
        assert "Train/lr" in events.Tags()["tensors"] and "Evaluate/Ema_mIoU" in events.Tags()["tensors"]
        for tag in events.Tags()["tensors"]:
            points = {event.step: float(tensor_util.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)}
            assert points == pytest.approx(dict(plots.read_curve(trained[0], tag))), tag

    def test_tensorboard_is_not_installed(self, folder, monkeypatch, capsys):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        assert main(["train", "--config", "config.yml", "--device", "cpu", "--save_dir", "no", "--tensorboard"]) == 2
        assert "--tensorboard needs the package tensorboard: pip install" in capsys.readouterr().err
        assert not (folder / "no").exists()

    @pytest.mark.slow
    def test_without_evaluation(self, folder, in_a_terminal):
        """On a terminal, with a bar."""
        arguments = ["--save_dir", "plain", "--log_iters", 1, "--iters", 2, "--save_interval", 1]
        done = in_a_terminal(folder, "train", "--config", "config.yml", "--device", "cpu", *arguments)
        assert done.returncode == 0, done.said
        loss, rate = re.findall(r"iter: 2/2, loss: ([\d.]+), lr: ([\d.]+)", logged(folder / "plain"))[0]
        bar = re.search(rf"\rtrain: 100%\|.*?loss={loss}, lr=(\S+?)\]", done.said)
        assert float(bar[1]) == pytest.approx(float(rate), rel=0.01), "a bar that moves in place, with loss and rate"
        assert done.said.count("\n") <= 6 and "[TRAIN]" not in done.said
        assert (folder / "plain" / "iter_1" / "model.pdparams").is_file()

    @pytest.mark.slow
    def test_verbose_shows_the_output_of_paddleseg(self, folder):
        done = bisenetv1(folder, *train("verbose", "--verbose", "--iters", 1))
        if "cannot access local variable 'mean_iou'" in done.stderr:
            pytest.xfail("PaddleSeg 2.9.1 cannot train any model without --do_eval")
        assert len(re.findall(r"\[TRAIN\]", succeeded(done))) == 1 and "Environment Information" in done.stdout
        assert sorted(os.listdir(folder / "verbose")) == ["iter_1"]

    @pytest.mark.very_slow
    def test_static_training(self, folder, in_a_terminal):
        """On a terminal, where lines and the bar must not overwrite each other."""
        flags = ["--log_iters", 1, "--iters", 2, "--save_interval", 1, "--do_eval", "--to_static_training"]
        done = in_a_terminal(
            folder, "train", "--config", "config.yml", "--device", "cpu", "--save_dir", "static", *flags
        )
        assert done.returncode == 0 and len(re.findall(r"[\r\n]Validation at [12]: ", done.said)) == 2, done.said
        assert re.search(r"\rvalidate: +\d+%", done.said), (
            "how far it comes to be drawn is a matter of tenths of seconds"
        )
        log = logged(folder / "static")
        assert "Successfully" in log and len(re.findall(r"\[TRAIN\]", log)) == 2

    @pytest.mark.slow
    def test_resumes_after_sigkill(self, folder):
        command = [sys.executable, "-m", "bisenetv1_plugin", "train", "--config", "config.yml", "--device", "cpu"]
        command += ["--save_dir", "killed", "--iters", "500", "--save_interval", "2", "--do_eval"]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        later = folder / "killed" / "iter_6"  # once it is there, iter_4 is whole
        deadline = time.time() + 300
        while not later.exists() and time.time() < deadline and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert later.exists()

        # In a process of its own: Paddle numbers its parameters, and the optimizer's state has these numbers.
        succeeded(bisenetv1(folder, *train("resumed", "--iters", 6, "--do_eval", "--resume_model", "killed/iter_4")))
        assert re.findall(r"iter: (\d+)/6", logged(folder / "resumed")) == ["5", "6"]
        optimizer = paddle.load(str(folder / "resumed" / "iter_6" / "model.pdopt"))
        assert optimizer["LR_Scheduler"]["last_epoch"] == 6
        shutil.rmtree(folder / "killed")

    @pytest.mark.parametrize(
        "prepare, sentence",
        [
            (lambda f: shutil.rmtree(f), "has no model.pdparams"),
            (lambda f: (f / "model.pdopt").unlink(), "has no model.pdopt"),
            (lambda f: os.truncate(f / "model.pdopt", 1000), "resume from the checkpoint before it"),
        ],
    )
    @pytest.mark.slow
    def test_refuses_a_broken_checkpoint(self, folder, here, weights, tmp_path, prepare, sentence):
        checkpoint = tmp_path / "iter_4"
        shutil.copytree(weights.parent, checkpoint)
        prepare(checkpoint)
        done = here(*train("never", "--resume_model", checkpoint))
        assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr
        assert not (folder / "never").exists()

    @pytest.mark.slow
    def test_two_processes(self, folder, tmp_path):
        """paddle.distributed.launch on the CPU: the plugin is registered in both, and each sees half of the data."""
        script = Path(sys.executable).with_name("bisenetv1")
        command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--backend", "gloo"]
        command += [
            "--log_dir",
            str(tmp_path / "log"),
            str(script),
            "train",
            "--config",
            "config.yml",
            "--device",
            "cpu",
        ]
        command += ["--save_dir", "two", "--iters", "2", "--batch_size", "2", "--log_iters", "1", "--do_eval"]
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, text=True, capture_output=True, timeout=600, env=env)
        logs = [path.read_text() for path in sorted((tmp_path / "log").glob("workerlog.*"))]
        assert done.returncode == 0, "\n".join(log[-2000:] for log in logs) + done.stdout[-2000:] + done.stderr[-2000:]
        assert len(logs) == 2
        assert (folder / "two" / "iter_2" / "model.pdparams").is_file()
        assert "Training BiSeNetV1" in logs[0] and "Training BiSeNetV1" not in logs[1], "the first process talks"
        # 8 images, 2 processes with 2 each: an epoch has 2 iterations
        assert "epoch: 1, iter: 2/2" in logged(folder / "two")


class TestVal:
    @pytest.mark.slow
    def test_agrees_with_the_training(self, folder, here, trained, weights):
        flags = ["--config", "config.yml", "--model_path", weights, "--device", "cpu", "--json", "val.json"]
        log = succeeded(here("val", *flags))
        evaluations = re.findall(r"\[EVAL\] #Images: \d+ (mIoU: [\d.]+)", trained[1])
        assert miou(log)[0] == miou(evaluations[2])[0]  # network and average at 2, then the network at 4
        assert len(log.splitlines()) == 2 + 1 + len(DEMO_CLASSES), log
        names = [name for name, _ in DEMO_CLASSES]

        found = json.loads((folder / "val.json").read_text())
        logged_iou = re.findall(r"Class IoU: \n\[([^\]]*)\]", trained[1])[2].split()
        assert found["class_iou"] == pytest.approx([float(value) for value in logged_iou], abs=1e-4)
        for key, title in (("class_precision", "Precision"), ("class_recall", "Recall")):
            values = re.findall(rf"Class {title}: \n\[([^\]]*)\]", trained[1])[2].split()
            assert found[key] == pytest.approx([float(value) for value in values], abs=1e-4)
        assert (found["images"], found["auc_roc"], found["classes"]) == (4, None, names)
        assert miou(log)[0] == pytest.approx(found["miou"], abs=1e-4)
        for key in ("acc", "kappa", "dice"):
            assert f"{key.capitalize()}: {found[key]:.4f}" in log

    @pytest.mark.slow
    def test_scales_flips_and_windows(self, here, weights):
        options = ["--aug_eval", "--scales", "0.75", "1.0", "--flip_horizontal", "--is_slide"]
        options += ["--crop_size", "64", "64", "--stride", "32", "32"]
        command = ["val", "--config", "config.yml", "--model_path", weights, "--device", "cpu"]
        assert 0 <= miou(succeeded(here(*command, *options)))[0] <= 1

    @pytest.mark.parametrize(
        "arguments, sentence",
        [
            (["--config", "absent.yml", "--model_path", "w"], "there is no configuration absent.yml"),
            (
                ["--config", "config.yml", "--model_path", "absent.pdparams"],
                "the weights cannot be used: there are no weights at absent.pdparams: ",
            ),
            (["--config", "config.yml", "--model_path", "config.yml"], "cannot read the weights config.yml"),
            (["--config", "config.yml", "--model_path", "w", "--is_slide"], "--is_slide needs --crop_size"),
            (["--config", "config.yml", "--model_path", "w", "--scales", "2"], "need --aug_eval"),
        ],
    )
    @pytest.mark.slow
    def test_refuses(self, here, arguments, sentence):
        done = here("val", "--device", "cpu", *arguments)
        assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr

    @pytest.mark.slow
    def test_refuses_weights_of_another_network(self, here, weights):
        flags = ["--config", "config.yml", "--model_path", weights, "--device", "cpu"]
        done = here("val", *flags, "--opts", "model.variant=paddleseg")
        assert done.returncode == 2 and "does not fit this BiSeNetV1" in done.stderr


class TestPredictAndInfer:
    @pytest.mark.slow
    def test_the_same_masks(self, folder, here, weights, exported):
        images = folder / "data" / "images" / "val"
        flags = ["--image_path", images, "--device", "cpu"]
        outputs = ["--save_dir", "predicted"]
        said = succeeded(here("predict", "--config", "config.yml", "--model_path", weights, *outputs, *flags))
        assert "Overlays: predicted/added_prediction; masks: predicted/pseudo_color_prediction" in said
        for batch_size in (1, 3):
            outputs = ["--save_dir", f"inferred{batch_size}", "--batch_size", batch_size, "--json", "infer.json"]
            succeeded(here("infer", "--config", exported / "deploy.yaml", *outputs, *flags))
            names = sorted(path.stem for path in images.iterdir())
            for name in names:
                a = np.asarray(Image.open(folder / "predicted" / "pseudo_color_prediction" / f"{name}.png"))
                b = np.asarray(Image.open(folder / f"inferred{batch_size}" / f"{name}.png"))
                assert a.shape == (64, 96) and (a == b).mean() >= 0.9999
            assert len(list((folder / f"inferred{batch_size}").glob("*.png"))) == len(names)
            found = json.loads((folder / "infer.json").read_text())
            assert [image["name"] for image in found["images"]] == names and found["faults"] == []
            assert found["runtime"] in ("openvino", "onnxruntime", "paddle") and found["precision"] == "fp32"
            assert found["seconds"] > 0
            for image in found["images"]:
                mask = np.asarray(Image.open(folder / f"inferred{batch_size}" / f"{image['name']}.png"))
                shares = {str(value): (mask == value).mean() for value in np.unique(mask)}
                assert image["shares"] == pytest.approx(shares, abs=1e-6)
        assert len(list((folder / "predicted" / "added_prediction").iterdir())) == len(names)

    def test_deploy_yaml_names_existing_files(self, exported):
        deploy = yaml.safe_load((exported / "deploy.yaml").read_text())["Deploy"]
        assert (exported / deploy["model"]).is_file() and (exported / deploy["params"]).is_file()
        assert deploy["output_op"] == "argmax"
        assert deploy["transforms"] == [{"type": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3}]
        assert not [path for path in exported.iterdir() if path.name.startswith(".")]

    @pytest.mark.slow
    def test_bad_image_is_skipped_and_named(self, folder, here, exported, tmp_path):
        shutil.copytree(folder / "data" / "images" / "val", tmp_path / "images")
        (tmp_path / "images" / "bad.png").write_bytes(b"no picture")
        done = here(
            *("infer", "--config", exported / "deploy.yaml", "--image_path", tmp_path / "images"),
            *("--save_dir", tmp_path / "masks", "--device", "cpu", "--json", tmp_path / "infer.json"),
        )
        assert done.returncode == 1 and "bad.png cannot be read and was left out" in done.stderr
        (fault,) = json.loads((tmp_path / "infer.json").read_text())["faults"]
        assert f"bisenetv1: {fault}\n" == done.stderr
        assert len(list((tmp_path / "masks").glob("*.png"))) == 4

    @pytest.mark.slow
    def test_resized_masks_have_the_size_of_the_image(self, here, exported, tmp_path):
        shutil.copytree(exported, tmp_path / "ex")
        deploy = yaml.safe_load((tmp_path / "ex" / "deploy.yaml").read_text())
        deploy["Deploy"]["transforms"].insert(0, {"type": "Resize", "target_size": [64, 32]})
        (tmp_path / "ex" / "deploy.yaml").write_text(yaml.safe_dump(deploy))
        succeeded(
            here(
                *("infer", "--config", tmp_path / "ex" / "deploy.yaml", "--device", "cpu"),
                *("--image_path", "data/images/val", "--save_dir", tmp_path / "masks"),
            )
        )
        assert {Image.open(path).size for path in (tmp_path / "masks").rglob("*.png")} == {(96, 64)}

    @pytest.mark.parametrize(
        "break_it, sentence",
        [
            (
                lambda ex: (ex / "deploy.yaml").unlink(),
                "deploy.yaml does not exist: name the folder that `bisenetv1 export` wrote",
            ),
            (lambda ex: (ex / "model.pdiparams").unlink(), "model.pdiparams, and there is no such file: export again"),
        ],
    )
    @pytest.mark.slow
    def test_refuses_a_broken_export(self, here, exported, tmp_path, break_it, sentence):
        shutil.copytree(exported, tmp_path / "ex")
        break_it(tmp_path / "ex")
        done = here(
            *("infer", "--config", tmp_path / "ex" / "deploy.yaml", "--image_path", "data/images/val"),
            *("--device", "cpu", "--save_dir", tmp_path / "masks"),
        )
        assert done.returncode == 2 and sentence in done.stderr and not (tmp_path / "masks").exists()


@pytest.mark.very_slow
def test_demo_on_a_folder_of_real_images(tmp_path):
    """images/ and labels/ of the same names, of which every fifth validates; a verdict, pictures and a table."""
    scenes = Path(write_scenes(tmp_path / "scenes", train=9, val=1, size=(96, 64), classes=DEMO_CLASSES))
    for kind in ("images", "labels"):
        (tmp_path / "real" / kind).mkdir(parents=True)
        for path in scenes.glob(f"{kind}/train/*.png"):
            shutil.copy(path, tmp_path / "real" / kind / path.name)
    done = bisenetv1(tmp_path, "demo", "--data", "real", "--iters", 2, "--device", "cpu")
    out = tmp_path / "output" / "demo"
    assert done.returncode in (0, 1), done.stderr[-2000:]
    if done.returncode == 1:  # after two iterations the network may predict a single class everywhere
        assert "bisenetv1: parity not shown: only " in done.stderr
    assert "agree on 100.0000% of the pixels" in done.stdout and "linear classifier of color" in done.stdout
    for name in ("sheet.png", "curves.png", "exported/deploy.yaml", "best_model/model.pdparams"):
        assert (out / name).is_file(), name
    again = bisenetv1(tmp_path, "demo", "--data", "real", "--device", "cpu")
    assert again.returncode == 2 and "exists and is not empty" in again.stderr


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["data", "prepare", "camvid", "absent", "out"], "absent"),
        (["data", "check", "absent.yml"], "absent.yml"),
        (["data", "scenes", "out", "--classes", "dragon"], "'dragon' is not a Cityscapes class"),
        (["configs", "--copy", "absent", "out"], "there is no configuration absent"),
        (["curves", "."], "has no VisualDL record"),
        (["run", "absent.py"], "there is no script absent.py"),
        (["demo", "--data", "absent"], "absent is not a folder"),
    ],
)
@pytest.mark.slow
def test_refusals_are_sentences(command, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    done = command(*arguments)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.slow
def test_output_that_cannot_be_written(tmp_path, unbuffered):
    """`| head -1`, and a file on a full disk."""
    command = [sys.executable, "-m", "bisenetv1_plugin", "configs"]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=env)
    if os.name == "posix":  # with `2>&-`, sys.stderr is None
        assert subprocess.run(command, stdout=write, env=env, preexec_fn=lambda: os.close(2)).returncode == 141
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=env)
        assert done.returncode == 2 and "the output: no space left on the device" in done.stderr
        assert "Traceback" not in done.stderr and "ignored" not in done.stderr


def test_ctrl_c_during_imports(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("bisenetv1_plugin.cli.main", interrupted)
    assert __main__.main(["configs"]) == 130 and capsys.readouterr().err == "bisenetv1: stopped.\n"


def test_threads(python):
    """All cores unless the user said otherwise; processes that share a machine keep Paddle's default."""
    code = "import os, bisenetv1_plugin.machine as m; m.use_all_cores(); print(os.environ.get('OMP_NUM_THREADS'))"
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    run = lambda **more: subprocess.run(  # noqa: E731
        [sys.executable, "-c", code], env={**environment, **more}, text=True, capture_output=True
    ).stdout.strip()
    assert run() == str(len(os.sched_getaffinity(0)))
    assert run(OMP_NUM_THREADS="7") == "7"
    assert run(PADDLE_TRAINER_ID="0") == "None"


@pytest.mark.parametrize(
    "processor, own, expected",
    [
        ("vendor_id : AuthenticAMD\nflags : fpu fma avx2\n", None, "5"),
        ("vendor_id : AuthenticAMD\nflags : fpu fma avx2\n", "4", "4"),
        ("vendor_id : AuthenticAMD\nflags : fpu fma\n", None, None),
        ("vendor_id : GenuineIntel\nflags : fpu fma avx2\n", None, None),
        (None, None, None),
    ],
)
def test_amd_vectors(tmp_path, monkeypatch, processor, own, expected):
    """MKL is told to use AVX2 on AMD's processors that have it, unless the user said otherwise."""
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    if processor:
        machine.CPUINFO.write_text(processor)
    monkeypatch.delenv("MKL_DEBUG_CPU_TYPE", raising=False)
    if own:
        monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", own)
    machine.use_amd_vectors()
    found = os.environ.pop("MKL_DEBUG_CPU_TYPE", None)
    assert found == expected


PAGES = """
import os, resource, subprocess, sys
import numpy as np
from bisenetv1_plugin.machine import reuse_memory
if sys.argv[1:]:
    reuse_memory()
pages = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
arrays = lambda: [np.ones(3_000_000, "uint8") for _ in range(20)]  # NumPy asks for larger pages from 4 MB on
arrays()
before = pages()
for _ in range(10):
    arrays()
print(pages() - before)
if sys.argv[1:]:
    subprocess.run([sys.executable, sys.argv[0]])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's")
def test_memory_is_used_again(tmp_path):
    """Counted in pages that the system hands out: in a process, in one that it starts, and where the user has a say."""
    (tmp_path / "pages.py").write_text(PAGES)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}

    def pages(*arguments, **more):
        command = [sys.executable, str(tmp_path / "pages.py"), *arguments]
        done = subprocess.run(command, env={**clean, **more}, text=True, capture_output=True)
        return [int(line) for line in done.stdout.split()]

    (as_it_was,) = pages()
    assert as_it_was > 10_000  # ten times 60 MB, of 4 kB each
    found = pages("reuse")
    assert len(found) == 2 and max(found) < 1_000
    assert min(pages("reuse", MALLOC_MMAP_THRESHOLD_="65536")) > 10_000


def test_help_without_sched_getaffinity(python):
    """As on macOS and Windows."""
    code = "import os; del os.sched_getaffinity; from bisenetv1_plugin.__main__ import main; main(['infer', '--help'])"
    done = python("-c", code)
    assert done.returncode == 0 and "--cpu_threads" in done.stdout, done.stderr
