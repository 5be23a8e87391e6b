"""Odd file names, also invalid UTF-8, and an ASCII locale."""

import os
import shutil
import subprocess
import sys

import pytest

from bisenetv1_plugin import Segmenter
from bisenetv1_plugin.cli import main
from bisenetv1_plugin.errors import InputError

NAMES = [
    b"\xff\xfe.png",
    b"a\nb.png",
    b"'\".png",
    b"x" * 251 + b".png",
    b"-x.png",
    "街道.png".encode(),
    b" .png",
    b"%s{}.png",
]


@pytest.fixture
def pictures(tmp_path, small):
    folder = tmp_path / "中 \udcff"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(small.images / "00000.png", os.path.join(os.fsencode(folder), name))
    return folder


def names_in(folder):
    return sorted(name for name in os.listdir(os.fsencode(folder)) if name.endswith(b".png"))


def test_infer(pictures, tmp_path, dynamic, capsys):
    argv = ["infer", "--config", dynamic / "deploy.yaml", "--image_path", pictures, "--save_dir", tmp_path / "out"]
    assert main([*map(str, argv), "--device", "cpu", "--overlay", "--json", str(tmp_path / "out.json")]) == 0
    for folder in ("", "color", "overlay"):
        assert names_in(tmp_path / "out" / folder) == sorted(NAMES)


def test_predict(pictures, tmp_path, small):
    argv = ["predict", "--config", small.config, "--model_path", small.weights, "--image_path", pictures]
    assert main([*map(str, argv), "--device", "cpu", "--save_dir", str(tmp_path / "out")]) == 0
    assert names_in(tmp_path / "out" / "added_prediction") == sorted(NAMES)


def test_segmenter(pictures, dynamic):
    segmenter = Segmenter(dynamic)
    assert [result.mask.shape for result in segmenter([*pictures.iterdir()])] == [(64, 96)] * len(NAMES)


def test_export_in_a_folder_with_invalid_utf8(tmp_path, dynamic, capsys):
    folder = tmp_path / "\udcff"
    shutil.copytree(dynamic, folder)
    with pytest.raises(
        InputError, match=r"\\udcff/deploy.yaml is not UTF-8, which the library that opens it needs: rename it"
    ):
        Segmenter(folder)


def test_pipes_and_devices_are_refused(tmp_path, small, dynamic, capsys):
    shutil.copy(small.images / "00000.png", tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "\x1b[31m\n.png").write_bytes(b"")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "nowhere.png").symlink_to("nothing")
    argv = ["infer", "--config", dynamic / "deploy.yaml", "--image_path", tmp_path, "--save_dir", tmp_path / "out"]
    assert main([*map(str, argv), "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 4 and "\x1b" not in said
    assert all(f"{name}.png cannot be read and was left out" in said for name in ("pipe", "zero", "nowhere"))
    assert names_in(tmp_path / "out") == [b"00000.png"]
    for path in ("pipe.png", "zero.png"):
        with pytest.raises(InputError, match="it is not a regular file"):
            Segmenter(dynamic)(tmp_path / path)


@pytest.mark.slow
def test_ascii_locale(pictures, tmp_path, dynamic):
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0"}
    save_dir = tmp_path / "结果"
    argv = [sys.executable, "-m", "bisenetv1_plugin", "infer", "--config", dynamic / "deploy.yaml", "--device", "cpu"]
    argv += ["--image_path", pictures, "--save_dir", save_dir]
    done = subprocess.run([*map(str, argv)], capture_output=True, env={**os.environ, **environment}, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr.decode()
    assert rb"The masks are in" in done.stdout and rb"\u7ed3\u679c" in done.stdout
    assert names_in(save_dir) == sorted(NAMES)
