"""Sliding windows: the masks of PaddleSeg's `slide_inference` and of `predict --is_slide`, in every runtime."""

import numpy as np
import paddle
import pytest
from paddleseg.core.infer import slide_inference
from PIL import Image
from small_network import infer, masks, run

from bisenetv1_plugin import Segmenter
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.preprocess import NetworkInput
from bisenetv1_plugin.inference.sliding_window import SlidingEngine, SlidingWindows, parse_windows
from bisenetv1_plugin.inference.sources import Picture

WINDOW = ("--is_slide", "--crop_size", 48, 40, "--stride", 32, 24)
ONNX_RUNTIMES = ("onnxruntime", "openvino")


class Network:
    """A network, its preprocessing and its runtime.

    Its logits depend on a pixel's place in its window, so that every window counts.
    """

    output_op = "none"

    def __init__(self, batch=None):
        self.input_shape = [batch, None, None, None]
        self.preprocess = self

    def lazy_input(self, pixels):
        return NetworkInput(pixels, [])

    def shape_error(self, shape):
        return None

    def __call__(self, images):
        """As PaddleSeg calls it."""
        weights = np.random.RandomState(3).rand(5, 3)
        logits = np.einsum("kc,nchw->nkhw", weights, images.numpy()) + np.sin(np.arange(images.shape[3]))
        return [paddle.to_tensor(logits.astype("float32"))]

    def run(self, images):
        assert len(images) == (self.input_shape[0] or 1)
        return self(paddle.to_tensor(images))[0].numpy()

    def stream(self, inputs):
        return map(self.run, inputs)


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize(
    ("height", "width", "crop", "stride"),
    [
        (97, 131, (64, 48), (40, 31)),
        (96, 128, (64, 48), (64, 48)),
        (48, 64, (64, 48), (10, 10)),
        (20, 30, (64, 48), (64, 48)),
        (50, 300, (64, 64), (7, 64)),
        (300, 50, (64, 64), (64, 7)),
        (1, 1, (1, 1), (1, 1)),
    ],
)
def test_logits_and_masks_equal_upstream(height, width, crop, stride, batch):
    image = np.random.RandomState(0).rand(3, height, width).astype("float32")
    want = slide_inference(Network(), paddle.to_tensor(image[np.newaxis]), crop, stride).numpy()[0]
    for keeps_logits in (True, False):
        network = Network(batch)
        engine = SlidingEngine(network, network, SlidingWindows(crop, stride), scores=keeps_logits)
        ((_, output),) = engine.outputs(engine.batches([Picture("picture", image)], 1), many=False)
        if keeps_logits:
            np.testing.assert_allclose(output[0], want, atol=1e-5)
        else:
            np.testing.assert_array_equal(output[0], want.argmax(axis=0))


@pytest.fixture(scope="module")
def predicted(small):
    """The masks of `predict --is_slide`, by name."""
    out = small.folder / "predicted"
    files = ("--config", small.config, "--model_path", small.weights, "--image_path", small.images, "--save_dir", out)
    assert run("predict", *files, "--device", "cpu", *WINDOW) == 0
    return masks(out / "pseudo_color_prediction")


@pytest.mark.parametrize("runtime", ONNX_RUNTIMES)
def test_infer_writes_the_masks_of_predict(small, dynamic, predicted, runtime, tmp_path):
    pytest.importorskip(runtime)
    assert infer(dynamic, small, tmp_path / "out", "--backend", runtime, *WINDOW) == 0
    found = masks(tmp_path / "out")
    assert found.keys() == predicted.keys()
    assert np.mean([found[name] == predicted[name] for name in found]) > 0.9999
    assert infer(dynamic, small, tmp_path / "whole", "--backend", runtime) == 0
    whole = masks(tmp_path / "whole")
    assert any((found[name] != whole[name]).any() for name in found), "windows make a difference here"


def test_paddle_with_an_export_without_argmax(small, softmax, predicted, tmp_path):
    """`test_logits_and_masks_equal_upstream` averages logits; this one averages probabilities."""
    assert infer(softmax, small, tmp_path, "--backend", "paddle", "--with_argmax", *WINDOW) == 0
    found = masks(tmp_path)
    assert np.mean([found[name] == predicted[name] for name in predicted]) > 0.9999


