"""Confidence: the softmax of PaddleSeg's logits in every runtime, and unknown pixels."""

import json
import shutil

import numpy as np
import paddle
import pytest
import yaml
from paddleseg.core.infer import inference, slide_inference
from PIL import Image
from small_network import infer, masks, run

from bisenetv1_plugin import Segmenter
from bisenetv1_plugin.drawing.painter import Painter, palette
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.engine import Engine, Fault
from bisenetv1_plugin.inference.postprocess import best_class
from bisenetv1_plugin.inference.preprocess import NetworkInput
from bisenetv1_plugin.inference.segmentation import Segmentation
from bisenetv1_plugin.inference.sliding_window import SlidingEngine, SlidingWindows
from bisenetv1_plugin.inference.sources import Picture

WINDOW = ("--is_slide", "--crop_size", 48, 40, "--stride", 32, 24)
RUNTIMES = ("onnxruntime", "openvino")


def upstream(small, run=inference):
    """PaddleSeg's probabilities of every picture, float32 `[classes, H, W]`, by name."""
    found = {}
    for path in sorted(small.images.iterdir()):
        pixels = np.asarray(Image.open(path).convert("RGB")).astype("float32") / 255
        image = paddle.to_tensor(((pixels - 0.5) / 0.5).transpose(2, 0, 1)[np.newaxis])
        with paddle.no_grad():
            found[path.stem] = paddle.nn.functional.softmax(run(small.model, image), axis=1).numpy()[0]
    return found


@pytest.fixture(scope="module")
def expected(small):
    small.model.eval()
    return upstream(small)


@pytest.fixture(scope="module")
def half(expected):
    """A probability that about half of the pixels exceed, and that no pixel is close to."""
    values = np.sort(np.concatenate([scores.max(axis=0).ravel() for scores in expected.values()]))
    middle = values[len(values) // 4 : -len(values) // 4]
    widest = np.diff(middle).argmax()
    assert middle[widest + 1] - middle[widest] > 2e-5
    return float(middle[widest : widest + 2].mean())


def check(expected, out, below):
    """Compare the files of `infer` with PaddleSeg's probabilities."""
    found, confidence = masks(out), masks(out / "confidence")
    assert found.keys() == confidence.keys() == expected.keys()
    for name, scores in expected.items():
        best = scores.max(axis=0)
        assert confidence[name].dtype == np.uint8 and confidence[name].shape == best.shape
        assert np.abs(confidence[name] / 255 - best).max() <= 1 / 255
        np.testing.assert_array_equal(found[name] == 255, best < below)
        np.testing.assert_array_equal(found[name][best >= below], scores.argmax(axis=0)[best >= below])


@pytest.mark.parametrize("backend", RUNTIMES)
def test_confidence_equals_softmax_of_paddleseg(small, dynamic, expected, half, backend, tmp_path, capsys):
    pytest.importorskip(backend)
    flags = ("--backend", backend, "--save_confidence", "--unknown_below", half, "--overlay")
    assert infer(dynamic, small, tmp_path / "out", *flags, "--json", tmp_path / "out.json") == 0
    check(expected, tmp_path / "out", half)
    best = {name: scores.max(axis=0) for name, scores in expected.items()}
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["unknown_below"] == half
    for image in figures["images"]:
        assert image["shares"]["255"] == round(np.mean(best[image["name"]] < half), 6)
        assert image["confidence"] == pytest.approx(best[image["name"]].mean(), abs=1e-4)
    share = np.mean([best[name] < half for name in best])
    said = capsys.readouterr().out
    assert f"{share:.2%} of the pixels are unknown, 255 in the masks: their confidence is below {half:g}" in said
    assert f"The confidence is in {tmp_path / 'out' / 'confidence'}" in said
    # Earlier results are replaced; another picture is not.
    assert infer(dynamic, small, tmp_path / "out", *flags) == 0
    theirs = sorted((tmp_path / "out" / "confidence").iterdir())[0]
    Image.new("L", (96, 64)).save(theirs)
    assert infer(dynamic, small, tmp_path / "out", *flags) == 2
    assert f"{theirs} exists, and no earlier run" in capsys.readouterr().err


def test_paddle_with_an_export_without_argmax(small, logits, expected, half, tmp_path):
    flags = ("--backend", "paddle", "--with_argmax", "--save_confidence", "--unknown_below", half)
    assert infer(logits, small, tmp_path, *flags) == 0
    check(expected, tmp_path, half)


@pytest.mark.parametrize("backend", RUNTIMES)
@pytest.mark.slow
def test_windows(small, dynamic, expected, half, backend, tmp_path):
    pytest.importorskip(backend)
    wanted = upstream(small, lambda model, image: slide_inference(model, image, (48, 40), (32, 24)))
    flags = ("--backend", backend, "--save_confidence", "--unknown_below", half, *WINDOW)
    assert infer(dynamic, small, tmp_path, *flags) == 0
    confidence = masks(tmp_path / "confidence")
    for name, mask in masks(tmp_path).items():
        best = wanted[name].max(axis=0)
        assert np.abs(confidence[name] / 255 - best).max() <= 1 / 255
        clear = np.abs(best - half) > 1e-4
        np.testing.assert_array_equal((mask == 255)[clear], (best < half)[clear])
    assert any((np.abs(scores - wanted[name]) > 0.01).any() for name, scores in expected.items())


def test_exports_with_argmax_and_with_logits_agree(small, dynamic, logits, expected):
    pytest.importorskip("openvino")
    segmenters = [Segmenter(folder, "openvino") for folder in (dynamic, logits)]
    for path in sorted(small.images.iterdir()):
        one, other = (segmenter(path, confidence=True) for segmenter in segmenters)
        assert one.scores is None and one.confidence.dtype == np.float32 and one.confidence.shape == (64, 96)
        np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-5)
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_allclose(one.confidence, expected[path.stem].max(axis=0), atol=1e-4)
        assert segmenters[0](path).confidence is None


