"""Users' data on the command line: `data config`, `data check` and `demo --data` succeed, or fail with one sentence."""

import errno
import os
import re
import shlex
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from bisenetv1_plugin import cli, zoo
from bisenetv1_plugin.cli import data, demo, terminal
from bisenetv1_plugin.datasets import check

STRIPES = np.repeat(np.arange(64) * 3 // 64, 48).reshape(64, 48).T.astype(np.uint8)  # 48 x 64: thirds of 0, 1, 2
COLORS = np.array([(128, 64, 128), (0, 0, 142), (70, 130, 180)], np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture()
def folder(tmp_path, monkeypatch):
    """Seven images with stripes in them, and labels, in `mine`; the current folder is above it."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for i in range(7):
        noise = random.integers(0, 40, (48, 64, 3), np.uint8)
        save(tmp_path / f"mine/images/{i}.jpg", COLORS[STRIPES] // 2 + noise, quality=95)
        save(tmp_path / f"mine/labels/{i}.png", STRIPES)
    return tmp_path / "mine"


def cut(path, count=200):
    path.write_bytes(path.read_bytes()[:-count])


def stray(folder):
    """Larger, so that one pixel is rare."""
    for path in folder.glob("*/*"):
        image = Image.open(path)
        image.resize((320, 240), Image.Resampling.NEAREST).save(path)
    label = np.asarray(Image.open(folder / "labels/4.png")).copy()
    label[9, 9] = 200
    save(folder / "labels/4.png", label)


def jpeg_labels(folder):
    for path in folder.glob("labels/*"):
        save(path.with_suffix(".jpg"), np.asarray(Image.open(path)) * 20)
        path.unlink()


def one_image(folder):
    for path in folder.glob("labels/[1-9]*"):
        path.unlink()


def animate(path):
    frames = [Image.new("RGB", (64, 48), color) for color in ("red", "green")]
    path.unlink()
    frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames[1:])


def dangle(path):
    path.unlink()
    path.symlink_to("nowhere.jpg")


# What is done to the folder, and what the sentence must have in it.
WRONG = {
    "size": (lambda f: save(f / "labels/4.png", STRIPES[:-1]), ["labels/4.png is 64x47", "images/4.jpg 64x48"]),
    "stray pixel": (stray, ["labels/4.png contains the value 200 (1 pixel)", "--keep_rare", "--ignore_rare"]),
    "truncated image": (lambda f: cut(f / "images/4.jpg"), ["images/4.jpg", "--skip_broken"]),
    "truncated label": (lambda f: cut(f / "labels/4.png", 30), ["labels/4.png", "--skip_broken"]),
    "JPEG labels": (jpeg_labels, ["labels/0.jpg is not a PNG. JPEG is lossy", "export the labels again"]),
    "GIF": (lambda f: animate(f / "images/4.jpg"), ["images/4.gif", "OpenCV cannot read GIF: save it as PNG"]),
    "bomb": (
        lambda f: Image.new("1", (30000, 30000)).save(f / "images/4.jpg", format="PNG"),
        ["images/4.jpg", "decompression bomb", "--skip_broken"],
    ),
    "unreadable": (lambda f: dangle(f / "images/4.jpg"), ["images/4.jpg", "does not exist"]),
    "empty list": (lambda f: (f / "train.txt").write_text(""), ["train.txt is empty"]),
    "one image": (one_image, ["one usable image with a label, but training and validation need one each"]),
    "no labels": (lambda f: (f / "labels").rename(f / "other"), ["has no images with labels"]),
    "numbers of objects": (
        lambda f: save(f / "labels/4.png", STRIPES.astype(np.uint16) * 200),
        ["labels/4.png", "400", "classes are 0..254"],
    ),
}


@pytest.mark.parametrize("command", ["config", "demo"])
@pytest.mark.parametrize("what", WRONG)
def test_one_sentence(folder, what, command, capfd):
    spoil, words = WRONG[what]
    spoil(folder)
    if what == "GIF" and cv2.haveImageReader(str(folder / "images/4.gif")):
        pytest.skip("this OpenCV reads GIF")
    if command == "demo":
        code = cli.main(["demo", "--data", "mine", "--save_dir", "out", "--device", "cpu"])
    else:
        code = cli.main(["data", "config", "mine", "--out", "out/my.yml"])
    error = capfd.readouterr().err
    assert code == 2 and "Traceback" not in error and all(word in error for word in words), error
    assert len([line for line in error.splitlines() if line.startswith("bisenetv1:")]) == 1
    assert not list(folder.parent.glob("out/*"))


def exif(folder):
    header = Image.Exif()
    header[0x0112] = 6
    for path in folder.glob("images/*"):
        image = Image.open(path)
        image.load()
        image.save(path, exif=header)


def rename(folder):
    for kind, ending in (("images", "jpg"), ("labels", "png")):
        for i, name in enumerate(("ein Bild", "ü", "日本", "it's", 'a "b"', "f", "g")):
            (folder / kind / f"{i}.{ending}").rename(folder / kind / f"{name}.{ending}")


def circle(folder):
    (folder / "images/up").symlink_to(folder, target_is_directory=True)
    (folder / "labels/self").symlink_to("self")


def recolor(folder):
    for path in folder.glob("labels/*"):
        save(path, COLORS[np.asarray(Image.open(path))])


def binary(folder):
    for path in folder.glob("labels/*"):
        save(path, np.where(np.asarray(Image.open(path)) == 1, 255, 0).astype(np.uint8))


def formats(folder):
    """RGBA, gray and 16-bit images among the others."""
    pixels = np.asarray(Image.open(folder / "images/0.jpg"))
    alpha = np.full((*pixels.shape[:2], 1), 7, np.uint8)
    for i, array in enumerate((np.dstack([pixels, alpha]), pixels[..., 0], pixels[..., 0].astype(np.uint16) * 256)):
        (folder / f"images/{i}.jpg").unlink()
        save(folder / f"images/{i}.png", array)


def sizes(folder):
    save(folder / "images/0.jpg", np.zeros((30, 40, 3), np.uint8))
    save(folder / "labels/0.png", STRIPES[:30, :40])


# What is done to the folder, the number of classes, and what is said of it.
RIGHT = {
    "as it is": (
        lambda f: None,
        3,
        ["No validation list: every fifth image is for validation (2), 5 are for training."],
    ),
    "colors": (recolor, 3, ["rgb_128_64_128", "3 colors have no name", "Labels converted to class numbers: 7,"]),
    "binary": (binary, 2, ["255 became class 1", "Labels converted to class numbers: 7,"]),
    "names": (rename, 3, []),
    "EXIF": (exif, 3, ["EXIF turns 7 images but not their labels"]),
    "formats": (formats, 3, ["1 images have 16 bits per channel"]),
    "sizes": (sizes, 3, []),
    "circles": (circle, 3, []),
    "image without label": (lambda f: (f / "labels/4.png").unlink(), 3, ["images without a label, left out: 1"]),
    "label without image": (lambda f: (f / "images/4.jpg").unlink(), 3, ["labels without an image, left out: 1"]),
}


@pytest.mark.parametrize("what", RIGHT)
@pytest.mark.slow
def test_right(folder, what, capfd):
    spoil, classes, words = RIGHT[what]
    spoil(folder)
    assert cli.main(["data", "config", "mine", "--out", "out/my.yml"]) == 0
    shown = capfd.readouterr().out
    assert all(word in shown for word in words), shown
    train, *later = [shlex.split(line)[1:] for line in shown.splitlines() if line.startswith("  bisenetv1 ")]
    assert train == ["train", "--config", "out/my.yml", "--do_eval", "--save_dir", "output", "--save_interval", "100"]
    assert [words[0] for words in later] == ["val", "export", "infer"]
    for words in (train, *later):  # each can be copied and run
        cli.parser([words[0]]).parse_args(words)
    assert Path(later[-1][later[-1].index("--image_path") + 1]).is_file()
    assert Image.open("out/my_data/preview.png").width > 600
    assert yaml.safe_load(Path("out/my.yml").read_text("utf-8"))["model"]["num_classes"] == classes
    assert cli.main(["data", "check", "out/my.yml"]) == 0
    assert "no problems" in capfd.readouterr().out
    # A sentence, not a second configuration over the first
    assert cli.main(["data", "config", "mine", "--out", "out/my.yml"]) == 2
    assert "out/my.yml exists" in capfd.readouterr().err


def test_names_are_shown(folder, capfd):
    flags = ["--classes", "road", "car", "blue sky", "--class_weights", "--max_size", "40", "--out", "o p/my.yml"]
    assert cli.main(["data", "config", "mine", *flags]) == 0
    shown = capfd.readouterr().out
    assert "2 blue sky" in shown and shlex.quote("o p/my.yml") in shown
    assert cli.main(["data", "check", "o p/my.yml"]) == 0
    assert "2 blue sky" in capfd.readouterr().out
    config = yaml.safe_load(Path("o p/my.yml").read_text())
    assert config["val_dataset"]["transforms"][0] == {"type": "LimitLong", "max_long": 40}
    assert len(config["loss"]["types"][0]["weight"]) == 3


def test_skip_broken(folder, capfd):
    cut(folder / "images/4.jpg")
    assert cli.main(["data", "config", "mine", "--skip_broken"]) == 0
    assert "cannot be read, left out: 1 (4.jpg)" in capfd.readouterr().out and Path("my.yml").is_file()


def test_a_list_with_a_broken_name_and_a_table(folder, capfd):
    recolor(folder)
    Path("table.txt").write_text("road 128 64 128\n")
    assert cli.main(["data", "config", "mine", "--colors", "table.txt"]) == 2
    assert "which is not in table.txt" in capfd.readouterr().err
    Path("table.txt").write_text("road 128 64 128\ncar 0 0 142\nsky 70 130 180\n")
    assert cli.main(["data", "config", "mine", "--colors", "table.txt"]) == 0
    assert Path("my_data/colors.txt").read_text() == Path("table.txt").read_text()


def test_the_recipe_of_the_demo_without_data(tmp_path, monkeypatch):
    """The published score is for this: the ready configuration with only its folders changed."""
    calls = []
    monkeypatch.setattr("bisenetv1_plugin.datasets.synthetic.write_scenes", lambda *a, **k: calls.append((a, k)))
    classes = demo._scenes(tmp_path / "config.yml")
    (arguments, keywords), root = calls[0], tmp_path / "data"
    assert arguments == (root,) and {k: keywords[k] for k in ("train", "val", "size")} == {
        "train": 800,
        "val": 40,
        "size": (256, 128),
    }
    expected = yaml.safe_load(zoo.path_of("bisenetv1_demo_256x128").read_text(encoding="utf-8"))
    expected["train_dataset"].update(dataset_root=str(root), train_path=str(root / "train.txt"))
    expected["val_dataset"].update(dataset_root=str(root), val_path=str(root / "val.txt"))
    assert (tmp_path / "config.yml").read_text() == yaml.safe_dump(expected, sort_keys=False)
    assert len(classes.names) == 5 and classes.colors == ()


def bisenetv1(folder, *arguments):
    command = [sys.executable, "-m", "bisenetv1_plugin", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True, timeout=900, env=dict(os.environ))
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    return done


def test_printed_commands_with_odd_names(folder, capsys):
    """A name with a leading dash would be a flag."""
    assert cli.main(["data", "config", str(folder), "--out=-my图.yml"]) == 0
    printed = [
        shlex.split(line)[1:] for line in capsys.readouterr().out.splitlines() if line.startswith("  bisenetv1 ")
    ]
    for words in printed[:3]:
        assert Path(cli.parser([words[0]]).parse_args(words).config).samefile("-my图.yml")


@pytest.mark.slow
def test_the_printed_commands(folder, command):
    """From color labels with spaces in their names to masks, by the commands that `data config` prints."""
    recolor(folder)
    rename(folder)
    shown = command("data", "config", "mine").stdout
    train, *others = ([*shlex.split(line)[1:]] for line in shown.splitlines() if line.startswith("  bisenetv1 "))
    assert [words[0] for words in (train, *others)] == ["train", "val", "export", "infer"]
    done = bisenetv1(folder.parent, *train, "--device", "cpu", "--iters", "2", "--num_workers", "0")
    assert done.returncode == 0, done.stderr[-3000:]
    for words in others:
        done = command(*words, "--device", "cpu")
        assert done.returncode == 0, done.stderr[-3000:]
    assert list((folder.parent / "masks").glob("*.png"))


@pytest.mark.very_slow
def test_demo_with_colors_sizes_and_a_limit(folder):
    """Everything that scenes lack: colors, several sizes, a resize, long names."""
    sizes(folder)
    recolor(folder)
    flags = ["--max_size", "56", "--classes", "a road", "a car of any kind", "the sky"]
    done = bisenetv1(folder.parent, "demo", "--data", "mine", "--iters", "2", "--device", "cpu", *flags)
    assert done.returncode in (0, 1), done.stderr[-3000:]
    if done.returncode == 1:  # after two iterations the network may predict a single class everywhere
        assert "bisenetv1: parity not shown: only " in done.stderr
    assert "a car of any kind " in done.stdout and "linear classifier of color" in done.stdout
    out = folder.parent / "output" / "demo"
    for name in ("sheet.png", "data/preview.png", "exported/deploy.yaml", "best_model/model.pdparams"):
        assert (out / name).is_file(), name


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
@pytest.mark.parametrize("name, code, words", [("中".encode(), 0, ""), (b"\xff", 2, "\\xff.jpg is not UTF-8")])
def test_names_where_the_locale_is_c(folder, name, code, words):
    """OpenCV crashes on names that are not text."""
    for place, ending in ((b"images", b".jpg"), (b"labels", b".png")):
        place = os.path.join(os.fsencode(folder), place)
        os.rename(os.path.join(place, b"0" + ending), os.path.join(place, name + ending))
    (folder / "labels" / os.fsdecode(name + b".png")).exists() or pytest.skip("the file system takes no such name")
    if code:
        os.remove(os.path.join(os.fsencode(folder), b"labels", name + b".png"))
    done = subprocess.run(
        [sys.executable, "-m", "bisenetv1_plugin", "data", "config", "mine"],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
        capture_output=True,
        cwd=folder.parent,
    )
    said = done.stderr.decode("utf-8", "replace")
    assert done.returncode == code and words in said and "Traceback" not in said, said


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_the_library_where_the_locale_is_c(folder):
    """The caller gets the error, and the process continues."""
    (folder / "images/0.jpg").rename(folder / "images/中.jpg")
    (folder / "labels/0.png").rename(folder / "labels/中.png")
    code = "from bisenetv1_plugin.datasets.own import configure; configure('mine', 'my.yml')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
        capture_output=True,
        cwd=folder.parent,
    )
    said = done.stderr.decode("utf-8", "replace")
    assert done.returncode == 1 and "InputError" in said and "cannot be used while names are ascii" in said, said


def test_check_hides_what_libraries_print(folder, monkeypatch, capsys):
    def check_config(config, progress):
        print("PLEASE USE OMP_NUM_THREADS WISELY.", file=sys.stderr)
        return check.Report(config)

    monkeypatch.setattr(check, "check_config", check_config)
    assert cli.main(["data", "check", "my.yml"]) == 0
    assert "OMP" not in "".join(capsys.readouterr())


def test_control_characters_in_class_names_are_escaped(folder, capsys):
    (folder / "classes.txt").write_text("sky\nroad\x1b]0;mine\x07\ncar\n")
    assert cli.main(["data", "config", str(folder), "--out", "my.yml"]) == 0
    assert cli.main(["data", "check", "my.yml"]) == 0
    terminal.say("road\x1b]0;mine\x07 0.5\ncar 0.5")
    said = capsys.readouterr().out
    assert said.count("road\\x1b]0;mine\\x07") >= 3 and "\x1b" not in said and said.endswith(" 0.5\ncar 0.5\n")


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
def test_errors_of_the_output_are_for_main(number):
    """`main` has the exit code of `| head -1`, and the sentence about a full disk."""

    def action(_):
        raise OSError(number, os.strerror(number))

    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        data.run(Namespace(action=action))