def test_segmenter(small, dynamic, predicted):
    pytest.importorskip("openvino")
    segmenter = Segmenter(dynamic, backend="openvino", crop_size=(48, 40), stride=[32, 24])
    for path in small.images.iterdir():
        found, scored = segmenter(path), segmenter(path, scores=True)
        assert np.mean(found.mask == predicted[path.stem]) > 0.9999
        np.testing.assert_array_equal(scored.scores.argmax(axis=0), found.mask)
        np.testing.assert_allclose(scored.scores.sum(axis=0), 1, atol=1e-5)


def test_window_of_the_size_of_the_export(small, logits, tmp_path):
    """An export for 96x64 accepts larger pictures with windows, but no smaller window."""
    pytest.importorskip("onnxruntime")
    picture = Image.new("RGB", (150, 100), (90, 120, 60))
    picture.save(tmp_path / "large.png")
    words = ("--image_path", tmp_path / "large.png", "--save_dir", tmp_path / "out", "--with_argmax")
    command = ("infer", "--config", logits / "deploy.yaml", *words, "--backend", "onnxruntime", "--is_slide")
    assert run(*command, "--crop_size", 96, 64, "--stride", 48, 32) == 0
    assert Image.open(tmp_path / "out" / "large.png").size == (150, 100)
    assert run(*command, "--crop_size", 64, 64, "--stride", 48, 32) == 1


def test_video_without_a_segmented_frame(small, logits, tmp_path, capsys):
    """No speed is printed."""
    pytest.importorskip("onnxruntime")
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "drive.mp4"), "w") as clip:
        stream = clip.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for _ in range(3):
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((96, 160, 3), "uint8"), "rgb24")))
        clip.mux(stream.encode(None))
    words = ("--image_path", tmp_path / "drive.mp4", "--save_dir", tmp_path / "out", "--with_argmax", "--save_video")
    command = ("infer", "--config", logits / "deploy.yaml", *words, "--backend", "onnxruntime", "--is_slide")
    assert run(*command, "--crop_size", 64, 64, "--stride", 48, 32) == 1
    assert "a second" not in capsys.readouterr().out
    assert run(*command, "--crop_size", 96, 64, "--stride", 48, 32) == 0
    assert "3 frames in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--is_slide",), "--is_slide needs --crop_size W H and --stride W H."),
        (("--is_slide", "--crop_size", 48, 40), "--is_slide needs"),
        (("--crop_size", 48, 40, "--stride", 32, 24), "need --is_slide"),
        (("--is_slide", "--crop_size", 48, 40, "--stride", 49, 24), "no stride longer than the window"),
        (("--backend", "paddle", *WINDOW), "export with `bisenetv1 export --output_op softmax`"),
    ],
)
def test_invalid_flags(small, dynamic, words, says, tmp_path, capsys):
    assert infer(dynamic, small, tmp_path / "out", *words) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("window", [(48, None), (None, 48), ((48, 40), (0, 1)), ((48, 40), (1.5, 1)), ((48,), (1, 1))])
def test_segmenter_refuses_invalid_windows(dynamic, window):
    with pytest.raises(InputError, match="crop_size|stride"):
        Segmenter(dynamic, crop_size=window[0], stride=window[1])


def test_numpy_integers_are_accepted():
    assert parse_windows((np.int64(48), 40), [32, np.int32(24)]) == SlidingWindows((48, 40), (32, 24))
    with pytest.raises(InputError, match="whole numbers"):
        parse_windows((np.float64(48), 40), (32, 24))


def test_out_of_memory(monkeypatch):
    """The error suggests a smaller window."""
    network = Network()

    def run(images):
        raise MemoryError

    monkeypatch.setattr(network, "run", run)
    (fault,) = SlidingEngine(network, network, SlidingWindows((8, 8), (8, 8))).run(
        [Picture("a", np.zeros((3, 9, 9), "float32"))]
    )
    assert fault.reason == "it needs more memory than there is: make it smaller, or give a smaller window."
