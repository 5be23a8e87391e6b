"""`Segmenter`: the masks of `infer` for every type of image, names, scores, threads and errors."""

import importlib
import importlib.metadata
import io
import json
import logging
import pickle
import re
import shutil
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml
from matplotlib import font_manager
from PIL import Image

import bisenetv1_plugin
from bisenetv1_plugin import Segmenter
from bisenetv1_plugin.cli import main
from bisenetv1_plugin.datasets.classes import DEMO_CLASSES
from bisenetv1_plugin.drawing import painter
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.runtimes import RUNTIMES

DOCS = Path(__file__).resolve().parents[2] / "docs"
NAMES = [name for name, _ in DEMO_CLASSES]


def infer(exported, image_path, save_dir, *arguments):
    """The masks of `bisenetv1 infer`, by file name."""
    flags = ["--config", exported / "deploy.yaml", "--image_path", image_path, "--save_dir", save_dir, *arguments]
    assert main([str(word) for word in ("infer", *flags, "--device", "cpu", "--cpu_threads", 1)]) == 0
    return {path.stem: np.asarray(Image.open(path)) for path in save_dir.glob("*.png")}


@pytest.fixture(scope="module")
def scenes(small):
    return sorted(str(path) for path in small.images.iterdir())


@pytest.fixture(scope="module")
def segmenter(dynamic):
    return Segmenter(dynamic, device="cpu", cpu_threads=1)


@pytest.fixture(scope="module")
def trained(small):
    return Segmenter.from_weights(small.config, str(small.weights), device="cpu")


