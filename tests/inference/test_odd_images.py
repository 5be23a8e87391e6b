"""Odd images in `infer` and `predict`: each has the right mask, or is skipped with a message."""

import os
import shutil
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from bisenetv1_plugin.cli import main
from bisenetv1_plugin.drawing import painter
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.image_files import MOST_PIXELS
from bisenetv1_plugin.inference import sources
from bisenetv1_plugin.inference.sources import Source

# Pillow knows it as EPS, and starts Ghostscript for its pixels.
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def run(small, dynamic, tmp_path):
    """Runs a command on a path; returns the exit code and the masks by name."""

    def run(command, image_path, *arguments, export=dynamic):
        flags = ["--image_path", image_path, "--save_dir", tmp_path / command, "--device", "cpu"]
        if command == "infer":
            flags += ["--config", export / "deploy.yaml", "--overlay", "--cpu_threads", 1]
            masks, overlays = tmp_path / "infer", tmp_path / "infer" / "overlay"
        else:
            flags += ["--config", small.config, "--model_path", small.weights]
            masks, overlays = (
                tmp_path / "predict" / "pseudo_color_prediction",
                tmp_path / "predict" / "added_prediction",
            )
        code = main([str(word) for word in (command, *flags, *arguments)])
        found = {
            path.stem: np.asarray(Image.open(path))
            for path in masks.glob("*.png" if command == "infer" else "**/*.png")
        }
        run.overlays = {path.stem: cv2.imread(str(path)) for path in overlays.glob("**/*.*")}
        return code, found

    return run


COMMANDS = pytest.mark.parametrize("command", ["infer", "predict"])


def scene(small):
    return Image.open(sorted(small.images.iterdir())[0]).convert("RGB")


def png(width, height):
    """The header of an RGB PNG of that size, without pixels."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


@COMMANDS
def test_formats(small, run, tmp_path, command):
    """The mask has the size that OpenCV reads, also with an EXIF rotation; the overlay shows that image."""
    folder = tmp_path / "images"
    (folder / "Straße mit Bäumen").mkdir(parents=True)
    picture = scene(small)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "turned.jpg", exif=exif, quality=95)
    picture.convert("RGBA").save(folder / "rgba.png")
    picture.convert("L").save(folder / "gray.png")
    picture.convert("P").save(folder / "palette.png")
    cv2.imwrite(str(folder / "deep.png"), np.asarray(picture)[..., ::-1].astype("uint16") * 257)
    picture.resize((40, 30)).save(folder / "tiny.bmp")
    picture.save(folder / "first.tif", save_all=True, append_images=[picture.rotate(90)])
    cv2.imwrite(str(folder / "sixteen.TIFF"), np.asarray(picture)[..., ::-1].astype("uint16") * 257)
    picture.save(folder / "Straße mit Bäumen" / "ein Bild.JPEG", quality=95)
    (folder / "circle").symlink_to(folder)
    (folder / "notes.txt").write_text("not an image")
    code, masks = run(command, folder)
    assert code == 0
    sizes = {name: mask.shape for name, mask in masks.items()}
    upright = dict.fromkeys(("rgba", "gray", "palette", "deep", "ein Bild", "first", "sixteen"), (64, 96))
    assert sizes == {**upright, "turned": (96, 64), "tiny": (30, 40)}
    plain = masks["rgba"]
    assert all((masks[name] == plain).mean() > 0.99 for name in ("deep", "first", "sixteen"))
    weight = 0.5 if command == "infer" else 0.6
    for name in ("turned.jpg", "rgba.png"):
        image, overlay = cv2.imread(str(folder / name)), run.overlays[name[:-4]]
        colors = painter.palette(256)[masks[name[:-4]]][..., ::-1]
        overlay = overlay[: len(image)]  # without the legend
        difference = np.abs(overlay - (image * weight + colors * (1 - weight)))
        assert difference.mean() < (1 if name == "rgba.png" else 6)  # the overlay of a JPEG may be one


@COMMANDS
def test_unreadable_images_are_skipped(small, run, tmp_path, capsys, command):
    folder = tmp_path / "images"
    folder.mkdir()
    picture = scene(small)
    picture.save(folder / "good.png")
    picture.save(folder / "cut.jpg", quality=95)
    os.truncate(folder / "cut.jpg", (folder / "cut.jpg").stat().st_size * 2 // 3)
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("not an image")
    (folder / "bomb.png").write_bytes(png(20000, 10000))
    picture.save(folder / "gif.gif", save_all=True, append_images=[picture.rotate(90)])
    (folder / "gif.gif").rename(folder / "gif.png")
    (folder / "loop.png").symlink_to("loop.png")
    code, masks = run(command, folder)
    assert code == 1 and "good" in masks
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bisenetv1: ")]
    sentences = {
        "bomb.png": "it has more than 178956970 pixels: cut it into tiles, or see infer --is_slide",
        "cut.jpg": "image file is truncated",
        "empty.png": "it is empty: copy or download it again",
        "text.jpg": "it is not an image, despite its name",
        "loop.png": "Too many levels of symbolic links",
    }
    if "gif" not in masks:  # OpenCV reads the first picture of a GIF from 4.11 on
        sentences["gif.png"] = "OpenCV does not read this kind: save it as PNG or JPEG"
    assert len(told) == len(sentences)
    for name, sentence in sentences.items():
        assert any(f"{folder / name} cannot be read and was left out" in line and sentence in line for line in told)


def test_more_pixels_than_opencv_reads(tmp_path, monkeypatch):
    """The error mentions --is_slide only if it would help."""
    (tmp_path / "bomb.png").write_bytes(png(60000, 30000))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", MOST_PIXELS // 2)
    with pytest.raises(InputError, match="it has more than 1073741824 pixels: cut it into tiles$"):
        sources.decode(str(tmp_path / "bomb.png"))


_LITTLE_MEMORY = """
import resource, sys
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.image_files import decode_file
from bisenetv1_plugin.inference import sources
from bisenetv1_plugin.machine import process_memory

