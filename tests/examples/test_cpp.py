"""examples/cpp, built as in docs/cpp.md and compared with `infer`."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from resource import RLIMIT_FSIZE, setrlimit

import cv2
import numpy as np
import pytest
from PIL import Image
from small_network import masks, run

from bisenetv1_plugin.drawing.painter import palette
from bisenetv1_plugin.inference.exported_model import load_export

SOURCE = Path(__file__).resolve().parents[2] / "examples/cpp"
CMAKE_PATH = "import openvino.utils; print(openvino.utils.get_cmake_path())"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SOURCE.is_dir(), reason="not in a checkout"),
    pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("c++")), reason="no cmake, or no C++ compiler"),
    pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="no openvino"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    build = tmp_path_factory.mktemp("build")
    found = subprocess.run([sys.executable, "-c", CMAKE_PATH], capture_output=True, text=True, check=True)
    command = [
        "cmake",
        "-S",
        SOURCE,
        "-B",
        build,
        f"-DOpenVINO_DIR={found.stdout.strip()}",
        "-DCMAKE_CXX_FLAGS=-Werror",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    for package in ("OpenCV", "yaml-cpp"):
        if f'configuration file provided by "{package}"' in done.stderr:
            pytest.skip(f"CMake finds no {package}")
    assert done.returncode == 0, done.stderr
    done = subprocess.run(["cmake", "--build", build], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return build / "segment"


@pytest.fixture(scope="module")
def exported(export):
    return export("picture", "--picture_onnx")


@pytest.fixture
def segment(program, tmp_path):
    """Runs the program in tmp_path; returns the finished process."""

    def run(*words, **options):
        command = [program, *map(os.fspath, words)]
        return subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=120, **options)

    return run


def pictures(folder, path):
    """One picture in all formats, channels and orientations that readers may treat differently."""
    folder.mkdir()
    color = Image.open(path).convert("RGB")
    pixels = np.asarray(color)
    turned = Image.Exif()
    turned[0x0112] = 6
    color.save(folder / "color.png")
    color.save(folder / "turned.jpg", exif=turned)
    color.save(folder / "progressive.jpg", progressive=True)
    color.convert("L").save(folder / "gray.png")
    color.convert("P").save(folder / "palette.png")
    Image.merge("RGBA", [*color.split(), color.convert("L")]).save(folder / "with alpha.png")
    cv2.imwrite(str(folder / "deep.png"), pixels[..., ::-1].astype("uint16") * 257 + 100)
    color.resize((70, 90)).save(folder / "other_size.bmp")
    return folder


def in_bgr(folder, exported):
    """The same export, as with `--picture_onnx bgr`."""
    from bisenetv1_plugin.export.onnx_model import embed_normalization

    shutil.copytree(exported, folder)
    transforms = load_export(exported).transform_list
    model = (exported / "model.onnx").read_bytes()
    (folder / "picture.onnx").write_bytes(embed_normalization(model, transforms, "bgr"))
    deploy = (
        (exported / "deploy.yaml").read_text().replace("color: RGB\n    dtype: uint8", "color: BGR\n    dtype: uint8")
    )
    (folder / "deploy.yaml").write_text(deploy)
    return folder


def colors(folder):
    return {path.stem: Image.open(path) for path in sorted((folder / "color").glob("*.png"))}


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_masks_are_those_of_infer(segment, exported, small, tmp_path, order):
    folder = exported if order == "rgb" else in_bgr(tmp_path / "bgr", exported)
    found = pictures(tmp_path / "pictures", next(small.images.iterdir()))
    words = ["--config", folder / "deploy.yaml", "--image_path", found, "--backend", "openvino"]
    assert run("infer", *words, "--save_dir", tmp_path / "infer") == 0
    expected = masks(tmp_path / "infer")
    assert len(expected) == 8 and all(len(np.unique(mask)) > 1 for mask in expected.values())
    for mode in ("latency", "throughput"):
        done = segment(folder, *sorted(found.iterdir()), "--save_dir", mode, f"--mode={mode}")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"The masks are in {mode}\n", "")
        ours = masks(tmp_path / mode)
        assert ours.keys() == expected.keys()
        for name, mask in expected.items():
            np.testing.assert_array_equal(ours[name], mask, name)
        ours, theirs = colors(tmp_path / mode), colors(tmp_path / "infer")
        assert ours.keys() == theirs.keys()
        for name, picture in theirs.items():
            assert ours[name].mode == picture.mode == "P" and ours[name].getpalette() == picture.getpalette()
            np.testing.assert_array_equal(np.asarray(ours[name]), np.asarray(picture), name)


@pytest.fixture(scope="module")
def picture(small):
    return sorted(small.images.iterdir())[0]


def with_deploy(folder, exported, text):
    """An export of the same network, with these values in its deploy.yaml."""
    folder.mkdir()
    (folder / "picture.onnx").symlink_to(exported / "picture.onnx")
    (folder / "deploy.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("given", [[[0, 0, 0], [1, 2, 3]], [[0] * 3, [224] * 3, [255] * 3, [1] * 3], []])
def test_colors(segment, exported, picture, tmp_path, given):
    """Other numbers are black, or a gray that no class has. Without colors, PaddleSeg's are used."""
    said = "Deploy: {picture: {onnx: picture.onnx, color: RGB}" + f", colors: {given}" * bool(given) + "}"
    assert segment(with_deploy(tmp_path / "ex", exported, said), picture, "--save_dir", "out").returncode == 0
    found = np.array(Image.open(tmp_path / "out/color" / f"{picture.stem}.png").getpalette(), "uint8")
    np.testing.assert_array_equal(found.reshape(256, 3), palette(len(given) or 256, given))