class TestPictures:
    def test_all_image_types_give_the_same_mask(self, dynamic, segmenter, scenes, tmp_path):
        folder = tmp_path / "images"
        folder.mkdir()
        picture = Image.open(scenes[0]).convert("RGB")
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.save(folder / "jpeg.jpg", quality=70)
        picture.save(folder / "turned.jpg", exif=exif)
        picture.save(folder / "turned_png.png", exif=exif)
        translucent = picture.copy()
        translucent.putalpha(Image.linear_gradient("L").resize(picture.size))
        translucent.save(folder / "rgba.png")
        translucent.convert("LA").save(folder / "la.png")
        picture.convert("L").save(folder / "gray.png")
        picture.convert("1").save(folder / "bits.png")
        picture.convert("P").save(folder / "palette.png", transparency=3)
        deep = np.asarray(picture)[..., ::-1].astype("uint16") * 257 - 99 * (np.asarray(picture)[..., ::-1] > 9)
        cv2.imwrite(str(folder / "deep.png"), deep)
        cv2.imwrite(str(folder / "deep_gray.png"), deep[..., 1])
        expected = infer(dynamic, folder, tmp_path / "masks")
        assert len(expected) == 10 and expected["turned"].shape == expected["turned_png"].shape == (96, 64)
        assert len(np.unique(expected["jpeg"])) >= 3 and not np.array_equal(expected["gray"], expected["jpeg"])
        for path in sorted(folder.iterdir()):
            pixels = cv2.imread(str(path))
            for image, order in (
                *((str(path), None), (path, None), (path.read_bytes(), None), (Image.open(path), None)),
                *((pixels, "BGR"), (pixels[..., ::-1], "RGB")),
            ):
                result = segmenter(image, order=order)
                assert np.array_equal(result.mask, expected[path.stem]), (path.name, type(image), order)
                assert np.array_equal(result.image, pixels[..., ::-1])
        gray = cv2.imread(str(folder / "gray.png"), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(segmenter(gray).mask, expected["gray"])

    def test_list_of_images(self, segmenter, scenes):
        """A longer list uses `stream`, which runs several at a time in OpenVINO."""
        images = [scenes[0], Image.open(scenes[1]).resize((50, 40)), *scenes * 2]
        found = segmenter(images)
        assert len(found) == 8
        assert all(np.array_equal(result.mask, segmenter(image).mask) for result, image in zip(found, images))
        assert segmenter(()) == [] and len(segmenter((scenes[0],))) == 1

    @pytest.mark.parametrize("backend", RUNTIMES)
    @pytest.mark.slow
    def test_real_image(self, dynamic, camvid, tmp_path, backend):
        path = sorted((camvid / "val" / "images").iterdir())[0]
        (expected,) = infer(dynamic, path, tmp_path, "--backend", backend).values()
        segmenter = Segmenter(dynamic / "deploy.yaml", backend, cpu_threads=1)
        assert segmenter.name == f"{backend} fp32"
        assert np.array_equal(segmenter(Image.open(path)).mask, expected)

    @pytest.mark.parametrize(
        "image, order, sentence",
        [
            ("https://example.org/a.jpg", None, "is an address, and nothing is downloaded"),
            ("absent.jpg", None, r"absent.jpg cannot be read \(No such file or directory\)"),
            (".", None, "is a folder: give a list of the paths of its images"),
            ("drive.mp4", None, r"is a video: use `segmenter.video\(path\)`"),
            (b"", None, r"these 0 bytes are not a readable image file \(it is empty"),
            (b"GIF", None, "these 3 bytes are not a readable image file"),
            (np.zeros((9, 9, 3), "uint8"), None, "pass order='RGB' or order='BGR'"),
            (np.zeros((9, 9, 3), "uint8"), "rgb", "order is 'rgb'; it is 'RGB' or 'BGR'"),
            (np.zeros((9, 9, 3), "float32"), "RGB", "the array is float32; it must be uint8"),
            (np.zeros((9, 9, 4), "uint8"), "RGB", r"shape \[9, 9, 4\].*`array\[..., :3\]`"),
            (np.zeros((3, 9, 9), "uint8"), "RGB", r"shape \[3, 9, 9\]; it must be \[H, W, 3\]"),
            (np.zeros((0, 9), "uint8"), None, r"shape \[0, 9\]"),
            (Image.new("F", (9, 9)), None, "floating point numbers"),
            (Image.new("RGB", (0, 9)), None, "it has no pixels"),
            (7, None, "a picture is a path, .*, not a int"),
        ],
    )
    def test_invalid_images(self, segmenter, image, order, sentence):
        with pytest.raises(InputError, match=sentence):
            segmenter(image, order=order)

    def test_copy_is_refused(self, segmenter):
        with pytest.raises(TypeError, match="make one in each process"):
            pickle.dumps(segmenter)

    @pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True, 10**6, float("nan")])
    def test_invalid_number_of_threads(self, dynamic, threads):
        with pytest.raises(InputError, match=r"cpu_threads is .*; it must be a whole number from 1 to 1024"):
            Segmenter(dynamic, cpu_threads=threads)

    def test_truncated_file(self, segmenter, scenes, tmp_path):
        Image.open(scenes[0]).save(tmp_path / "cut.jpg", quality=95)
        content = (tmp_path / "cut.jpg").read_bytes()[:2000]
        (tmp_path / "cut.jpg").write_bytes(content)
        with pytest.raises(InputError, match=r"cut.jpg cannot be read \(image file is truncated"):
            segmenter([scenes[0], tmp_path / "cut.jpg"])
        for image in (content, Image.open(io.BytesIO(content))):
            with pytest.raises(InputError, match="truncated"):
                segmenter(image)

    def test_fixed_size_and_batch(self, pair, segmenter, scenes):
        fixed = Segmenter(pair, device="cpu")
        assert np.array_equal(fixed(scenes[0]).mask, segmenter(scenes[0]).mask)
        with pytest.raises(InputError, match="picture 1 cannot be segmented: the export takes 64 pixels"):
            fixed([scenes[0], np.zeros((30, 40), "uint8")])


