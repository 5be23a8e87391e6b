"""`bisenetv1 doctor`: what it says of a healthy environment and of spoilt ones."""

import importlib.metadata
import json
import os
import re

import paddle
import pytest

from bisenetv1_plugin import compat, environment, libraries
from bisenetv1_plugin.cli import doctor as doctor_command


@pytest.fixture
def doctor(python):
    """Runs it with these environment variables; returns its exit code and its report."""

    def run(**environment):
        done = python("-m", "bisenetv1_plugin", "doctor", "--json", **environment)
        return done.returncode, json.loads(done.stdout)

    return run


@pytest.mark.slow
def test_healthy(doctor):
    code, report = doctor()
    assert (code, report["faults"]) == (0, [])
    assert report["versions"]["paddlepaddle"] == paddle.__version__
    assert report["components"]["BiSeNetV1"] == "bisenetv1_plugin.models.bisenetv1"
    states, guards = (
        {name: found["state"] for name, found in report[kind].items()} for kind in ("corrections", "guards")
    )
    assert list(states) == list(compat.CORRECTIONS) and list(guards) == list(compat.GUARDS)
    assert set(guards.values()) == {"waiting"}
    for name in [name for name, moment in compat.CORRECTIONS.items() if moment == compat.WITH_THE_NETWORK]:
        assert states.pop(name) in ("waiting", "not needed")
    assert set(states.values()) <= {"active", "not needed"}
    assert states["deploy_yaml"] == ("not needed" if paddle.__version__.startswith("2.") else "active")


@pytest.mark.slow
def test_defect_without_its_correction_is_a_fault(doctor):
    code, report = doctor(BISENETV1_PLUGIN_COMPAT="-scalar_areas, -nan_checkpoints, -guard")
    needed = report["corrections"]["scalar_areas"]["state"] == "switched off"
    assert (code, needed, len(report["faults"])) == (1, True, 3)
    assert "calculate_area" in report["faults"][0] and "unset BISENETV1_PLUGIN_COMPAT" in report["faults"][0]
    assert "The guard nan_checkpoints is switched off" in report["faults"][1]
    assert "has '-guard', which switches nothing off" in report["faults"][2]


def test_without_the_plugin(python):
    done = python("-m", "bisenetv1_plugin", "doctor", "--json", BISENETV1_PLUGIN=0)
    if done.returncode == 2:  # on Paddle 2.6 with a shared zlib, `import paddleseg` crashes
        assert "Unset BISENETV1_PLUGIN" in done.stderr
        return
    report = json.loads(done.stdout)
    assert done.returncode == 1 and report["components"]["BiSeNetV1"] == "not registered"
    assert "unset BISENETV1_PLUGIN" in report["faults"][0]


def test_paddleseg_that_cannot_be_imported(python, tmp_path):
    (tmp_path / "paddleseg.py").write_text("raise ImportError('numpy.core.multiarray failed to import')")
    done = python("-m", "bisenetv1_plugin", "doctor", PYTHONPATH=tmp_path)
    assert done.returncode == 2
    assert "numpy.core.multiarray failed to import" in done.stderr and "fresh environment" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="the locale C")
@pytest.mark.parametrize("command, module", [("configs", "argparse"), ("doctor", "paddleseg")])
def test_nothing_is_imported_from_the_current_folder(python, tmp_path, command, module):
    """Also after a restart for UTF-8 file names."""
    (tmp_path / f"{module}.py").write_text("open('imported', 'w').close()\nraise ImportError('mine')")
    code = "import sys; sys.path.remove(''); from bisenetv1_plugin.__main__ import main; sys.exit(main())"
    done = python("-c", code, command, LC_ALL="C", PYTHONUTF8=0, PYTHONCOERCECLOCALE=0)
    assert done.returncode == 0 and not (tmp_path / "imported").exists(), done.stderr