def test_unreadable_pictures(segment, exported, picture, tmp_path):
    """They are named in the output, and the others are segmented, also from a list."""
    whole = Image.open(picture).convert("RGB")
    for name in ("whole.jpg", "lost.bmp", "part.jpg", "some.png", "of list.jpg", "indented.jpg"):
        whole.save(tmp_path / name)
    for name in ("lost.bmp", "part.jpg", "some.png"):
        os.truncate(tmp_path / name, os.path.getsize(tmp_path / name) - 40)
    (tmp_path / "text.png").write_text("none")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "list.txt").write_text("\ufeff of list.jpg label.png\n \n  indented.jpg\ngone.jpg\r\n")
    names = ["empty.png", "folder.png", "lost.bmp", "part.jpg", "pipe.png", "some.png", "text.png", "zero.png"]
    done = segment(exported, *names, "whole.jpg", "list.txt", "--save_dir", "out", "--mode", "throughput")
    told = [line for line in done.stderr.splitlines() if " was left out (" in line]
    assert [line.split()[1] for line in told] == sorted([*names, "gone.jpg"]) and done.returncode == 1
    assert "cut off" in done.stderr and done.stdout == "The masks are in out\n"
    assert sorted(masks(tmp_path / "out")) == ["indented", "of list", "whole"]


def test_other_files_are_kept(segment, exported, picture, tmp_path):
    mine, link = tmp_path / "out" / f"{picture.stem}.png", tmp_path / "out/color" / f"{picture.stem}.png"
    link.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    words = [exported, picture, "--save_dir", "out"]
    done = segment(*words)
    assert done.returncode == 2 and f"out/{mine.name} exists, and no earlier run made it" in done.stderr
    assert mine.read_bytes() == b"mine" and not link.exists()
    mine.unlink()
    link.symlink_to("../../elsewhere.png")
    for _ in range(2):  # the second run replaces the files of the first
        assert segment(*words).returncode == 0
    assert link.is_symlink() and Image.open(tmp_path / "elsewhere.png").mode == "P"
    words = ["--config", exported / "deploy.yaml", "--image_path", picture, "--save_dir", tmp_path / "out"]
    assert run("infer", *words) == 0, "and infer takes it for its own"
    Image.open(mine).save(mine)
    assert segment(exported, picture, "--save_dir", "out").returncode == 2, "a mask that was saved anew is its owner's"
    mine.unlink()
    os.link(picture, mine)
    assert f"{mine.name} would be written, and it is read" in segment(exported, picture, "--save_dir", "out").stderr