class TestVideo:
    @pytest.fixture
    def video(self, scenes, tmp_path):
        writer = cv2.VideoWriter(str(tmp_path / "drive.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
        for path in scenes * 2:
            writer.write(cv2.imread(path))
        writer.release()
        return tmp_path / "drive.avi"

    def test_frames(self, dynamic, segmenter, video, tmp_path):
        expected = infer(dynamic, video, tmp_path / "masks")
        found = list(segmenter.video(video))
        assert len(found) == 6
        for index, result in enumerate(found, 1):
            assert np.array_equal(result.mask, expected[f"drive_{index:06d}"])
        frames = segmenter.video(video)
        next(frames)
        frames.close()

    def test_unreadable_video(self, segmenter, video):
        with pytest.raises(InputError, match="is not a video; a video ends with"):
            segmenter.video("street.jpg")
        video.write_bytes(b"no video")
        with pytest.raises(InputError, match="a video that PyAV cannot open"):
            segmenter.video(video)


class TestScores:
    @pytest.mark.parametrize("output_op", ["argmax", "softmax", "none"])
    @pytest.mark.slow
    def test_probabilities(self, dynamic, logits, softmax, scenes, trained, output_op):
        exported = {"argmax": dynamic, "none": logits, "softmax": softmax}[output_op]
        expected = trained(scenes[0], scores=True)
        for backend in ("onnxruntime", "openvino"):
            segmenter = Segmenter(exported, backend, device="cpu")
            for result in (segmenter(scenes[0], scores=True), segmenter(scenes * 2, scores=True)[3]):
                assert result.scores.dtype == np.float32 and result.scores.shape == (5, 64, 96)
                assert np.array_equal(result.scores.argmax(axis=0), result.mask)
                assert np.abs(result.scores.sum(axis=0) - 1).max() < 1e-5 and result.scores.min() >= 0
                assert np.abs(result.scores - expected.scores).max() < 1e-4
            plain = segmenter(scenes[0])
            assert plain.scores is None and np.array_equal(plain.mask, result.mask)

    def test_paddle_with_an_export_without_argmax(self, logits, dynamic, scenes, trained):
        result = Segmenter(logits, "paddle", device="cpu")(scenes[0], scores=True)
        assert np.abs(result.scores - trained(scenes[0], scores=True).scores).max() < 1e-4
        with pytest.raises(InputError, match="ends in argmax, .*`bisenetv1 export --output_op softmax`"):
            Segmenter(dynamic, "paddle", device="cpu")(scenes[0], scores=True)

    @pytest.mark.slow
    def test_scores_have_the_size_of_the_picture(self, small, logits, scenes, tmp_path):
        """With transforms that resize and pad, the masks are those of `infer` and, from weights, of `predict`."""
        sizes = [{"type": "Resize", "target_size": [72, 40]}, {"type": "Padding", "target_size": [96, 64]}]
        transforms = [*sizes, {"type": "Normalize"}]
        shutil.copytree(logits, tmp_path / "ex")
        deploy = yaml.safe_load((tmp_path / "ex" / "deploy.yaml").read_text())
        deploy["Deploy"]["transforms"] = transforms
        (tmp_path / "ex" / "deploy.yaml").write_text(yaml.safe_dump(deploy))
        expected = infer(tmp_path / "ex", scenes[0], tmp_path / "masks", "--with_argmax", "--backend", "paddle")
        result = Segmenter(tmp_path / "ex", "paddle", device="cpu")(scenes[0], scores=True)
        assert np.array_equal(result.mask, expected[Path(scenes[0]).stem]) and result.scores.shape == (5, 64, 96)
        assert np.array_equal(result.scores.argmax(axis=0), result.mask)
        values = yaml.safe_load(small.config.read_text())
        values["val_dataset"]["transforms"] = transforms
        (tmp_path / "resized.yml").write_text(yaml.safe_dump(values))
        flags = ["--config", tmp_path / "resized.yml", "--model_path", small.weights, "--device", "cpu"]
        predict = ["--image_path", scenes[0], "--save_dir", tmp_path / "predict"]
        assert main([str(word) for word in ("predict", *flags, *predict)]) == 0
        mask = tmp_path / "predict" / "pseudo_color_prediction" / f"{Path(scenes[0]).stem}.png"
        result = Segmenter.from_weights(tmp_path / "resized.yml", small.weights, "cpu")(scenes[0], scores=True)
        assert np.array_equal(result.mask, np.asarray(Image.open(mask))) and result.scores.shape == (5, 64, 96)
        assert np.array_equal(result.scores.argmax(axis=0), result.mask)

    def test_from_weights_uses_the_test_config_like_predict(self, small, scenes, trained, tmp_path):
        """Its other keys are for `val` or for files, and used to raise a TypeError."""
        config = yaml.safe_load(small.config.read_text())
        augmented = {"aug_pred": True, "scales": [0.5, 1.5], "flip_horizontal": True}
        for_val = {"aug_eval": True, "auc_roc": True, "print_detail": False}
        masks = [trained(scenes[0]).mask]
        for number, test in enumerate((for_val, augmented, {**augmented, **for_val, "custom_color": [1, 2, 3]})):
            path = tmp_path / f"{number}.yml"
            path.write_text(yaml.safe_dump({**config, "test_config": test}))
            masks.append(Segmenter.from_weights(path, small.weights, "cpu")(scenes[0]).mask)
        plain, plain_too, averaged, averaged_too = masks
        assert np.array_equal(plain, plain_too) and np.array_equal(averaged, averaged_too)
        assert not np.array_equal(plain, averaged)


@pytest.mark.parametrize("backend", [*RUNTIMES, "dygraph"])
@pytest.mark.slow
def test_eight_threads(dynamic, scenes, trained, backend):
    segmenter = trained if backend == "dygraph" else Segmenter(dynamic, backend, "cpu", cpu_threads=1)
    images = [cv2.resize(cv2.imread(scenes[i % 3]), (48 + 8 * i, 32 + 8 * i)) for i in range(8)]
    expected = [segmenter(image, order="BGR").mask for image in images]
    found = [[] for _ in images]
    start = threading.Barrier(8)

    def work(number):
        start.wait()
        for _ in range(3):
            found[number].append(segmenter(images[number], order="BGR").mask)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for masks, mask in zip(found, expected):
        assert len(masks) == 3 and all(np.array_equal(each, mask) for each in masks)


class TestResult:
    def test_shares(self, segmenter, scenes):
        result = segmenter(scenes[0])
        assert list(result.shares) == result.classes == segmenter.classes == NAMES
        assert sum(result.shares.values()) == pytest.approx(1)
        assert result.shares["sky"] == (result.mask == 3).mean()
        assert re.fullmatch(r"<96x64: \w+ \d+\.\d%(, \w+ \d+\.\d%)*>", repr(result))

    def test_overlay(self, segmenter, scenes):
        result = segmenter(scenes[0])
        assert np.array_equal(result.overlay(0, legend=False), result.image)
        assert np.array_equal(result.overlay(1, legend=False), result.colors[result.mask])
        half = result.overlay()
        assert half.dtype == np.uint8 and half.shape[0] > 64 and half.shape[1:] == (96, 3)
        assert np.array_equal(half[:64], result.overlay(legend=False)), "the legend hides nothing"
        strip = {tuple(map(int, pixel)) for pixel in half[64:].reshape(-1, 3)}
        for number, color in enumerate(result.colors):
            assert (tuple(map(int, color)) in strip) == bool((result.mask == number).any())
        with pytest.raises(InputError, match="opacity is 2; it must be from 0 to 1"):
            result.overlay(2)
        with Image.open(io.BytesIO(result._repr_png_())) as shown:
            assert np.array_equal(np.asarray(shown), half)

    def test_save(self, segmenter, scenes, tmp_path):
        result = segmenter(scenes[0])
        result.save(tmp_path / "new" / "mask.png")
        assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "mask.png")), result.mask)
        with pytest.raises(InputError, match=r"mask.jpg: a mask is saved as .png.*result.overlay\(\)"):
            result.save(tmp_path / "mask.jpg")

    def test_missing_font_is_skipped(self, monkeypatch):
        """Matplotlib's cached list may contain deleted fonts."""
        gone = SimpleNamespace(fname="/absent/a.ttf", name="a")
        monkeypatch.setattr(font_manager.fontManager, "ttflist", [gone])
        assert painter.find_font(frozenset("\U0010fffc")) is None

    def test_legend_with_long_names_and_other_fonts(self):
        numbers, colors = range(3), [(9, 9, 9), (99, 9, 9), (9, 99, 9)]
        long = painter.draw_legend(100, numbers, ["a" * 200, "b", "c"], colors)
        assert long.shape[1] == 100 and {(9, 9, 9), (99, 9, 9)} <= {tuple(map(int, p)) for p in long.reshape(-1, 3)}
        none, zero = (painter.draw_legend(100, numbers, [name, "b", "c"], colors) for name in ("\U0010fffd", "0"))
        assert np.array_equal(none, zero), "no font has it: its number"


