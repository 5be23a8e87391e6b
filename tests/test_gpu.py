"""A Paddle for GPUs, simulated: what it is missing, the GPU that it has no kernels for, and what the commands say."""

import ctypes
from types import SimpleNamespace

import paddle
import pytest

from bisenetv1_plugin import environment, gpu
from bisenetv1_plugin.cli import main, terminal
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.runtimes import select

WHEEL = gpu.PaddleGpu("2.6.2", "11.8", "8.6.0")
ALL = ("libcuda.so.1", "libcublas.so", "libcudnn.so")
ADA = WHEEL._replace(gpu="NVIDIA GeForce RTX 4090", capability=89, kernels=(61, 70, 75, 80, 86))
HOPPER = ADA._replace(gpu="NVIDIA H100", capability=90)


def find(monkeypatch, found):
    monkeypatch.setattr(gpu, "probe", lambda paddle: found)
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: found is not None)


def paddle_for_gpus(version, gpus=(), **more):
    """As much of Paddle as `probe` asks."""
    return SimpleNamespace(
        __version__=version,
        version=SimpleNamespace(major=version[0], cuda=lambda: "11.8", cudnn=lambda: "8.6.0", **more),
        is_compiled_with_cuda=lambda: True,
        is_compiled_with_rocm=lambda: False,
        device=SimpleNamespace(
            cuda=SimpleNamespace(device_count=lambda: len(gpus), get_device_properties=lambda number: gpus[number])
        ),
    )


def test_this_paddle_is_for_the_cpu():
    assert gpu.probe(paddle) is None and gpu.obstacle(paddle) is None and not gpu.can_run(paddle)


@pytest.mark.parametrize(
    "version, here, missing", [("2.6.2", (), ALL), ("2.6.2", ALL[:2], ALL[2:]), ("3.3.1", (), ALL[:1])]
)
def test_probe_libraries(version, here, missing, monkeypatch):
    def load(path):
        if path not in here:
            raise OSError(f"{path}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert gpu.probe(paddle_for_gpus(version)).missing == missing


def test_probe_looks_where_paddle_looks(monkeypatch, tmp_path):
    tried = []

    def load(path):
        tried.append(path)
        raise OSError(path)

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setenv("FLAGS_cudnn_dir", str(tmp_path))
    assert not gpu.can_open("libcudnn.so")
    assert tried == ["libcudnn.so", f"{tmp_path}/libcudnn.so", "/usr/local/cuda/lib64/libcudnn.so"]


@pytest.mark.parametrize(
    "version, more, kernels",
    [("2.6.2", {}, (61, 70, 75, 80, 86)), ("2.6.1", {}, ()), ("3.3.1", {"cuda_archs": lambda: [75, "90a"]}, (75, 90))],
)
def test_probe_gpu(version, more, kernels, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda path: None)
    card = SimpleNamespace(name="NVIDIA A10", major=8, minor=6)
    found = gpu.probe(paddle_for_gpus(version, [card], **more))
    assert (found.missing, found.gpu, found.capability, found.kernels) == ((), "NVIDIA A10", 86, kernels)


@pytest.mark.parametrize(
    "found, words",
    [
        (
            WHEEL._replace(missing=ALL),
            "does not find NVIDIA's driver (libcuda.so.1, of the package cuda-drivers), CUDA 11.8 (libcublas.so, "
            "of the package cuda-libraries-dev-11-8) and cuDNN 8 (libcudnn.so, of the package "
            "libcudnn8-dev).",
        ),
        (WHEEL._replace(missing=ALL[2:]), "does not find cuDNN 8 (libcudnn.so, of the package libcudnn8-dev)."),
        (WHEEL, "finds no GPU: there is none, CUDA_VISIBLE_DEVICES hides it, or the driver is older than CUDA 11.8"),
        (HOPPER, "none for this NVIDIA H100 (sm_90), which is newer: see Paddle's installation page"),
        (ADA._replace(gpu="Quadro K620", capability=50), "sm_80, sm_86, and none for this Quadro K620 (sm_50)."),
        (ADA._replace(capability=60), "none for this NVIDIA GeForce RTX 4090 (sm_60)."),
        (ADA, None),
        (HOPPER._replace(kernels=()), None),
    ],
)
def test_obstacle(found, words, monkeypatch):
    find(monkeypatch, found)
    sentence = gpu.obstacle(paddle)
    assert sentence is None if words is None else sentence.startswith("Paddle 2.6.2 for GPUs ") and words in sentence
    assert gpu.can_run(paddle) == (words is None)


@pytest.mark.parametrize("found", [WHEEL._replace(missing=ALL), HOPPER])
def test_commands(found, monkeypatch, capsys):
    """All that use Paddle go through here."""
    find(monkeypatch, found)
    sentence = gpu.obstacle(paddle)
    assert terminal.load_paddle() == "cpu"
    assert capsys.readouterr().err == f"bisenetv1: {sentence} The CPU is used instead.\n"
    with pytest.raises(InputError) as refusal:
        terminal.load_paddle("gpu")
    assert str(refusal.value) == f"device gpu: {sentence} Choose device cpu."
    assert [terminal.load_paddle(device) for device in ("cpu", "xpu")] == ["cpu", "xpu"]
    find(monkeypatch, ADA)
    assert [terminal.load_paddle(device) for device in (None, "gpu")] == ["gpu", "gpu"]
    find(monkeypatch, None)
    assert [terminal.load_paddle(device) for device in (None, "gpu")] == ["gpu", "gpu"]  # as upstream: then the CPU
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "command", ["train", "val --model_path w", "predict --model_path w --image_path p", "export --model_path w"]
)
def test_device_gpu_is_refused_before_anything_is_read(command, monkeypatch, capsys):
    find(monkeypatch, HOPPER)
    name, *flags = command.split()
    assert main([name, "--config", "none.yml", *flags, "--device", "gpu"]) == 2
    assert "device gpu: Paddle 2.6.2 for GPUs has kernels for sm_61" in capsys.readouterr().err
    assert main([name, "--config", "none.yml", *flags]) == 2
    assert "The CPU is used instead.\nbisenetv1: there is no configuration" in capsys.readouterr().err


def test_doctor(monkeypatch):
    find(monkeypatch, HOPPER)
    (note,) = [note for note in environment._notes(paddle) if "for GPUs" in note]
    assert note == f"{gpu.obstacle(paddle)} The CPU is used instead."


def test_the_default_of_infer(monkeypatch):
    monkeypatch.setattr(select, "_installed", lambda distribution: distribution == "paddlepaddle-gpu")
    for found, device in ((HOPPER, "cpu"), (WHEEL, "cpu"), (ADA, "gpu")):
        find(monkeypatch, found)
        assert select.default_device() == device