def test_two_folders_with_one_target(segment, exported, picture, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/color").symlink_to(".")
    done = segment(exported, picture, "--save_dir", "out")
    assert done.returncode == 2 and "would replace another" in done.stderr and not masks(tmp_path / "out")


def test_a_full_disk(segment, exported, picture, tmp_path):
    done = segment(exported, picture, "--save_dir", "out", preexec_fn=lambda: setrlimit(RLIMIT_FSIZE, (100, 100)))
    assert done.returncode == 2 and "make room there, or choose another folder" in done.stderr and not done.stdout
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["{ex}", "{picture}"], "usage: "),
        (["{ex}", "{picture}", "--save_dir"], "--save_dir needs a value"),
        (["{ex}", "{picture}", "--save_dir", "out", "--mode", "fast"], "choose latency or throughput"),
        (["{ex}", "{picture}", "--save_dir", "out", "--overlay"], "there is no --overlay"),
        (["{ex}", "{picture}", "copy/{picture.name}", "--save_dir", "out"], "would both give"),
        (["nowhere", "{picture}", "--save_dir", "out"], "there is no nowhere"),
        (["{ex}", "gone.txt", "--save_dir", "out"], "there is no list gone.txt"),
        (["text", "{picture}", "--save_dir", "out"], "is not the deploy.yaml of an export"),
        (["without", "{picture}", "--save_dir", "out"], "`bisenetv1 export --picture_onnx`"),
        (["broken", "{picture}", "--save_dir", "out"], "OpenVINO cannot load"),
        (["{ex}", "{picture}", "--save_dir", "text/deploy.yaml"], "choose another folder"),
    ],
)
def test_refusals(segment, exported, picture, tmp_path, words, sentence):
    with_deploy(tmp_path / "text", exported, "no export")
    with_deploy(tmp_path / "without", exported, "Deploy: {onnx: model.onnx}")
    with_deploy(tmp_path / "broken", exported, "Deploy: {picture: {onnx: deploy.yaml, color: RGB}}")
    done = segment(*(word.format(ex=exported, picture=picture) for word in words))
    assert done.returncode == 2 and not done.stdout and not (tmp_path / "out").exists()
    assert sentence in done.stderr.splitlines()[-1] and done.stderr.splitlines()[-1].startswith("segment: ")


def test_exports_that_do_not_fit(segment, exported, picture, tmp_path):
    """One for a fixed size, and one that ends in probabilities, float32."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported / "picture.onnx")
    said = "Deploy: {picture: {onnx: other.onnx, color: RGB}}"
    for number, (dimensions, code, sentence) in enumerate(
        (
            ([1, 32, 96, 3], 1, "the export takes [1,32,96,3], not [1,64,96,3]"),
            ([2, 64, 96, 3], 2, "export without --input_shape"),
            (None, 2, "does not end in argmax"),
        )
    ):
        folder = with_deploy(tmp_path / str(number), exported, said)
        if dimensions:
            for size, value in zip(model.graph.input[0].type.tensor_type.shape.dim, dimensions):
                size.dim_value = value
        else:
            (given,) = model.graph.output
            model.graph.node.append(onnx.helper.make_node("Cast", [given.name], ["float"], to=onnx.TensorProto.FLOAT))
            given.name, given.type.tensor_type.elem_type = "float", onnx.TensorProto.FLOAT
        onnx.save(model, folder / "other.onnx")
        done = segment(folder, picture, "--save_dir", "out")
        assert done.returncode == code and sentence in done.stderr, done.stderr