class TestClasses:
    def test_infer_uses_names_and_colors(self, dynamic, scenes, segmenter, tmp_path):
        masks = infer(dynamic, scenes[0], tmp_path, "--overlay")
        (name,) = masks
        overlay = np.asarray(Image.open(tmp_path / "overlay" / f"{name}.png"))
        assert np.array_equal(overlay, segmenter(scenes[0]).overlay())

    def test_export_without_names(self, dynamic, scenes, tmp_path):
        """As from PaddleSeg's tools/export.py."""
        shutil.copytree(dynamic, tmp_path / "ex")
        values = yaml.safe_load((tmp_path / "ex" / "deploy.yaml").read_text())
        assert values["Deploy"].pop("classes") == NAMES
        (tmp_path / "ex" / "deploy.yaml").write_text(yaml.safe_dump(values))
        result = Segmenter(tmp_path / "ex", device="cpu")(scenes[0])
        assert result.classes == [str(number) for number in range(256)] and result.colors.shape == (256, 3)
        assert result.overlay().shape[0] > 64
        (mask,) = infer(tmp_path / "ex", scenes[0], tmp_path / "masks", "--overlay").values()
        (overlay,) = (tmp_path / "masks" / "overlay").iterdir()
        assert Image.open(overlay).size == (96, 64), "no legend where there is nothing to say"

    @pytest.mark.slow
    def test_file_of_names_and_colors(self, small, export, scenes, tmp_path, capsys):
        lines = ["road way 1 2 3", "house 4 5 6", "tree 7 8 9", "sky 10 11 12", "car 13 14 15"]
        (tmp_path / "classes.txt").write_text("\n".join(lines))
        exported = export("with_names", "--classes", tmp_path / "classes.txt", "--to", "paddle")
        segmenter = Segmenter(exported, device="cpu")
        assert segmenter.classes == ["road way", "house", "tree", "sky", "car"]
        assert segmenter.colors.tolist() == [[n, n + 1, n + 2] for n in range(1, 15, 3)]
        ((name, mask),) = infer(exported, scenes[0], tmp_path / "masks").items()
        color = np.asarray(Image.open(tmp_path / "masks" / "color" / f"{name}.png").convert("RGB"))
        assert np.array_equal(color, segmenter.colors[mask])
        flags = ["--config", small.config, "--model_path", small.weights, "--save_dir", tmp_path / "x"]
        for file, sentence in (
            ("cityscapes", "names 19 classes, but .* has 5"),
            ("absent.txt", "there is no absent.txt"),
        ):
            assert main([str(word) for word in ("export", *flags, "--classes", file)]) == 2
            assert re.search(sentence, capsys.readouterr().err) and not (tmp_path / "x").exists()

    def test_val_prints_names(self, small, capsys):
        from paddleseg.core import evaluate
        from paddleseg.utils import metrics

        from bisenetv1_plugin.training import builder

        recalls = []
        measure = metrics.class_measurement
        _, build, model = builder.open_network(small.config, small.weights)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(metrics, "class_measurement", lambda *a: recalls.append(measure(*a)) or recalls[-1])
            _, _, iou, precision, _ = evaluate(model, build.val_dataset)
        flags = ["--config", small.config, "--model_path", small.weights, "--device", "cpu"]
        capsys.readouterr()
        assert main([str(word) for word in ("val", *flags)]) == 0
        lines = capsys.readouterr().out.splitlines()
        titles = ["class", "IoU", "precision", "recall"]
        table = lines[[line.split() for line in lines].index(titles) :]
        for name, *expected, line in zip(NAMES, iou, precision, recalls[0][2], table[1:]):
            assert line.split() == [name, *(f"{value:.4f}" for value in expected)]
        assert len(table) == 6


