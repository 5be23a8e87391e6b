"""One export in Paddle Inference, ONNX Runtime and OpenVINO: the same masks, and errors for missing parts."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import paddle
import pytest
import yaml
from PIL import Image

from bisenetv1_plugin import machine
from bisenetv1_plugin.cli import main
from bisenetv1_plugin.drawing import painter
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.exported_model import Export
from bisenetv1_plugin.inference.runtimes import RUNTIMES, onnxruntime
from bisenetv1_plugin.inference.sources import decode


def infer(deploy, image_path, save_dir, *arguments):
    flags = ["--config", deploy / "deploy.yaml", "--image_path", image_path, "--save_dir", save_dir, "--device", "cpu"]
    return main([str(argument) for argument in ("infer", *flags, "--cpu_threads", 1, *arguments)])


def masks(folder):
    return {path.stem: np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}


def normalized(pixels):
    """A normalized RGB image in the network's layout."""
    return ((pixels.astype("float32") / 255 - 0.5) / 0.5).transpose(2, 0, 1)[np.newaxis]


def dygraph(model, path):
    model.eval()
    with paddle.no_grad():
        return model(paddle.to_tensor(normalized(np.asarray(Image.open(path)))))[0].numpy()[0]


@pytest.fixture(scope="module")
def pictures(small):
    """The scenes, one of them cropped to a size that no stride divides."""
    folder = small.folder / "pictures"
    shutil.copytree(small.images, folder)
    first = sorted(folder.glob("*.png"))[0]
    Image.open(first).crop((0, 0, 93, 61)).save(first)
    return folder


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("flags", [["paddle"], ["paddle", "--enable_mkldnn", "True"], ["onnxruntime"], ["openvino"]])
def test_every_runtime_gives_the_masks_of_the_network(small, dynamic, pictures, tmp_path, flags, batch_size):
    assert infer(dynamic, pictures, tmp_path, "--batch_size", batch_size, "--backend", *flags) == 0
    found = masks(tmp_path)
    assert len(found) == 3 and {mask.shape for mask in found.values()} == {(64, 96), (61, 93)}
    for name, mask in found.items():
        expected = dygraph(small.model, pictures / f"{name}.png").argmax(axis=0)
        assert len(np.unique(expected)) >= 3
        assert (mask == expected).mean() >= 0.9999


@pytest.mark.parametrize("backend", ["paddle", "openvino"])
def test_bf16_is_close_to_fp32(small, logits, backend):
    path = sorted(small.images.iterdir())[0]
    expected = dygraph(small.model, path)
    export = Export(logits / "deploy.yaml")
    try:
        runtime = RUNTIMES[backend](export, precision="bf16")
    except InputError as error:
        assert "AVX-512" in str(error) or "no bf16 in this processor" in str(error)
        return
    difference = np.abs(runtime.run(export.preprocess(decode(str(path))).image[np.newaxis])[0] - expected).max()
    assert 1e-4 < difference / np.abs(expected).max() < 0.1


@pytest.mark.parametrize("backend", RUNTIMES)
def test_logits_equal_the_network(small, logits, backend):
    path = sorted(small.images.iterdir())[0]
    export = Export(logits / "deploy.yaml")
    image = export.preprocess(decode(str(path))).image[np.newaxis]
    expected = dygraph(small.model, path)
    assert np.abs(RUNTIMES[backend](export).run(image)[0] - expected).max() < 1e-4 * np.abs(expected).max()


def test_colors_and_overlays(small, dynamic, tmp_path):
    assert infer(dynamic, small.images, tmp_path, "--overlay") == 0
    for name, mask in masks(tmp_path).items():
        indexed = Image.open(tmp_path / "color" / f"{name}.png")
        assert indexed.mode == "P" and (np.asarray(indexed) == mask).all()  # as PaddleSeg's tools write it
        color = np.asarray(indexed.convert("RGB"))
        assert (color == painter.palette(256)[mask]).all()
        image = np.asarray(Image.open(small.images / f"{name}.png"))
        overlay = np.asarray(Image.open(tmp_path / "overlay" / f"{name}.png"))[: image.shape[0]]  # above the legend
        assert np.abs(overlay - (image * 0.5 + color * 0.5)).max() <= 1
        assert Image.open(tmp_path / f"{name}.png").mode == "L"


def test_truncated_image_is_skipped(small, dynamic, tmp_path, capsys):
    shutil.copytree(small.images, tmp_path / "images")
    first = sorted((tmp_path / "images").iterdir())[0]
    Image.open(first).save(tmp_path / "images" / "cut.jpg")
    whole = (tmp_path / "images" / "cut.jpg").read_bytes()
    (tmp_path / "images" / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    assert infer(dynamic, tmp_path / "images", tmp_path / "masks", "--batch_size", 2) == 1
    assert "cut.jpg cannot be read and was left out (image file is truncated" in capsys.readouterr().err
    assert len(masks(tmp_path / "masks")) == 3


def test_png_with_a_broken_chunk_is_skipped(small, dynamic, tmp_path, capsys):
    folder = tmp_path / "images"
    shutil.copytree(small.images, folder)
    first = sorted(folder.iterdir())[0]
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (200, 200, 3), "uint8")).save(first)
    whole = first.read_bytes()
    second = whole.index(b"IDAT", whole.index(b"IDAT") + 4)
    first.write_bytes(whole[:second] + bytes(4) + whole[second + 4 :])
    assert infer(dynamic, folder, tmp_path / "masks") == 1
    assert len(masks(tmp_path / "masks")) == 2
    assert first.name in capsys.readouterr().err