def test_paddle_partly_removed(python_without_paddle):
    """Its metadata is here, and a Paddle that was half removed is to be mended."""
    done = python_without_paddle("-m", "bisenetv1_plugin", "doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1 and (report["paddleseg"], report["device"], report["components"]) == (None, None, {})
    assert "pip install '.[cpu]'" in report["faults"][0]
    text = python_without_paddle("-m", "bisenetv1_plugin", "doctor")
    assert text.returncode == 1 and report["faults"][0] in text.stdout


@pytest.mark.parametrize(
    "versions, runtimes, note, fault",
    [
        ({}, {"openvino": ["CPU"]}, "serve and Segmenter run exported", None),
        ({}, {}, None, "pip install '.[deploy]'"),
        ({"paddlepaddle": "3.3.1"}, {"openvino": ["CPU"]}, None, "paddleseg is not installed"),
    ],
)
def test_without_paddle(versions, runtimes, note, fault):
    report = environment._without_paddle("paddleseg", versions, runtimes)
    for part, found in ((note, report["notes"]), (fault, report["faults"])):
        assert [part in sentence for sentence in found] == [True] * (part is not None)
    assert not any("pip install" in sentence for sentence in report["notes"])  # the verdict has it


def test_versions_of_the_servers(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.2")
    assert {"gradio", "fastapi", "uvicorn"} <= set(environment._versions())


@pytest.mark.parametrize(
    "python, words",
    [((3, 8), "'.[gpu]')."), ((3, 12), "'.[gpu]')."), ((3, 13), "'.[gpu]'), then pip install --no-deps paddleseg")],
)
def test_how_to_get_paddle(python, words):
    assert words in libraries._get_paddle(python) and "no wheel" not in libraries._get_paddle(python)
    assert "no wheel for this Python; with Python 3.8 to 3.12" in libraries._get_paddle((3, 14))


@pytest.mark.parametrize(
    "paddleseg, runtimes, broken, faults, training, running",
    [
        (None, ["openvino"], [], [], "not installed. pip install", "ready, with openvino."),
        (None, [], [], ["none"], "not installed. pip install", "not installed. pip install"),
        (None, [], ["openvino"], ["x"], "not installed. pip install", "problems with openvino."),
        ("there", [], [], [], "ready, on cpu.", "ready, with Paddle alone. For"),
        ("there", ["openvino"], [], ["x"], "problems, on cpu.", "ready, with openvino, Paddle."),
        (
            "there",
            ["openvino"],
            ["onnxruntime"],
            ["x"],
            "ready, on cpu.",
            "problems with onnxruntime; ready, with open",
        ),
    ],
)
def test_verdict(paddleseg, runtimes, broken, faults, training, running):
    empty = {name: {} for name in ("versions", "components", "corrections", "guards")}
    found = {"paddleseg": paddleseg, "device": "cpu", "runtimes": dict.fromkeys(runtimes, ["CPU"]), "notes": ["a note"]}
    lines = doctor_command._text({**empty, **found, "broken_runtimes": broken, "faults": faults}).splitlines()
    assert lines[0].startswith(f"Training and export: {training}") and lines[1].startswith(
        f"Running exports: {running}"
    )
    assert lines[2] == ("Problems: see below." if faults else "No problems found.")
    assert lines[4] == ("problems" if faults else "notes")


def test_component_that_is_not_registered_is_marked():
    empty = {name: {} for name in ("versions", "runtimes", "corrections", "guards")}
    found = {"paddleseg": "there", "device": "cpu", "broken_runtimes": [], "notes": [], "faults": ["x"]}
    components = {"BiSeNetV1": "not registered", "Xception39": "bisenetv1_plugin.backbones.xception"}
    text = doctor_command._text({**empty, **found, "components": components})
    assert "  BiSeNetV1 (not registered), Xception39\n" in text


def test_a_runtime_that_cannot_be_imported_is_a_fault(python, tmp_path):
    (tmp_path / "openvino.py").write_text("raise ImportError('libtbb.so.12: cannot open shared object file')")
    done = python("-c", "from bisenetv1_plugin import environment; print(environment._runtimes())")  # in that folder
    assert "libtbb.so.12" in done.stdout and "openvino': [" not in done.stdout, done.stderr


@pytest.mark.slow
def test_text(python):
    done = python("-m", "bisenetv1_plugin", "doctor")
    training, running, verdict = done.stdout.splitlines()[:3]
    assert done.returncode == 0 and training.startswith("Training and export: ready, on ")
    assert running.startswith("Running exports: ready, with ") and verdict == "No problems found."
    assert max(map(len, done.stdout.partition("\nversions\n")[2].splitlines())) < 120
    for name in compat.ENTRIES:
        assert name in done.stdout
    for entry_point in importlib.metadata.distribution("bisenetv1-plugin").entry_points:
        if entry_point.group.startswith("paddleseg."):
            assert re.search(rf"\b{entry_point.name}\b", done.stdout), entry_point.name