def test_segmenter(small, dynamic, half):
    pytest.importorskip("openvino")
    path = sorted(small.images.iterdir())[0]
    plain, segmenter = Segmenter(dynamic, "openvino"), Segmenter(dynamic, "openvino", unknown_below=half)
    found, whole = segmenter(path), plain(path, confidence=True)
    unknown = whole.confidence < half
    assert 0 < unknown.mean() < 1
    np.testing.assert_array_equal(found.confidence, whole.confidence)
    np.testing.assert_array_equal(found.mask, np.where(unknown, 255, whole.mask))
    assert found.unknown_below == half and found.unknown_share == unknown.mean() and whole.unknown_share == 0
    assert sum(found.shares.values()) + found.unknown_share == pytest.approx(1)
    assert "unknown" in repr(found) and "unknown" not in repr(whole)
    again = whole.with_unknown(half)
    np.testing.assert_array_equal(again.mask, found.mask)
    assert again.classes == found.classes and len(whole.mask[whole.mask == 255]) == 0
    scored = segmenter([path], scores=True)[0]
    np.testing.assert_array_equal(scored.scores.max(axis=0), scored.confidence)
    for region in found.regions(min_area=5):
        x, y, width, height = region.box
        own = found.confidence[y : y + height, x : x + width][region.mask]
        assert region.confidence == pytest.approx(own.mean(), abs=1e-5) and own.min() >= half
    weighed = Segmenter.from_weights(small.config, small.weights, "cpu", unknown_below=half)(path)
    np.testing.assert_array_equal(weighed.mask, found.mask)
    for bad in (-0.1, 1.1, float("nan"), "0.5", True):
        with pytest.raises(InputError, match="unknown_below is .*; it must be a number from 0 to 1"):
            Segmenter(dynamic, unknown_below=bad)
    with pytest.raises(InputError, match="pass confidence=True"):
        plain(path).with_unknown(0.5)
    with pytest.raises(InputError, match="already unknown"):
        found.with_unknown(0.9)
    with pytest.raises(InputError, match="below is 2; it must be a number from 0 to 1"):
        whole.with_unknown(2)


@pytest.mark.slow
def test_videos(small, dynamic, half, tmp_path, capsys):
    """One file per frame; the video shows unknown pixels."""
    pytest.importorskip("openvino")
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "drive.mp4"), "w") as clip:
        stream = clip.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for path in sorted(small.images.iterdir()):
            pixels = np.asarray(Image.open(path).convert("RGB"))
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        clip.mux(stream.encode(None))
    command = ("infer", "--config", dynamic / "deploy.yaml", "--image_path", tmp_path / "drive.mp4")
    flags = ("--save_dir", tmp_path / "out", "--save_video", "--save_confidence", "--unknown_below", half)
    assert run(*command, *flags, "--backend", "openvino") == 0
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert names == [*(f"confidence/drive_{number:06d}.png" for number in (1, 2, 3)), "drive_overlay.mp4"]
    for number, frame in enumerate(Segmenter(dynamic, "openvino").video(tmp_path / "drive.mp4", confidence=True), 1):
        written = np.asarray(Image.open(tmp_path / "out" / "confidence" / f"drive_{number:06d}.png"))
        assert np.abs(written / 255 - frame.confidence).max() <= 1 / 255
    capsys.readouterr()


