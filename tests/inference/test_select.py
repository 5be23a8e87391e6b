"""Selection of the runtime: by default the fastest one with correct masks."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from small_network import infer, masks, run

from bisenetv1_plugin.cli import benchmark
from bisenetv1_plugin.inference import probe
from bisenetv1_plugin.inference.exported_model import Export
from bisenetv1_plugin.inference.runtimes import RUNTIMES, select
from bisenetv1_plugin.machine import cores


class Wrong:
    """A runtime that returns class 0 for every pixel."""

    def __init__(self, export, device, cpu_threads, precision, **_):
        pass

    def run(self, images):
        return np.zeros((len(images), *images.shape[2:]), "int32")

    def stream(self, inputs):
        return map(self.run, inputs)


@pytest.mark.slow
def test_default_runtime_is_logged_and_correct(small, dynamic, tmp_path, capsys):
    assert infer(dynamic, small, tmp_path / "auto", "--device", "cpu", "--cpu_threads", 1) == 0
    assert "openvino fp32, 1 threads" in capsys.readouterr().out
    assert infer(dynamic, small, tmp_path / "paddle", "--device", "cpu", "--enable_mkldnn", "False") == 0
    assert "paddle fp32" in capsys.readouterr().out, "a flag that only Paddle has asks for Paddle"
    found, expected = masks(tmp_path / "auto"), masks(tmp_path / "paddle")
    assert len(expected) == 3 and all((found[name] == expected[name]).mean() >= 0.9999 for name in expected)


def test_incorrect_runtime_is_skipped(small, dynamic, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(RUNTIMES, "openvino", Wrong)
    assert infer(dynamic, small, tmp_path, "--device", "cpu") == 0
    out = capsys.readouterr().out
    assert (
        "not openvino: its mask of the export's probe picture is not the network's." in out
        and "onnxruntime fp32" in out
    )
    assert {len(np.unique(mask)) for mask in masks(tmp_path).values()} != {1}


def test_paddle_is_the_fallback(small, dynamic, tmp_path, capsys, monkeypatch):
    for name in ("openvino", "onnxruntime"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    assert infer(dynamic, small, tmp_path, "--device", "cpu") == 0
    out = capsys.readouterr().out
    assert "not openvino: " in out and "needs the package openvino" in out and "paddle fp32" in out


@pytest.mark.parametrize("backend", RUNTIMES)
def test_probe_has_the_mask_of_the_network(dynamic, logits, backend):
    for folder in (dynamic, logits):
        assert probe.is_right(RUNTIMES[backend](Export(folder / "deploy.yaml")), folder) is True


def test_export_of_upstream_has_no_probe(dynamic, tmp_path):
    assert probe.is_right(Wrong(None, None, None, None), tmp_path) is None


@pytest.mark.parametrize("backend", RUNTIMES)
def test_stream_equals_run(dynamic, backend):
    """In order, and no output overwrites another."""
    runtime = RUNTIMES[backend](Export(dynamic / "deploy.yaml"), cpu_threads=2)
    random = np.random.RandomState(0)
    sizes = [(64, 96), (64, 96), (32, 64), (64, 96), (96, 64), (64, 96), (64, 96)]
    images = [random.uniform(-1, 1, (1, 3, *size)).astype("float32") for size in sizes]
    found = list(runtime.stream(iter(images)))
    assert len(found) == len(images)
    for image, output in zip(images, found):
        assert (output == runtime.run(image)).all()


def test_precision_auto_checks_bf16(small, dynamic, tmp_path, capsys, monkeypatch):
    assert infer(dynamic, small, tmp_path / "a", "--device", "cpu", "--precision", "auto") == 0
    out = capsys.readouterr().out
    assert "bf16, " in out and "of the pixels of 3 images equal" in out or "fp32" in out
    monkeypatch.setattr(select, "AGREEMENT", 1.01)  # never reached
    assert infer(dynamic, small, tmp_path / "b", "--device", "cpu", "--precision", "auto") == 0
    assert " fp32, " in capsys.readouterr().out


@pytest.mark.very_slow
def test_benchmark_of_the_installed_runtimes(dynamic, tmp_path, capfd):
    flags = ["--sizes", "96x64", "--turns", "2", "--json", tmp_path / "b.json", "--picture", tmp_path / "b.png"]
    assert run("benchmark", dynamic, *flags) == 0
    out = capfd.readouterr().out
    assert all(line.startswith("| ") or line.startswith("|---") for line in out.splitlines()), "nothing but the table"
    measured = json.loads((tmp_path / "b.json").read_text())
    assert [entry["name"] for entry in measured][:1] == [f"{dynamic}, paddle"]
    for entry in measured:
        assert entry["fault"] or (len(entry["milliseconds"]) == 4 and entry["memory_bytes"] > 1e8)
        assert entry["fault"] or f"| {entry['name']}, 96x64, {cores()} threads |" in out
        assert entry["fault"] or len(entry["images_per_second"]) == 2
    assert sum(not entry["fault"] for entry in measured) >= 4
    assert Image.open(tmp_path / "b.png").width > 500


@pytest.mark.slow
def test_benchmark_without_a_runtime_fails(dynamic, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(benchmark, "_RUNTIMES", {"openvino": benchmark._RUNTIMES["openvino"]})  # a process for each
    shutil.copytree(dynamic, tmp_path / "spoilt")
    for name in ("model.onnx", "model.json", "model.pdmodel"):
        if (tmp_path / "spoilt" / name).exists():
            (tmp_path / "spoilt" / name).write_bytes(b"spoilt")
    picture = tmp_path / "b.png"
    assert run("benchmark", tmp_path / "spoilt", "--sizes", "96x64", "--turns", "1", "--picture", picture) == 1
    said = capfd.readouterr()
    assert "openvino is not measured" in said.err and "| what |" not in said.out and not picture.exists()


@pytest.mark.parametrize(
    ("asked_for", "precision", "backend"),
    [
        ("auto", "bf16", "openvino"),
        ("auto", "int8", "openvino"),
        ("auto", "auto", "openvino"),
        ("auto", None, "paddle"),
        ("onnxruntime", None, "onnxruntime"),
    ],
)
def test_cpu_only_precision_on_a_machine_with_gpu(dynamic, monkeypatch, asked_for, precision, backend):
    monkeypatch.setattr(select, "default_device", lambda backend: "cpu" if backend == "onnxruntime" else "gpu")
    asked = []

    def made(name):
        def make(export, device, cpu_threads, precision, **_):
            asked.append((name, device))
            return Wrong(export, device, cpu_threads, precision)

        return make

    for name in ("openvino", "onnxruntime", "paddle"):
        monkeypatch.setitem(RUNTIMES, name, made(name))
    monkeypatch.setattr(probe, "is_right", lambda *_: True)
    image = np.zeros((1, 3, 32, 32), "float32")
    export = Export(str(dynamic / "deploy.yaml"))
    name = select.select(export, asked_for, precision=precision, images=lambda: [image]).name
    assert asked[0] == (backend, "gpu" if backend == "paddle" else "cpu")
    assert name.startswith(backend) and ("on the GPU" in name) == (backend == "paddle")


def test_runtime_that_fails_at_its_first_run_is_skipped(small, dynamic, tmp_path, capsys, monkeypatch):
    class Failing(Wrong):
        def run(self, images):
            raise RuntimeError("an operator that it does not know")

    monkeypatch.setitem(RUNTIMES, "openvino", Failing)
    assert infer(dynamic, small, tmp_path, "--device", "cpu") == 0
    out = capsys.readouterr().out
    assert "not openvino: an operator that it does not know" in out and "onnxruntime fp32" in out


def test_damaged_probe(small, dynamic, tmp_path, capsys):
    damaged = tmp_path / "damaged"
    shutil.copytree(dynamic, damaged)
    (damaged / probe.NAME).write_bytes((dynamic / probe.NAME).read_bytes()[:100])
    assert infer(damaged, small, tmp_path / "out", "--device", "cpu") == 2
    assert f"{damaged / probe.NAME} cannot be read" in capsys.readouterr().err
