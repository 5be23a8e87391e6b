"""The command line from end to end on a few generated scenes, in processes of its own, and what it refuses."""

import os
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

from bisenetv1_plugin import figures, zoo
from bisenetv1_plugin.datasets.scenes import DEMO_CLASSES
from bisenetv1_plugin.datasets.synthetic import write_scenes

ITERS = 4


def bisenetv1(folder, *arguments, **environment):
    command = [sys.executable, "-m", "bisenetv1_plugin", *map(str, arguments)]
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, timeout=600, env=env)


def succeeded(done):
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def train(folder, save_dir, *arguments):
    return bisenetv1(
        folder,
        "train",
        "--config",
        "config.yml",
        "--device",
        "cpu",
        "--save_dir",
        save_dir,
        "--log_iters",
        1,
        *arguments,
    )


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


@pytest.fixture(scope="module")
def trained(folder):
    """A training with evaluation, curves and an averaged network; returns its folder and what it printed."""
    done = train(folder, "out", "--do_eval", "--use_vdl", "--use_ema", "--save_interval", 2, "--seed", 1)
    return folder / "out", succeeded(done)


@pytest.fixture(scope="module")
def weights(trained):
    return trained[0] / f"iter_{ITERS}" / "model.pdparams"


@pytest.fixture(scope="module")
def exported(folder, weights):
    succeeded(
        bisenetv1(
            folder, "export", "--config", "config.yml", "--model_path", weights, "--save_dir", "ex", "--device", "cpu"
        )
    )
    return folder / "ex"


def miou(output):
    return [float(value) for value in re.findall(r"mIoU: ([\d.]+)", output)]


class TestTrain:
    def test_checkpoints_and_curves(self, trained):
        out, log = trained
        for name in ("model.pdparams", "model.pdopt", "ema_model.pdparams"):
            assert (out / f"iter_{ITERS}" / name).stat().st_size > 1e6
        assert len(re.findall(r"\[TRAIN\]", log)) == ITERS and "ETA" in log
        losses = re.findall(r"iter: (\d+)/4, loss: ([\d.]+)", log)
        assert [(str(i), f"{loss:.4f}") for i, loss in figures.read_curve(out, "Train/loss")] == losses
        assert [i for i, _ in figures.read_curve(out, "Evaluate/mIoU")] == [2, 4]
        colors = {color for _, color in Image.open(out / "curves.png").convert("RGB").getcolors(100000)}
        assert {(31, 119, 180), (255, 127, 14)} <= colors  # both curves are drawn

    @pytest.mark.slow
    def test_without_evaluation(self, folder, request):
        done = train(folder, "plain", "--iters", 1)
        if "cannot access local variable 'mean_iou'" in done.stderr:
            pytest.xfail("PaddleSeg 2.9.1 cannot train any model without --do_eval")
        succeeded(done)
        assert (folder / "plain" / "iter_1" / "model.pdparams").is_file()

    @pytest.mark.slow
    def test_static_training(self, folder):
        log = succeeded(train(folder, "static", "--iters", 2, "--do_eval", "--to_static_training"))
        assert "Successfully" in log and len(re.findall(r"\[TRAIN\]", log)) == 2

    @pytest.mark.slow
    def test_goes_on_after_sigkill(self, folder):
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

        log = succeeded(train(folder, "resumed", "--iters", 6, "--do_eval", "--resume_model", "killed/iter_4"))
        assert re.findall(r"iter: (\d+)/6", log) == ["5", "6"]
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
    def test_refuses_a_broken_checkpoint(self, folder, weights, tmp_path, prepare, sentence):
        checkpoint = tmp_path / "iter_4"
        shutil.copytree(weights.parent, checkpoint)
        prepare(checkpoint)
        done = train(folder, "never", "--resume_model", checkpoint)
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
        assert "epoch: 1, iter: 2/2" in logs[0]  # 8 images, 2 processes with 2 each: an epoch has 2 iterations


class TestVal:
    def test_agrees_with_the_training(self, folder, trained, weights):
        log = succeeded(bisenetv1(folder, "val", "--config", "config.yml", "--model_path", weights, "--device", "cpu"))
        evaluations = re.findall(r"\[EVAL\] #Images: \d+ (mIoU: [\d.]+)", trained[1])
        assert miou(log)[0] == miou(evaluations[2])[0]  # network and average at 2, then the network at 4

    @pytest.mark.slow
    def test_scales_flips_and_windows(self, folder, weights):
        options = ["--aug_eval", "--scales", "0.75", "1.0", "--flip_horizontal", "--is_slide"]
        options += ["--crop_size", "64", "64", "--stride", "32", "32"]
        command = ["val", "--config", "config.yml", "--model_path", weights, "--device", "cpu"]
        assert 0 <= miou(succeeded(bisenetv1(folder, *command, *options)))[0] <= 1

    @pytest.mark.parametrize(
        "arguments, sentence",
        [
            (["--config", "absent.yml", "--model_path", "w"], "there is no configuration absent.yml"),
            (["--config", "config.yml", "--model_path", "absent.pdparams"], "no weights at absent.pdparams"),
            (["--config", "config.yml", "--model_path", "config.yml"], "cannot read the weights config.yml"),
            (["--config", "config.yml", "--model_path", "w", "--is_slide"], "--is_slide needs --crop_size"),
            (["--config", "config.yml", "--model_path", "w", "--scales", "2"], "need --aug_eval"),
        ],
    )
    @pytest.mark.slow
    def test_refuses(self, folder, arguments, sentence):
        done = bisenetv1(folder, "val", "--device", "cpu", *arguments)
        assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr

    @pytest.mark.slow
    def test_refuses_weights_of_another_network(self, folder, weights):
        done = bisenetv1(
            *(folder, "val", "--config", "config.yml", "--model_path", weights, "--device", "cpu"),
            *("--opts", "model.variant=paddleseg"),
        )
        assert done.returncode == 2 and "does not fit this BiSeNetV1" in done.stderr