@pytest.mark.slow
def test_confidence_of_regions_is_the_mean(small, dynamic, half, tmp_path):
    pytest.importorskip("openvino")
    flags = ("--backend", "openvino", "--unknown_below", half)
    for kind in ("labelme", "coco", "geojson"):
        out, figures = tmp_path / kind, tmp_path / f"{kind}.json"
        assert infer(dynamic, small, out, *flags, "--save_regions", kind, "--json", figures) == 0
    segmenter = Segmenter(dynamic, "openvino", unknown_below=half)
    coco = json.loads((tmp_path / "coco" / "regions.json").read_text())
    for path in sorted(small.images.iterdir()):
        found = segmenter(path)
        sure = sorted(round(region.confidence, 6) for region in found.regions(tolerance=0))
        (number,) = (image["id"] for image in coco["images"] if image["file_name"] == path.name)
        assert sorted(each["score"] for each in coco["annotations"] if each["image_id"] == number) == sure
        features = json.loads((tmp_path / "geojson" / "regions" / f"{path.stem}.geojson").read_text())["features"]
        assert sorted(feature["properties"]["confidence"] for feature in features) == sure
        shapes = json.loads((tmp_path / "labelme" / "regions" / f"{path.stem}.json").read_text())["shapes"]
        said = {shape["description"] for shape in shapes if shape["label"] != "__ignore__"}
        assert said == {f"confidence {region.confidence:.4f}" for region in found.regions()}
        for kind in ("labelme", "coco", "geojson"):
            images = json.loads((tmp_path / f"{kind}.json").read_text())["images"]
            (classes,) = (image["regions"] for image in images if image["name"] == path.stem)
            assert set(classes) == {str(each) for each in np.unique(found.mask) if each != 255}
            for each, entry in classes.items():
                assert entry["confidence"] == pytest.approx(found.confidence[found.mask == int(each)].mean(), abs=1e-5)