def test_invalid_deploy_yaml(small, tmp_path, capsys):
    for content in (small.config.read_bytes(), b"\x80\x02\xff", b"a: [", b""):
        (tmp_path / "deploy.yaml").write_bytes(content)
        assert infer(tmp_path, small.images, tmp_path / "masks") == 2
        assert "is not the deploy.yaml of an export" in capsys.readouterr().err
    (tmp_path / "config.yml").write_text("model:\n\ttype: BiSeNetV1")
    flags = ["--config", tmp_path / "config.yml", "--model_path", small.weights, "--device", "cpu"]
    assert main([str(word) for word in ("export", *flags)]) == 2
    assert "config.yml" in capsys.readouterr().err


def test_image_of_a_wrong_size_is_skipped(logits, pictures, tmp_path, capsys):
    assert infer(logits, pictures, tmp_path, "--with_argmax") == 1
    odd = sorted(pictures.iterdir())[0].stem
    assert f"{odd} was left out: the export takes 64 pixels of height, not 61" in capsys.readouterr().err
    assert len(masks(tmp_path)) == 2


@pytest.fixture(scope="module")
def video(small):
    path = small.folder / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for image in sorted(small.images.iterdir()):
        writer.write(cv2.imread(str(image)))
    writer.release()
    return path


def test_frames_of_a_video_equal_images(dynamic, video, tmp_path):
    assert infer(dynamic, video, tmp_path / "video", "--batch_size", 2) == 0
    (tmp_path / "frames").mkdir()
    capture = cv2.VideoCapture(str(video))
    for index in range(1, 4):
        cv2.imwrite(str(tmp_path / "frames" / f"drive_{index:06d}.png"), capture.read()[1])
    assert infer(dynamic, tmp_path / "frames", tmp_path / "images") == 0
    frames, images = masks(tmp_path / "video"), masks(tmp_path / "images")
    assert sorted(frames) == sorted(images) == [f"drive_{index:06d}" for index in range(1, 4)]
    assert all((frames[name] == images[name]).all() for name in images)


def test_invalid_video(dynamic, tmp_path, capsys):
    (tmp_path / "no.mp4").write_bytes(b"no video")
    assert infer(dynamic, tmp_path / "no.mp4", tmp_path / "masks") == 2
    assert "a video that PyAV cannot open" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--backend", "onnxruntime", "--precision", "bf16"], "ONNX Runtime computes this model in fp32 only"),
        (["--precision", "fp16"], "precision fp16 needs TensorRT"),
        (["--precision", "int8"], "is not a quantized export: make one with `bisenetv1 quantize`"),
        (["--use_trt", "True"], "(--use_trt) is for backend paddle or onnxruntime on device gpu"),
        (["--backend", "openvino", "--device", "gpu"], "OpenVINO finds no Intel GPU"),
    ],
)
def test_invalid_flags(small, dynamic, tmp_path, capsys, flags, sentence):
    assert infer(dynamic, small.images, tmp_path / "masks", *flags) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "masks").exists()


@pytest.mark.skipif(paddle.is_compiled_with_cuda(), reason="what a machine without a GPU says")
@pytest.mark.parametrize(
    "backend, sentence", [("paddle", "needs paddlepaddle-gpu"), ("onnxruntime", "onnxruntime-gpu")]
)
def test_no_gpu(small, dynamic, tmp_path, capsys, backend, sentence):
    assert infer(dynamic, small.images, tmp_path / "masks", "--device", "gpu", "--backend", backend) == 2
    assert sentence in capsys.readouterr().err


def test_fixed_batch_without_argmax(small, logits, tmp_path, capsys):
    assert infer(logits, small.images, tmp_path / "masks", "--with_argmax", "--batch_size", 2) == 2
    assert "this export was made for 1" in capsys.readouterr().err
    assert infer(logits, small.images, tmp_path / "masks") == 2
    assert "give --with_argmax" in capsys.readouterr().err


def test_two_images_with_the_same_name(small, dynamic, tmp_path, capsys):
    image = sorted(small.images.iterdir())[0]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(image, tmp_path / folder / "same.png")
    assert infer(dynamic, tmp_path, tmp_path / "masks") == 2
    assert "would both give same.png" in capsys.readouterr().err


