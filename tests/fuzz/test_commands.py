"""The command line: whatever its arguments, a command ends with an exit code and a sentence.

All commands run in one process, with a small network. Nothing outside the folder `work` may change.
"""

import contextlib
import io
import os
import shutil

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from bisenetv1_plugin.cli import main

SECONDS = 60


def _copy(source, target):
    if os.path.isfile(source):
        return shutil.copy2(source, target)
    os.mkfifo(target)
    return target


@pytest.fixture(scope="module")
def place(small, dynamic, tmp_path_factory):
    """`mine`, with a user's files, and `work`, the current folder, where a command may write."""
    place = tmp_path_factory.mktemp("commands")
    mine, work = place / "mine", place / "work"
    shutil.copytree(small.images.parents[1], mine / "data")
    shutil.copytree(dynamic, mine / "exported")
    shutil.copy(small.weights, mine / "model.pdparams")
    config = small.config.read_text().replace(str(small.folder / "data"), str(mine / "data"))
    (mine / "config.yml").write_text(config)
    (mine / "notes.txt").write_text("mine")
    (mine / "link.png").symlink_to("data/images/val/00000.png")
    (mine / "nowhere.png").symlink_to("not/there")
    os.mkfifo(mine / "pipe.png")
    shutil.copytree(mine, place / "kept", symlinks=True, copy_function=_copy)
    work.mkdir()
    before = os.getcwd()
    os.chdir(work)
    yield place
    os.chdir(before)


MINE = ["data", "data/images/val", "data/images/val/00000.png", "data/labels/val", "data/val.txt", "data/train.txt"]
MINE += ["exported", "exported/deploy.yaml", "exported/model.onnx", "model.pdparams", "config.yml", "notes.txt"]
MINE += ["link.png", "nowhere.png", "pipe.png", "not there", ""]
PATHS = [f"../mine/{name}" for name in MINE]
PATHS += [
    "out",
    "out/more",
    ".",
    "",
    "..",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "中/图.png",
    "a\nb.yml",
    "-x",
    "'\"",
    "0",
]
PATHS += [
    "\udcff\udcfe.png",
    "x" * 255,
    "y" * 300,
    "*",
    "~",
    "$HOME",
    "http://127.0.0.1:1/x.png",
    "file:///dev/zero",
    "new.yml",
]
PATHS += ["new.pdparams", "new.pth", "new.png", "new.json", "exported/../out"]
NUMBERS = ["0", "1", "2", "-1", "64", "nan", "inf", "1e9", "99999999999999999999", "", "x", "0.5", "٣"]
WORDS = ["True", "False", "auto", "cpu", "paddle", "openvino", "onnxruntime", "int8", "fp32", "bf16", "argmax", "none"]

FLAGS = {
    "infer": [
        "--config",
        "--image_path",
        "--save_dir",
        "--json",
        "--batch_size",
        "--backend",
        "--precision",
        "--overlay",
    ]
    + ["--save_masks", "--save_video", "--cpu_threads", "--with_argmax", "--enable_mkldnn", "--use_trt"],
    "predict": ["--config", "--model_path", "--image_path", "--save_dir", "--is_slide", "--crop_size", "--stride"]
    + ["--aug_pred", "--scales", "--flip_horizontal", "--custom_color"],
    "val": ["--config", "--model_path", "--json", "--num_workers", "--opts", "--aug_eval", "--scales"],
    "export": [
        "--config",
        "--model_path",
        "--save_dir",
        "--input_shape",
        "--output_op",
        "--to",
        "--classes",
        "--picture_onnx",
    ],
    "verify": ["--precision", "--json", "--picture", "--cpu_threads"],
    "convert": ["--from", "--to"],
    "configs": ["--copy", "--table"],
    "curves": [],
    "data": ["--out", "--classes", "--colors", "--max_size", "--keep_rare", "--ignore_rare", "--skip_broken"]
    + ["--class_weights", "--train", "--val", "--size", "--seed"],
}
# Commands that work; the tests change their arguments.
GOOD = {
    "infer": [
        "--config",
        "../mine/exported/deploy.yaml",
        "--image_path",
        "../mine/data/images/val",
        "--save_dir",
        "out",
    ],
    "predict": ["--config", "../mine/config.yml", "--model_path", "../mine/model.pdparams"]
    + ["--image_path", "../mine/data/images/val", "--save_dir", "out"],
    "val": ["--config", "../mine/config.yml", "--model_path", "../mine/model.pdparams"],
    "export": ["--config", "../mine/config.yml", "--model_path", "../mine/model.pdparams", "--save_dir", "out", "--to"]
    + ["paddle"],
    "verify": ["../mine/config.yml", "../mine/model.pdparams", "../mine/exported"],
    "convert": ["../mine/model.pdparams", "new.pth", "--to", "torch"],
    "configs": ["--copy", "bisenetv1_demo_256x128", "out"],
    "curves": ["out"],
    "data": ["config", "../mine/data", "--out", "new.yml"],
}


