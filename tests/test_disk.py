"""A full disk: one sentence, an exit code, no half file under a final name, and what was there before is untouched.

The disk is a tmpfs of its own where this machine lets a test mount one, else a limit on the size of files.
"""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
import yaml
from visualdl import LogWriter

from bisenetv1_plugin import files, zoo
from bisenetv1_plugin.cli import main
from bisenetv1_plugin.datasets.classes import DEMO_CLASSES
from bisenetv1_plugin.datasets.synthetic import write_scenes
from bisenetv1_plugin.training import builder

# In a process of its own: fills the disk up to what a command may write, runs it, and prints the state of the files.
DRIVER = """
import contextlib, hashlib, io, json, os, resource, shutil, subprocess, sys, traceback
from PIL import Image

disk, megabytes, commands = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
if megabytes:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", disk], check=True)
if sys.argv[4]:
    shutil.copytree(sys.argv[4], disk, dirs_exist_ok=True)
from bisenetv1_plugin.cli import main

def there():
    found = {}
    for folder, _, names in os.walk(disk):
        for path in (os.path.join(folder, name) for name in names if name != "filler"):
            with open(path, "rb") as file:
                found[path] = hashlib.md5(file.read()).hexdigest()
            assert os.path.getsize(path), f"{path} is empty"
            if path.endswith(".png"):
                Image.open(path).load()
    return found

def limit(room):
    if not megabytes:
        # 16 bytes: the search for a folder for temporary files writes one
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(room, 16) if room != -1 else -1, -1))
    elif room == -1:
        os.remove(os.path.join(disk, "filler"))
    else:
        state = os.statvfs(disk)
        with open(os.path.join(disk, "filler"), "wb") as file:
            file.write(bytes(max(0, state.f_bavail * state.f_bsize - room)))

told = []
for argv, room in commands:
    before, error, code = there(), io.StringIO(), None
    limit(room)
    with contextlib.redirect_stderr(error):
        try:
            code = main(argv)
        except BaseException:
            traceback.print_exc(file=error)
    limit(-1)
    after = there()
    told.append({
        "code": code,
        "error": error.getvalue(),
        "new": sorted(set(after) - set(before)),
        "kept": all(after.get(path) == content for path, content in before.items()),
    })
print("\\n" + json.dumps(told))
"""