@pytest.mark.parametrize("shape", [(3, 1, 1), (11, 130, 7), (1, 5, 5)])
def test_best_class_matches_softmax(shape):
    logits = np.random.RandomState(0).randn(*shape).astype("float32") * 30
    powers = np.exp(logits.astype("float64") - logits.max(axis=0))
    mask, confidence = best_class(logits)
    np.testing.assert_allclose(confidence, (powers / powers.sum(axis=0)).max(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(mask, logits.argmax(axis=0))
    assert mask.dtype == np.uint8 and confidence.dtype == np.float32


@pytest.mark.parametrize("windows", [None, SlidingWindows((4, 4), (4, 4))])
def test_export_with_softmax(windows):
    raw = np.random.RandomState(1).rand(5, 9, 8).astype("float32") ** 9
    scores = raw / raw.sum(axis=0)
    network = Network("softmax")
    options = {"confidence": True, "unknown_below": 0.6}
    engine = SlidingEngine(network, network, windows, **options) if windows else Engine(network, network, **options)
    (found,) = engine.run([Picture("a", scores)])
    np.testing.assert_allclose(found.confidence, scores.max(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(found.mask, np.where(scores.max(axis=0) < 0.6, 255, scores.argmax(axis=0)))


@pytest.mark.parametrize(("below", "is_unknown"), [(0.25, False), (0.26, True), (0, False)])
def test_unknown_below_is_exclusive(below, is_unknown):
    engine = Engine(Network(), Network(), confidence=True, unknown_below=below)
    (found,) = engine.run([Picture("a", np.zeros((4, 5, 6), "float32"))])
    assert (found.confidence == 0.25).all() and ((found.mask == 255) == is_unknown).all()


class Network:
    """A network, its preprocessing and its runtime: the picture is returned as logits."""

    input_shape = [None] * 4

    def __init__(self, output_op="none"):
        self.output_op = output_op

    def __call__(self, pixels):
        return NetworkInput(pixels, [])

    preprocess = property(lambda self: self)
    lazy_input = __call__

    def shape_error(self, shape):
        return None

    def run(self, images):
        return images

    def stream(self, inputs):
        return map(self.run, inputs)


@pytest.mark.parametrize("windows", [None, SlidingWindows((4, 4), (3, 3))])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_picture_with_nan_is_skipped(windows, value):
    whole, broken = np.zeros((2, 3, 9, 8), "float32")
    broken[1, 5, 6] = value
    for options in ({}, {"confidence": True}, {"confidence": True, "scores": True}):
        network = Network()
        engine = SlidingEngine(network, network, windows, **options) if windows else Engine(network, network, **options)
        one, other, third = engine.run([Picture("a", whole), Picture("b", broken), Picture("c", whole)])
        assert isinstance(other, Fault) and "contain NaN" in other.reason
        for found in (one, third):
            assert (found.mask == 0).all() and (not options or found.confidence == pytest.approx(1 / 3))


@pytest.mark.parametrize("windows", [None, SlidingWindows((4, 4), (3, 3))])
def test_256_classes_with_unknown_below_are_refused(windows):
    network = Network()
    options = {"confidence": True, "unknown_below": 0.5}
    engine = SlidingEngine(network, network, windows, **options) if windows else Engine(network, network, **options)
    (found,) = engine.run([Picture("a", np.zeros((255, 4, 4), "float32"))])
    assert (found.mask == 255).all()
    with pytest.raises(InputError, match="the network has 256 classes, and 255, the number of unknown pixels, is one"):
        for done in engine.run([Picture("a", np.zeros((256, 4, 4), "float32"))]):
            raise InputError(done.reason)  # for windows, the picture is skipped instead


def test_invalid_arguments(small, dynamic, tmp_path, capsys):
    for value in ("-0.1", "1.1", "nan", "some"):
        with pytest.raises(SystemExit, match="2"):
            infer(dynamic, small, tmp_path / "out", f"--unknown_below={value}")
        assert f"invalid number from 0 to 1 value: '{value}'" in capsys.readouterr().err
    for flags in (("--save_confidence",), ("--unknown_below", 0.5)):
        assert infer(dynamic, small, tmp_path / "out", "--backend", "paddle", *flags) == 2
        assert "ends in argmax, and paddle fp32 cannot return the logits before it" in capsys.readouterr().err
    with pytest.raises(InputError, match="ends in argmax, and paddle fp32 cannot return the logits"):
        Segmenter(dynamic, "paddle", unknown_below=0.5)
    assert not (tmp_path / "out").exists()


def test_openvino_int8_has_no_confidence(small, dynamic, tmp_path, capsys):
    """Its model is not the ONNX model, even if the export has one."""
    openvino, onnx = pytest.importorskip("openvino"), pytest.importorskip("onnx")
    exported = tmp_path / "int8"
    shutil.copytree(dynamic, exported)
    types, value = onnx.TensorProto, onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("ArgMax", ["x"], ["mask"], axis=1, keepdims=0)
    sides = [value("x", types.FLOAT, [1, 3, "h", "w"])], [value("mask", types.INT64, [1, "h", "w"])]
    opset = onnx.helper.make_opsetid("", 13)
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "least", *sides), opset_imports=[opset], ir_version=8)
    onnx.save(model, str(tmp_path / "least.onnx"))
    openvino.save_model(openvino.convert_model(str(tmp_path / "least.onnx")), str(exported / "model.xml"))
    deploy = yaml.safe_load((exported / "deploy.yaml").read_text())
    deploy["Deploy"].update(openvino="model.xml", precision="int8")
    (exported / "deploy.yaml").write_text(yaml.safe_dump(deploy))
    assert infer(exported, small, tmp_path / "out", "--backend", "openvino", "--save_confidence") == 2
    assert "quantize with `bisenetv1 quantize --to onnx`" in capsys.readouterr().err


def changed(folder, target, change):
    """A copy of an export with a changed ONNX model."""
    onnx = pytest.importorskip("onnx")
    shutil.copytree(folder, target)
    model = onnx.load(str(target / "model.onnx"))
    change(onnx, model)
    onnx.save(model, str(target / "model.onnx"))
    return target


def test_network_that_returns_nan(small, dynamic, tmp_path, capsys):
    pytest.importorskip("onnxruntime")

    def spoil(onnx, model):
        last = next(node for node in model.graph.node if node.op_type == "ArgMax")
        none = onnx.numpy_helper.from_array(np.array(np.nan, "float32"), "none")
        model.graph.initializer.append(none)
        times = onnx.helper.make_node("Mul", [last.input[0], "none"], ["spoilt"])
        model.graph.node.insert(list(model.graph.node).index(last), times)
        last.input[0] = "spoilt"

    spoilt = changed(dynamic, tmp_path / "nan", spoil)
    flags = ("--backend", "onnxruntime", "--save_confidence")
    assert infer(spoilt, small, tmp_path / "out", *flags, "--json", tmp_path / "out.json") == 1
    faults = json.loads((tmp_path / "out.json").read_text())["faults"]
    assert len(faults) == 3 and all("was left out: the network's scores for it contain NaN" in f for f in faults)
    window = ("--backend", "onnxruntime", "--is_slide", "--crop_size", 48, 40, "--stride", 30, 20)
    assert infer(spoilt, small, tmp_path / "out", *window) == 1
    assert not list((tmp_path / "out").rglob("*.png"))
    assert capsys.readouterr().err.count("NaN") == 6


def test_full_disk_for_the_model_without_argmax(small, dynamic, python, tmp_path):
    """The file size limit simulates a full disk."""
    pytest.importorskip("onnxruntime")
    words = ("--config", dynamic / "deploy.yaml", "--image_path", small.images, "--save_dir", tmp_path / "out")
    command = ["infer", *map(str, words), "--backend", "onnxruntime", "--save_confidence"]
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100000, -1)); "
    done = python("-c", f"{limit}from bisenetv1_plugin.cli import main; sys.exit(main({command!r}))")
    assert done.returncode == 2 and "model.onnx: the file is larger than is allowed here" in done.stderr, done.stderr