@st.composite
def command_lines(draw):
    """The arguments of a command that works, with some replaced, removed, added or swapped."""
    command = draw(st.sampled_from([*GOOD]))
    words = list(GOOD[command])
    if command == "data":
        words[0] = draw(st.sampled_from(["config", "check", "prepare", "scenes", ""]))
        words[1:] = draw(
            st.sampled_from([words[1:], ["../mine/config.yml"], ["camvid", "../mine/data", "out"], ["out"]])
        )
    value = st.one_of(st.sampled_from(PATHS), st.sampled_from(NUMBERS), st.sampled_from(WORDS), st.text(max_size=6))
    for _ in range(draw(st.integers(1, 3))):  # `test_unchanged_arguments` has those without a change
        how = draw(st.sampled_from(["replace", "replace", "replace", "add", "remove", "swap"]))
        place = draw(st.integers(0, len(words)))
        if how == "add" and FLAGS[command]:
            words[place:place] = [draw(st.sampled_from(FLAGS[command])), draw(value)]
        elif how == "replace" and place < len(words):
            words[place] = draw(value)
        elif how == "remove":
            del words[place : place + 1]
        elif how == "swap" and words:
            words[0], words[-1] = words[-1], words[0]
    return [command, *(word.replace("\0", "") for word in words)]


@given(command_lines())
def test_random_arguments(fuzz, place, words):
    mine, work = place / "mine", place / "work"
    if "scenes" in words:  # otherwise their number and size could be huge
        words = [*words, "--train", "1", "--val", "1", "--size", "32", "32"]
    before = fuzz.contents(mine)
    shutil.rmtree(work)
    work.mkdir()
    os.chdir(work)
    out, error = io.StringIO(), io.StringIO()
    with fuzz.in_seconds(SECONDS), contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            code = main(words)
        except SystemExit as ended:
            code = ended.code
    assert code in (0, 1, 2, 130, None), (words, code)
    said = error.getvalue()
    assert "Traceback" not in said + out.getvalue(), (words, said)
    if code == 2:
        assert 1 <= len(said.strip().splitlines()) <= 30 and "bisenetv1" in said, (words, said)
    event(f"{words[0]} {code}")
    after = fuzz.contents(mine)
    changed = [path for path in before if after.get(path) != before[path]]
    if words[0] == "export" and code == 0:  # it may replace the earlier export
        changed = [path for path in changed if os.path.dirname(path) != str(mine / "exported")]
    assert not changed, (words, changed)
    if after != before:  # an argument named that folder
        assert any("mine" in os.path.abspath(word) for word in words if os.pardir in word), words
        shutil.rmtree(mine)
        shutil.copytree(place / "kept", mine, symlinks=True, copy_function=_copy)
    assert sorted(os.listdir(place)) == ["kept", "mine", "work"], words


@pytest.mark.parametrize("command", GOOD)
def test_unchanged_arguments(fuzz, place, command, capsys):
    if command == "convert":
        pytest.importorskip("torch", reason="pip install '.[convert]'")
    work = place / "work"
    shutil.rmtree(work)
    work.mkdir()
    os.chdir(work)
    code = main([command, *GOOD[command]])
    said = capsys.readouterr().err
    assert code == (2 if command == "curves" else 0), said