class TestPredictAndInfer:
    def test_the_same_masks(self, folder, weights, exported):
        images = folder / "data" / "images" / "val"
        succeeded(
            bisenetv1(
                *(folder, "predict", "--config", "config.yml", "--model_path", weights, "--device", "cpu"),
                *("--image_path", images, "--save_dir", "predicted"),
            )
        )
        for batch_size in (1, 3):
            succeeded(
                bisenetv1(
                    *(folder, "infer", "--config", exported / "deploy.yaml", "--image_path", images, "--device", "cpu"),
                    *("--save_dir", f"inferred{batch_size}", "--batch_size", batch_size),
                )
            )
            names = sorted(path.stem for path in images.iterdir())
            for name in names:
                a = np.asarray(Image.open(folder / "predicted" / "pseudo_color_prediction" / f"{name}.png"))
                b = np.asarray(Image.open(folder / f"inferred{batch_size}" / f"{name}.png"))
                assert a.shape == (64, 96) and (a == b).mean() >= 0.9999
            assert len(list((folder / f"inferred{batch_size}").glob("*.png"))) == len(names)
        assert len(list((folder / "predicted" / "added_prediction").iterdir())) == len(names)

    def test_deploy_yaml_names_what_is_there(self, exported):
        deploy = yaml.safe_load((exported / "deploy.yaml").read_text())["Deploy"]
        assert (exported / deploy["model"]).is_file() and (exported / deploy["params"]).is_file()
        assert deploy["output_op"] == "argmax" and deploy["transforms"] == [{"type": "Normalize"}]
        assert not [path for path in exported.iterdir() if path.name.startswith(".")]

    @pytest.mark.slow
    def test_a_bad_image_is_named_and_the_others_run(self, folder, exported, tmp_path):
        shutil.copytree(folder / "data" / "images" / "val", tmp_path / "images")
        (tmp_path / "images" / "bad.png").write_bytes(b"no picture")
        done = bisenetv1(
            *(folder, "infer", "--config", exported / "deploy.yaml", "--image_path", tmp_path / "images"),
            *("--save_dir", tmp_path / "masks", "--device", "cpu"),
        )
        assert done.returncode == 1 and "bad.png cannot be read and was left out" in done.stderr
        assert len(list((tmp_path / "masks").glob("*.png"))) == 4

    @pytest.mark.slow
    def test_resized_masks_come_back_in_the_image_s_size(self, folder, exported, tmp_path):
        shutil.copytree(exported, tmp_path / "ex")
        deploy = yaml.safe_load((tmp_path / "ex" / "deploy.yaml").read_text())
        deploy["Deploy"]["transforms"].insert(0, {"type": "Resize", "target_size": [64, 32]})
        (tmp_path / "ex" / "deploy.yaml").write_text(yaml.safe_dump(deploy))
        succeeded(
            bisenetv1(
                *(folder, "infer", "--config", tmp_path / "ex" / "deploy.yaml", "--device", "cpu"),
                *("--image_path", "data/images/val", "--save_dir", tmp_path / "masks"),
            )
        )
        assert {Image.open(path).size for path in (tmp_path / "masks").rglob("*.png")} == {(96, 64)}

    @pytest.mark.parametrize(
        "break_it, sentence",
        [
            (lambda ex: (ex / "deploy.yaml").unlink(), "name the deploy.yaml of an export"),
            (lambda ex: (ex / "model.pdiparams").unlink(), "model.pdiparams, and there is no such file: export again"),
        ],
    )
    @pytest.mark.slow
    def test_refuses_a_broken_export(self, folder, exported, tmp_path, break_it, sentence):
        shutil.copytree(exported, tmp_path / "ex")
        break_it(tmp_path / "ex")
        done = bisenetv1(
            *(folder, "infer", "--config", tmp_path / "ex" / "deploy.yaml", "--image_path", "data/images/val"),
            *("--device", "cpu", "--save_dir", tmp_path / "masks"),
        )
        assert done.returncode == 2 and sentence in done.stderr and not (tmp_path / "masks").exists()


@pytest.mark.slow
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
        assert "parity is not shown" in done.stderr
    assert "agree on 100.0000% of the pixels" in done.stdout and "linear classifier of colour" in done.stdout
    for name in ("sheet.png", "curves.png", "exported/deploy.yaml", "best_model/model.pdparams"):
        assert (out / name).is_file(), name
    again = bisenetv1(tmp_path, "demo", "--data", "real", "--device", "cpu")
    assert again.returncode == 2 and "exists and is not empty" in again.stderr


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["data", "prepare", "camvid", "absent", "out"], "absent"),
        (["data", "check", "absent.yml"], "absent.yml"),
        (["data", "scenes", "out", "--classes", "dragon"], "'dragon' is no Cityscapes class"),
        (["configs", "--copy", "absent", "out"], "there is no configuration absent"),
        (["curves", "."], "holds no VisualDL record"),
        (["run", "absent.py"], "there is no script absent.py"),
        (["demo", "--data", "absent"], "has neither train.txt and val.txt nor images/ and labels/"),
    ],
)
@pytest.mark.slow
def test_refusals_are_sentences(tmp_path, arguments, sentence):
    done = bisenetv1(tmp_path, *arguments)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


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


def test_help_where_the_system_cannot_say_how_many_cores(python):
    """As on macOS and Windows."""
    code = "import os; del os.sched_getaffinity; from bisenetv1_plugin.__main__ import main; main(['infer', '--help'])"
    done = python("-c", code)
    assert done.returncode == 0 and "--cpu_threads" in done.stdout, done.stderr