def test_onnx_model_without_argmax(small, dynamic, tmp_path, capsys):
    pytest.importorskip("onnxruntime")

    def replace(onnx, model):
        last = next(node for node in model.graph.node if node.op_type == "ArgMax")
        last.op_type = "ReduceMax"
        axes = next(each for each in last.attribute if each.name == "axis").i
        keeps = next(each for each in last.attribute if each.name == "keepdims").i
        del last.attribute[:]
        last.attribute.extend(onnx.helper.make_attribute(*pair) for pair in (("axes", [axes]), ("keepdims", keeps)))
        cast = onnx.helper.make_node("Cast", ["as_float"], [last.output[0]], to=onnx.TensorProto.INT64)
        last.output[0] = "as_float"
        model.graph.node.insert(list(model.graph.node).index(last) + 1, cast)

    odd = changed(dynamic, tmp_path / "odd", replace)
    assert infer(odd, small, tmp_path / "out", "--backend", "onnxruntime", "--save_confidence") == 2
    assert "has no ArgMax at its end" in capsys.readouterr().err


def test_unknown_has_a_color_of_its_own():
    every = [(value, value, value) for value in range(255)]
    for colors in ([(0, 0, 0), (9, 9, 9)], [(0, 0, 0), (224, 224, 224), (255, 255, 255)], every):
        painter = Painter([f"class {number}" for number in range(len(colors))], colors, unknown=True)
        mask = np.arange(256, dtype="uint8").reshape(1, 256)
        shown = painter.color(mask)[0, :, ::-1]
        assert tuple(shown[255]) not in {tuple(color) for color in shown[: len(colors)]}
        result = Segmentation(
            mask, ["a"] * len(colors), palette(len(colors), colors)[: len(colors)], np.zeros((1, 1, 3))
        )
        assert tuple(result.unknown_color) == tuple(shown[255])
    shown = Painter(unknown=True).color(mask)[0]
    assert tuple(shown[255]) == (0, 0, 0) and (shown[:255].any(axis=1)).all(), "black is none of PaddleSeg's colors"


def test_legend_names_unknown():
    """With one more name, the legend is higher."""
    painter = Painter(["road", "car"], [(0, 0, 0), (200, 0, 0)], unknown=True)
    picture = np.zeros((20, 120, 3), "uint8")
    mask = np.zeros((20, 120), "uint8")
    without = painter.with_legend(picture, mask)
    mask[0, 0] = 255
    within = painter.with_legend(picture, mask)
    own = (within[20:] == 224).all(axis=2).sum()
    assert own > 50 and (without[20:] == 224).all(axis=2).sum() == 0
    assert within.shape[0] >= without.shape[0] and painter.with_legend(picture).shape[0] >= within.shape[0]