def can_mount(folder):
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", str(folder)]
    try:
        return not subprocess.run(command, capture_output=True).returncode
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module", params=[pytest.param("disk", marks=pytest.mark.very_slow), "limit"])
def run(request, tmp_path_factory):
    """Runs commands with so many bytes left for each; `{disk}` in an argument is the disk's folder."""
    disk = tmp_path_factory.mktemp("disk")
    mounts = request.param == "disk" and can_mount(disk)
    if request.param == "disk" and not mounts:
        pytest.skip("nothing can be mounted here: the limit on the size of files stands for it")

    def run(megabytes, *commands, copied=""):
        filled = [([str(word).format(disk=disk) for word in words], room) for words, room in commands]
        command = [sys.executable, "-c", DRIVER, str(disk), str(megabytes * mounts), json.dumps(filled), str(copied)]
        done = subprocess.run(["unshare", "-m"] * mounts + command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    run.name, run.disk = request.param, str(disk)
    return run


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three scenes, a configuration, weights and an export for them, and a record of a training."""
    folder = tmp_path_factory.mktemp("small")
    write_scenes(folder / "data", train=1, val=3, size=(96, 64), classes=DEMO_CLASSES)
    values = yaml.safe_load(zoo.path_of("bisenetv1_demo_256x128").read_text(encoding="utf-8"))
    for part, name in (("train_dataset", "train"), ("val_dataset", "val")):
        values[part].update(
            {"dataset_root": str(folder / "data"), f"{name}_path": str(folder / "data" / f"{name}.txt")}
        )
    config, weights = folder / "config.yml", folder / "model.pdparams"
    config.write_text(yaml.safe_dump(values))
    paddle.save(builder.Builder(builder.load_config(str(config))).model.state_dict(), str(weights))
    flags = ["--config", config, "--model_path", weights, "--device", "cpu"]
    assert main([str(word) for word in ("export", *flags, "--save_dir", folder / "ex")]) == 0
    return SimpleNamespace(
        folder=folder, config=config, weights=weights, flags=flags, images=folder / "data/images/val"
    )


def full(done, path, run):
    """One sentence that names the path and the cure; nothing new, nothing changed."""
    last = done["error"].strip().splitlines()[-1]
    says = "no space left on the device" if run.name == "disk" else "larger than is allowed here"
    assert done["code"] == 2 and "Traceback" not in done["error"], done["error"]
    assert last.startswith("bisenetv1: ") and path in last and says in last and "choose another folder" in last, last
    assert done["kept"]


@pytest.mark.slow
def test_masks(small, run):
    """Where there is room for some of the files, each of them is whole; the driver looks into all that it finds."""
    infer = ["infer", "--config", small.folder / "ex/deploy.yaml", "--image_path", small.images, "--device", "cpu"]
    predict = ["predict", *small.flags, "--image_path", small.images]
    commands = [*infer, "--overlay", "--save_dir", "{disk}/a"], [*predict, "--save_dir", "{disk}/b"]
    rooms = (0, 20480 if run.name == "disk" else 4096)
    done = run(8, *((command, room) for command in commands for room in rooms))
    for (none, some), save_dir in zip((done[:2], done[2:]), (f"{run.disk}/a", f"{run.disk}/b")):
        if run.name == "disk":
            full(none, save_dir, run)
            assert none["new"] == []
            full(some, save_dir, run)
            assert 0 < len(some["new"]) < 6
        else:  # masks are smaller than what Paddle writes for itself; the overlays are not
            full(some, save_dir, run)


@pytest.mark.very_slow
def test_failed_export_keeps_the_earlier_one(small, run):
    """The network has 52 MB: the second finds no room beside the first."""
    command = ["export", *small.flags, "--to", "paddle", "--save_dir", "{disk}/ex"]
    first, second = run(70, (command, 60 << 20), (command, 8 << 20))
    assert first["code"] == 0 and len(first["new"]) >= 3
    full(second, f"{run.disk}/ex", run)
    assert second["new"] == []


@pytest.mark.very_slow
def test_an_export_that_fits_in_part(small, run):
    """None of it, a part, all but the end of its largest file: Paddle itself says nothing of what is missing there."""
    command = ["export", *small.flags, "--save_dir", "{disk}/ex"]
    size = (small.folder / "ex" / "model.pdiparams").stat().st_size
    for done in run(70, (command, 0), (command, 1 << 20), (command, size - 4096)):
        full(done, f"{run.disk}/ex", run)
        assert done["new"] == []


@pytest.mark.parametrize("to, rooms", [("paddle", [1]), ("openvino", [1, 106]), ("onnx", [1, 60])])
@pytest.mark.very_slow
def test_quantize(small, run, monkeypatch, to, rooms):
    """Before anything is written, and (megabytes) where the export in fp32 fits and what comes after it does not."""
    if to == "paddle":
        monkeypatch.setenv("FLAGS_enable_pir_api", "0")
    else:
        pytest.importorskip("nncf" if to == "openvino" else "onnxruntime.quantization")
    rooms = rooms if run.name == "disk" else rooms[:1]  # a limit is one on every single file
    words = ["quantize", *small.flags[:4], "--batch_nums", 1, "--to", to, "--save_dir", "{disk}/int8"]
    for done in run(200, *((words, room << 20) for room in rooms)):
        if to != "paddle" or "quantizer cannot read the programs" not in done["error"]:
            full(done, f"{run.disk}/int8", run)
        assert done["code"] == 2 and done["new"] == []


@pytest.mark.slow
def test_configurations_and_verdicts(small, run):
    verify = ["verify", small.config, small.weights, small.folder / "ex", "--device", "cpu"]
    copied, json_file, picture = run(
        8,
        (["configs", "--copy", "bisenetv1_camvid_480x360", "{disk}/configs"], 0),
        ([*verify, "--json", "{disk}/v.json"], 0),
        ([*verify, "--picture", "{disk}/v.png"], 0),
    )
    full(copied, f"{run.disk}/configs", run)
    if run.name == "disk":  # the limit is also one on the export that `verify` makes for itself, elsewhere
        full(json_file, f"{run.disk}/v.json", run)
        full(picture, f"{run.disk}/v.png", run)
    for done in (copied, json_file, picture):
        assert done["new"] == [] and done["code"] == 2, done


def test_curves(small, run):
    """They are written beside their record."""
    writer = LogWriter(str(small.folder / "vdl"))
    for step in range(3):
        writer.add_scalar("Train/loss", 1.0 / (step + 1), step)
    writer.close()
    first, again = run(8, (["curves", "{disk}"], 0), (["curves", "{disk}"], 1 << 20), copied=small.folder / "vdl")
    full(first, f"{run.disk}/curves.png", run)
    assert first["new"] == []
    if run.name == "disk":
        assert again["code"] == 0 and again["new"] == [f"{run.disk}/curves.png"]


@pytest.mark.very_slow
def test_convert(small, run):
    torch = pytest.importorskip("torch")
    from paddleseg.cvlibs import manager

    from bisenetv1_plugin.convert import conversion
    from bisenetv1_plugin.models.bisenetv1 import BiSeNetV1

    layer = BiSeNetV1(19, manager.BACKBONES["ResNet18_v1b"](), variant="coincheung")
    state = {name: value.numpy() for name, value in layer.state_dict().items()}
    paddle.save(layer.state_dict(), str(small.folder / "ours.pdparams"))
    tensors = conversion.to_torch(state, "coincheung")
    source = str(small.folder / "theirs.pth")
    torch.save({name: torch.from_numpy(np.array(values)) for name, values in tensors.items()}, source)
    back = ["convert", small.folder / "ours.pdparams", "--to", "torch", "--from", "coincheung"]
    for done, name in zip(
        run(
            8,
            (["convert", source, "{disk}/net.pdparams"], 1 << 20),
            ([*back, "{disk}/net.pth"], 1 << 20),
            ([*back, "{disk}/net.safetensors"], 1 << 20),
        ),
        ("net.pdparams", "net.pth", "net.safetensors"),
    ):
        full(done, f"{run.disk}/{name}", run)
        assert done["new"] == []


class TestOtherRefusals:
    """Translated in one place, for every command; only what a user can cause, and only with a name."""

    def test_a_file_where_a_folder_should_be(self, tmp_path, capsys):
        (tmp_path / "file").write_text("")
        for target in ("file", "file/under"):
            assert main(["configs", "--copy", "bisenetv1_demo_256x128", str(tmp_path / target)]) == 2
            assert "is a file, not a folder" in capsys.readouterr().err

    def test_a_name_that_is_too_long(self, tmp_path, capsys):
        assert main(["configs", "--copy", "bisenetv1_demo_256x128", str(tmp_path / ("x" * 300))]) == 2
        assert "the name is too long; choose a shorter one" in capsys.readouterr().err

    def test_a_folder_where_a_file_should_be(self, tmp_path, capsys):
        (tmp_path / "a.png").mkdir()
        with pytest.raises(IsADirectoryError) as caught, files.whole_file(tmp_path / "a.png"):
            pass
        assert files.refusal(caught.value) == f"{tmp_path / 'a.png'}: it is a folder, where a file is needed; " + (
            "choose another name."
        )
        assert os.listdir(tmp_path) == ["a.png"]

    def test_a_full_disk_without_a_name(self, monkeypatch, capsys):
        def fail(*_):
            raise OSError(28, "full")

        monkeypatch.setattr(zoo, "copy", fail)
        assert main(["configs", "--copy", "a", "b"]) == 2
        assert "the output: no space left on the device" in capsys.readouterr().err

    @pytest.mark.parametrize("error", [OSError("odd"), OSError(5, "no name"), OSError(5, "input/output error", "name")])
    def test_other_errors_keep_their_traceback(self, monkeypatch, error):
        def fail(*_):
            raise error

        monkeypatch.setattr(zoo, "copy", fail)
        with pytest.raises(OSError) as caught:
            main(["configs", "--copy", "a", "b"])
        assert caught.value is error

    def test_errors_of_a_script(self, tmp_path):
        (tmp_path / "script.py").write_text("raise PermissionError(13, 'Permission denied', 'its own')")
        with pytest.raises(PermissionError):
            main(["run", str(tmp_path / "script.py")])