resource.setrlimit(resource.RLIMIT_AS, (process_memory("VmSize") + (64 << 20),) * 2)
print(decode_file("small.png").shape)
try:
    sources.decode("large.jpg")
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory as Linux does")
def test_out_of_memory_is_not_reported_as_a_bad_file(tmp_path):
    """A small picture is read; for a large one, the error says that memory does not suffice."""
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    Image.new("RGB", (7000, 6000)).save(tmp_path / "large.jpg")
    done = subprocess.run([sys.executable, "-c", _LITTLE_MEMORY], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert done.stdout.startswith("(8, 8, 3)\nit needs more memory than there is: make it smaller")


def test_no_program_is_started_to_read_a_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *command, **_: pytest.fail(f"it started {command}"))
    (tmp_path / "a.png").write_bytes(POSTSCRIPT)
    for file in (str(tmp_path / "a.png"), POSTSCRIPT):
        with pytest.raises(InputError, match="it is not an image, despite its name"):
            sources.decode(file)


def test_large_image_causes_no_warning(small, dynamic, tmp_path):
    """Pillow warns above 89 million pixels. This image is also damaged, and only that is reported."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "large.png").write_bytes(png(12000, 10000))
    scene(small).save(tmp_path / "images" / "small.png")
    words = ["infer", "--config", dynamic / "deploy.yaml", "--image_path", tmp_path / "images", "--verbose"]
    code = (  # independent of this machine's memory
        "import sys; from bisenetv1_plugin import cli, machine; machine.available_memory = lambda: None; "
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words), "--save_dir", str(tmp_path / "masks")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "large.png cannot be read and was left out (image file is trunc" in done.stderr
    assert "DecompressionBombWarning" not in done.stdout + done.stderr, done.stderr


def test_warnings_of_other_code_are_kept():
    """A program that imports `Segmenter` still gets Pillow's warnings about its own large images."""
    code = "from bisenetv1_plugin import Segmenter; import warnings; print([entry[2] for entry in warnings.filters])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "DecompressionBombWarning" not in done.stdout, done.stdout + done.stderr