class TestPackage:
    @pytest.mark.slow
    def test_import_loads_nothing(self, python):
        code = (
            "import os; before = set(sys.modules); import bisenetv1_plugin; bisenetv1_plugin.install();"
            "print(sorted(set(sys.modules) - before));"
            "from bisenetv1_plugin import Segmenter; print(Segmenter.__name__)"
        )
        site = "import site; site.USER_SITE = ''"  # -S leaves it None, which Paddle 2.6 cannot take
        done = python("-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {site}; {code}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0] == "['bisenetv1_plugin']" and done.stdout.splitlines()[-1] == "Segmenter"

    def test_finder_has_no_other_attributes(self):
        """The module is a finder on sys.meta_path, and callers look for optional methods of finders."""
        assert bisenetv1_plugin in sys.meta_path
        for name in ("invalidate_caches", "find_distributions", "find_module", "__wrapped__", "segment"):
            assert not hasattr(bisenetv1_plugin, name)
        with pytest.raises(ImportError):
            from bisenetv1_plugin import NoSuchThing  # noqa: F401
        importlib.invalidate_caches()
        assert importlib.metadata.version("bisenetv1-plugin") == bisenetv1_plugin.__version__

    def test_refuses_what_infer_refuses(self, dynamic, tmp_path):
        for options, sentence in (
            ({"backend": "tensorflow"}, "backend is 'tensorflow'; choose one of auto, paddle, onnxruntime, openvino"),
            ({"device": "tpu"}, "device is 'tpu'; choose one of cpu, gpu"),
            ({"precision": "fp8"}, "precision is 'fp8'"),
            ({"precision": "auto", "device": "cpu"}, "precision auto is chosen by the first images"),
            ({"precision": "fp16", "device": "cpu"}, "precision fp16 needs TensorRT"),
        ):
            with pytest.raises(InputError, match=sentence):
                Segmenter(dynamic, **options)
        with pytest.raises(
            InputError, match="deploy.yaml does not exist: name the folder that `bisenetv1 export` wrote"
        ):
            Segmenter(tmp_path)


def code_of_page():
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def code_of_notebook():
    """The cells are plain Python, so they run without Jupyter."""
    cells = json.loads((DOCS / "python.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


@pytest.mark.slow
@pytest.mark.parametrize("code", [code_of_page, code_of_notebook])
def test_the_documentation_runs(small, dynamic, scenes, monkeypatch, tmp_path, code):
    """The folders of the demo."""
    demo = tmp_path / "output" / "demo"
    shutil.copytree(dynamic, demo / "exported")
    shutil.copy(small.config, demo / "config.yml")
    (demo / "best_model").mkdir()
    shutil.copy(small.weights, demo / "best_model" / "model.pdparams")
    shutil.copytree(small.images, demo / "data" / "images" / "val")
    writer = cv2.VideoWriter(str(tmp_path / "drive.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for path in scenes:
        writer.write(cv2.imread(path))
    writer.release()
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("bisenetv1_plugin")
    monkeypatch.setattr(logger, "handlers", logger.handlers[:])  # the page adds one
    exec(compile(code(), code.__name__, "exec"), {"__name__": "__main__"})
    assert Image.open("overlay.png").width == 96