def test_an_export_without_onnx(small, dynamic, tmp_path, capsys):
    shutil.copytree(dynamic, tmp_path / "ex")
    deploy = yaml.safe_load((tmp_path / "ex" / "deploy.yaml").read_text())
    del deploy["Deploy"]["onnx"]
    (tmp_path / "ex" / "deploy.yaml").write_text(yaml.safe_dump(deploy))
    assert infer(tmp_path / "ex", small.images, tmp_path / "masks", "--backend", "openvino") == 2
    assert "export with `bisenetv1 export --to onnx`" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_missing_runtime(dynamic, monkeypatch, backend):
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(InputError, match=rf"needs the package {backend}: pip install"):
        RUNTIMES[backend](Export(dynamic / "deploy.yaml"))


def test_openvino_threads_may_run_on_any_core(dynamic, monkeypatch):
    """Otherwise all single-threaded processes, as of `infer --ray`, would share the first core."""
    monkeypatch.setattr(machine, "cores", lambda: 8)
    runtime = RUNTIMES["openvino"](Export(dynamic / "deploy.yaml"), cpu_threads=1)
    list(runtime.stream([np.zeros((1, 3, 64, 96), "float32")]))
    for model in (runtime._model, runtime._for_many):
        assert model.get_property("ENABLE_CPU_PINNING") is False


_FREED_ELSEWHERE = """
import gc, os, signal, sys, threading
from bisenetv1_plugin.inference.exported_model import Export
from bisenetv1_plugin.inference.runtimes import RUNTIMES

runtimes = [RUNTIMES[sys.argv[2]](Export(sys.argv[1]))]
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
thread = threading.Thread(target=lambda: (runtimes.clear(), gc.collect()))
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("backend", RUNTIMES)
def test_signal_after_another_thread_has_freed_the_runtime(dynamic, python, backend):
    """OpenVINO's Core would leave the main thread an unmapped stack for signals, on processors with AMX."""
    done = python("-c", _FREED_ELSEWHERE, dynamic / "deploy.yaml", backend)
    assert done.returncode == 0 and done.stdout.endswith("handled\n"), done.stderr


_FORKED = """
import os, signal, sys
import numpy as np
from bisenetv1_plugin.inference.exported_model import Export
from bisenetv1_plugin.inference.runtimes import RUNTIMES

def run():
    runtime = RUNTIMES[sys.argv[2]](Export(sys.argv[1]))
    return runtime.run(np.zeros((1, 3, 64, 128), "float32"))

expected = run()
child = os.fork()
if not child:
    signal.alarm(60)
    os._exit(0 if (run() == expected).all() else 1)
assert os.waitpid(child, 0)[1] == 0
assert (run() == expected).all()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_openvino_in_a_forked_process(dynamic, python):
    """As in a `multiprocessing.Pool` of a program that has used OpenVINO before."""
    done = python("-c", _FORKED, dynamic / "deploy.yaml", "openvino")
    assert done.returncode == 0, done.stderr


_TOO_LARGE = """
import resource, sys
import numpy as np
from bisenetv1_plugin.inference.exported_model import Export
from bisenetv1_plugin.inference.engine import translate_errors
from bisenetv1_plugin.inference.runtimes import RUNTIMES, onnxruntime
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.machine import process_memory

runtime = RUNTIMES[sys.argv[2]](Export(sys.argv[1]), cpu_threads=2)
small, large = np.zeros((1, 3, 64, 64), "float32"), np.zeros((1, 3, 4800, 7200), "float32")
runs = {"one": runtime.run, "many": lambda images: list(runtime.stream([images]))}
for run in runs.values():
    run(small)
resource.setrlimit(resource.RLIMIT_AS, (process_memory("VmSize") + 900 * 2**20,) * 2)
for name, run in runs.items():
    try:
        with translate_errors():
            run(large)
    except InputError as error:
        print(name, error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", RUNTIMES)
def test_out_of_memory(dynamic, backend):
    """OpenVINO silently returns the masks of the previous picture; ONNX Runtime raises its own exception."""
    done = subprocess.run(
        [sys.executable, "-c", _TOO_LARGE, str(dynamic / "deploy.yaml"), backend], stdout=subprocess.PIPE, text=True
    )
    sentence = (
        "it needs more memory than there is: make it smaller, or slide a window over it: `--is_slide` of `bisenetv1 "
        "infer` and `bisenetv1 app`, `Segmenter(crop_size=, stride=)`."
    )
    assert [line for line in done.stdout.splitlines() if sentence in line] == [f"one {sentence}", f"many {sentence}"]


@pytest.mark.parametrize("shape", [(1,), (1, 4, 6), (2, 8, 12), (1, 5, 4, 6)])
def test_onnx_model_with_an_invalid_output(shape):
    class Session:
        def get_inputs(self):
            return [SimpleNamespace(name="x")]

        def run(self, names, inputs):
            return [np.zeros(shape, "int32")]

    with pytest.raises(RuntimeError, match=r"for \[1, 3, 8, 12\]: export again"):
        onnxruntime._run(Session(), np.zeros((1, 3, 8, 12), "float32"))