@COMMANDS
def test_no_readable_image(small, run, tmp_path, capsys, command):
    """No folder without masks is printed."""
    (tmp_path / "images").mkdir()
    shutil.copyfile(sorted(small.images.iterdir())[0], tmp_path / "images" / "whole.png")
    data = (tmp_path / "images" / "whole.png").read_bytes()
    (tmp_path / "images" / "whole.png").write_bytes(data[: len(data) // 2])
    code, masks = run(command, tmp_path / "images")
    told = capsys.readouterr()
    assert (code, masks) == (1, {}) and "whole.png cannot be read" in told.err
    assert "The masks are in" not in told.out


@pytest.mark.skipif(not hasattr(os, "seteuid") or os.geteuid() != 0, reason="needs another user to be refused")
def test_no_permission(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("others")
    for outer in (folder, *folder.parents):
        if outer.name.startswith(("others", "popen-", "pytest-")):
            outer.chmod(0o755)
    scene(small).save(folder / "mine.png")
    scene(small).save(folder / "yours.png")
    (folder / "mine.png").chmod(0o600)
    (folder / "closed").mkdir(mode=0o700)
    os.seteuid(65534)
    try:
        source = Source(str(folder))
        assert [picture.name for picture in source] == ["yours"] and len(source.faults) == 2
        assert any("mine.png" in fault and "ask for permission to read it" in fault for fault in source.faults)
        assert any("closed" in fault and "ask for permission" in fault for fault in source.faults)
    finally:
        os.seteuid(0)


class TestLists:
    def write(self, small, tmp_path, content, encoding="utf-8"):
        for name in ("a.png", "with space.png", "Bäume.png"):
            scene(small).save(tmp_path / name)
        (tmp_path / "list.txt").write_bytes(content.encode(encoding))
        return str(tmp_path / "list.txt")

    def test_crlf_labels_spaces_and_bom(self, small, tmp_path):
        lines = "a.png a_label.png\r\n\r\nwith space.png\r\nBäume.png label with space.png\r\n"
        path = self.write(small, tmp_path, lines, "utf-8-sig")
        assert sources.list_images(path) == sorted(str(tmp_path / n) for n in ("a.png", "with space.png", "Bäume.png"))

    @pytest.mark.parametrize("content", ["", "\r\n \r\n"])
    def test_empty_list_and_empty_folder(self, small, tmp_path, content):
        with pytest.raises(InputError, match=r"list.txt names no image"):
            sources.list_images(self.write(small, tmp_path, content))
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="empty has no image that ends with .*in a list"):
            sources.list_images(str(tmp_path / "empty"))

    def test_not_a_list(self, small, tmp_path):
        scene(small).save(tmp_path / "a.gif")
        if not cv2.haveImageReader(str(tmp_path / "a.gif")):
            with pytest.raises(InputError, match=r"a.gif is neither an image that OpenCV reads nor a list"):
                sources.list_images(str(tmp_path / "a.gif"))
        with pytest.raises(InputError, match="there is no .*absent"):
            sources.list_images(str(tmp_path / "absent"))

    @COMMANDS
    def test_missing_image_is_reported(self, small, run, tmp_path, capsys, command):
        path = self.write(small, tmp_path, "a.png\nabsent.png\nwith space.png\n")
        code, masks = run(command, path)
        assert code == 1 and sorted(masks) == ["a", "with space"]
        assert "absent.png cannot be read and was left out (No such file or directory)" in capsys.readouterr().err

    def test_images_outside_of_the_list_folder(self, small, run, tmp_path):
        """Results of `predict` stay in its output folder."""
        self.write(small, tmp_path, "")
        (tmp_path / "lists").mkdir()
        (tmp_path / "lists" / "l.txt").write_text("../a.png\n")
        code, masks = run("predict", tmp_path / "lists" / "l.txt")
        assert code == 0 and list(masks) == ["a"]


@COMMANDS
def test_two_images_with_the_same_mask_name(small, run, tmp_path, capsys, command):
    (tmp_path / "images").mkdir()
    for name in ("same.png", "same.jpg"):
        scene(small).save(tmp_path / "images" / name)
    assert run(command, tmp_path / "images")[0] == 2
    assert "would both give same.png" in capsys.readouterr().err


def test_predict_keeps_folders(small, run, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        scene(small).save(tmp_path / "images" / name / "same.png")
    assert run("predict", tmp_path / "images")[0] == 0
    for kind in ("added_prediction", "pseudo_color_prediction"):
        found = (tmp_path / "predict" / kind).rglob("*.png")
        assert sorted(str(path.relative_to(tmp_path / "predict" / kind)) for path in found) == [
            "a/same.png",
            "b/same.png",
        ]


@pytest.mark.slow
def test_predict_matches_upstream(small, run, tmp_path):
    from paddleseg.core import predict
    from paddleseg.transforms import Compose

    from bisenetv1_plugin.training import builder

    code, masks = run("predict", small.images, "--custom_color", 1, 2, 3, 4, 5, 6)
    build = builder.Builder(builder.load_config(str(small.config)))
    paths = sorted(str(path) for path in small.images.iterdir())
    predict(
        *(build.model, str(small.weights), Compose(build.val_transforms), paths, str(small.images)),
        *(str(tmp_path / "upstream"),),
        custom_color=[1, 2, 3, 4, 5, 6],
    )
    assert code == 0 and len(masks) == 3
    for kind in ("added_prediction", "pseudo_color_prediction"):
        for path in (tmp_path / "upstream" / kind).iterdir():
            ours = Image.open(tmp_path / "predict" / kind / path.name)
            theirs = Image.open(path)
            assert ours.mode == theirs.mode and ours.getpalette() == theirs.getpalette()
            assert (np.asarray(ours) == np.asarray(theirs)).all()


def test_incomplete_last_batch_with_a_fixed_batch_size(small, pair, run, tmp_path):
    """It is filled up with copies, and their masks are dropped."""
    code, masks = run("infer", small.images, "--batch_size", 2, export=pair)
    assert code == 0 and len(masks) == 3
    shutil.rmtree(tmp_path / "infer")
    code, others = run("infer", small.images)
    assert code == 0 and sorted(others) == sorted(masks)
    assert all((masks[name] == others[name]).mean() > 0.9999 for name in masks)


@COMMANDS
@pytest.mark.slow
def test_wrong_number_of_channels(small, export, run, tmp_path, capsys, monkeypatch, command):
    import paddle

    from bisenetv1_plugin.training import builder

    values = yaml.safe_load(small.config.read_text())
    values["model"]["in_channels"] = 4
    values["model"]["backbone"]["in_channels"] = 4
    monkeypatch.setattr(small, "config", tmp_path / "four.yml")
    monkeypatch.setattr(small, "weights", tmp_path / "four.pdparams")
    small.config.write_text(yaml.safe_dump(values))
    model = builder.Builder(builder.load_config(str(small.config))).model
    paddle.save(model.state_dict(), str(small.weights))
    if command == "infer":
        four = tmp_path / "four"
        flags = ["--config", small.config, "--model_path", small.weights, "--save_dir", four, "--device", "cpu"]
        assert main([str(word) for word in ("export", *flags, "--input_shape", 1, 4, 64, 96)]) == 0
        code, masks = run(command, small.images, export=four)
    else:
        code, masks = run(command, small.images)
    assert code == 1 and not masks
    error = capsys.readouterr().err
    assert "was left out" in error and "channels" in error and "Traceback" not in error


def test_video_of_unknown_length(small, run, tmp_path, capsys):
    """Like a recorded stream: a file of consecutive JPEGs."""
    pixels = [cv2.imread(str(path)) for path in sorted(small.images.iterdir())]
    (tmp_path / "stream.avi").write_bytes(b"".join(cv2.imencode(".jpg", image)[1].tobytes() for image in pixels))
    source = Source(str(tmp_path / "stream.avi"))
    assert source.total is None
    code, masks = run("infer", tmp_path / "stream.avi", "--batch_size", 2)
    assert code == 0 and sorted(masks) == [f"stream_{index:06d}" for index in (1, 2, 3)]


def test_predict_refuses_colors_in_a_gray_format(small, run, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.asarray(Image.open(sorted(small.images.iterdir())[0]).convert("L"))).save(tmp_path / "in/a.pgm")
    (tmp_path / "list.txt").write_text("in/a.pgm\n")
    code, found = run("predict", tmp_path / "list.txt")
    assert code == 0 and list(found) == ["a"] and run.overlays["a"].shape == (64, 96, 3)
