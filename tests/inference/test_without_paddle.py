"""Running an export needs neither Paddle nor PaddleSeg, and imports neither even if they are installed.

In an environment that has them, modules of their names that refuse to be imported stand in front of them.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from bisenetv1_plugin.cli import main

TESTS = Path(__file__).resolve().parents[1]
PACKAGE = TESTS.parent / "bisenetv1_plugin"
CHECK = Path(__file__).with_name("compare_masks.py")
# Pythons of other environments, without Paddle, that have the extra `deploy`; .ci/run makes them.
OTHERS = [name for name in os.environ.get("PYTHONS_WITHOUT_PADDLE", "").split(os.pathsep) if name]

ROOMS = ("inference", "drawing", "app")
MODULES = sorted(
    ".".join(("bisenetv1_plugin", *path.relative_to(PACKAGE).with_suffix("").parts))
    for room in ROOMS
    for path in (PACKAGE / room).rglob("*.py")
    if path.name != "__init__.py" and path != PACKAGE / "inference" / "runtimes" / "paddle.py"
)
REFUSE = """
import sys

class Refuse:
    def find_spec(name, path=None, target=None):
        if name in ("paddle", "paddleseg"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse)
"""
IMPORTED = """
import sys
print(sorted({name.partition('.')[0] for name in sys.modules} & {'paddle', 'paddleseg'}))
"""


@pytest.fixture(scope="module")
def masks(dynamic, small, tmp_path_factory):
    """The masks of the small network's images, in this environment: a folder for each runtime."""
    folder = tmp_path_factory.mktemp("masks")
    for runtime in ("onnxruntime", "openvino"):
        command = ["infer", "--config", dynamic / "deploy.yaml", "--image_path", small.images, "--backend", runtime]
        assert main([str(word) for word in (*command, "--save_dir", folder / runtime)]) == 0
    return folder


def test_modules_import_without_paddle(python):
    lines = [f"import {module}" for module in MODULES if not _is_of_the_page(module)]
    done = python("-c", "\n".join([REFUSE, *lines]))
    assert done.returncode == 0, done.stderr


def test_the_page_imports_without_paddle(python):
    pytest.importorskip("gradio", reason="pip install '.[app]'")
    done = python("-c", "\n".join([REFUSE, *(f"import {module}" for module in MODULES if _is_of_the_page(module))]))
    assert done.returncode == 0, done.stderr


def _is_of_the_page(module):
    return module.startswith("bisenetv1_plugin.app")


@pytest.mark.slow
def test_masks_are_the_same(python_without_paddle, dynamic, small, masks):
    done = python_without_paddle(CHECK, dynamic / "deploy.yaml", small.images, masks)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("pixels equal") == 4 and "no Paddle" in done.stdout


@pytest.mark.slow
def test_paddle_is_not_imported_where_it_is_installed(python, dynamic, small, masks):
    done = python(CHECK, dynamic / "deploy.yaml", small.images, masks)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no Paddle" in done.stdout


def test_the_runtime_is_chosen_without_paddle(python, dynamic, small):
    """Without --backend and with Paddle installed: the choice must not import it."""
    code = (
        f"from bisenetv1_plugin import Segmenter\nsegmenter = Segmenter({str(dynamic)!r})\n"
        f"segmenter.__call__({str(next(small.images.iterdir()))!r}).overlay()\nprint(segmenter.name)"
    )
    done = python("-c", code + IMPORTED)
    assert done.returncode == 0, done.stderr
    name, imported = done.stdout.splitlines()[-2:]
    assert name.split()[0] in ("openvino", "onnxruntime") and imported == "[]"


@pytest.mark.very_slow
@pytest.mark.parametrize("interpreter", OTHERS or [None])
def test_masks_in_other_pythons(interpreter, python, dynamic, small, masks):
    if interpreter is None:
        pytest.skip("PYTHONS_WITHOUT_PADDLE names no other Python")
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [interpreter, CHECK, dynamic / "deploy.yaml", small.images, masks]
    done = subprocess.run([str(word) for word in command], env=env, capture_output=True, text=True, timeout=300)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


# Commands that need Paddle


CONFIG, WEIGHTS, OUT = "CONFIG", "WEIGHTS", "OUT"


COMMANDS = [
    ("train", "--config", CONFIG, "--save_dir", OUT),
    ("val", "--config", CONFIG, "--model_path", WEIGHTS),
    ("predict", "--config", CONFIG, "--model_path", WEIGHTS, "--image_path", "IMAGES", "--save_dir", OUT),
    ("export", "--config", CONFIG, "--model_path", WEIGHTS, "--save_dir", OUT),
    ("quantize", "--config", CONFIG, "--model_path", WEIGHTS, "--save_dir", OUT),
    ("verify", CONFIG, WEIGHTS, "EXPORT"),
    ("demo", "--save_dir", OUT),
    ("convert", WEIGHTS, "weights.pth", "--to", "torch"),
    ("data", "check", CONFIG),
    ("benchmark",),
    ("benchmark", "loss"),
]
RUN_ALL = """
import contextlib, io, json, sys
from bisenetv1_plugin.cli import main

answers = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(words)
    answers.append((code, said.getvalue()))
print(json.dumps(answers))
"""


def test_commands_say_what_is_missing(python_without_paddle, small, dynamic, tmp_path):
    places = {CONFIG: small.config, WEIGHTS: small.weights, OUT: "out", "IMAGES": small.images, "EXPORT": dynamic}
    commands = [[str(places.get(word, word)) for word in command] for command in COMMANDS]
    done = python_without_paddle("-c", RUN_ALL, json.dumps(commands))
    assert done.returncode == 0 and not done.stderr, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert len(answers) == len(COMMANDS)
    for command, (code, said) in zip(COMMANDS, answers):
        assert code == 2, (command, said)
        (sentence,) = [line for line in said.splitlines() if line]
        assert "needs Paddle and PaddleSeg" in sentence and "pip install '.[cpu]'" in sentence, (command, said)
    assert not [path for path in tmp_path.iterdir() if path.name != "out" or list(path.iterdir())]


def test_from_weights_says_what_is_missing(python_without_paddle, small):
    code = (
        "from bisenetv1_plugin import Segmenter, errors\n"
        f"try:\n    Segmenter.from_weights({str(small.config)!r}, {str(small.weights)!r})\n"
        "except errors.InputError as error:\n    print(error)"
    )
    done = python_without_paddle("-c", code)
    assert "pip install '.[cpu]'" in done.stdout, done.stderr


@pytest.mark.parametrize("words", [("--help",), ("configs",), ("infer", "--help"), ("--version",)], ids=" ".join)
def test_the_rest_works(python_without_paddle, words):
    done = python_without_paddle("-m", "bisenetv1_plugin", *words)
    assert done.returncode == 0 and done.stdout, done.stderr


def test_run_works(python_without_paddle, tmp_path):
    (tmp_path / "script.py").write_text("import sys; print(sys.argv[1:])")
    done = python_without_paddle("-m", "bisenetv1_plugin", "run", "script.py", "--flag")
    assert (done.returncode, done.stdout) == (0, "['--flag']\n"), done.stderr


@pytest.mark.slow
def test_benchmark_of_an_export(python_without_paddle, dynamic):
    done = python_without_paddle("-m", "bisenetv1_plugin", "benchmark", dynamic, "--sizes", "96x64", "--turns", 1)
    assert done.returncode == 0 and "openvino" in done.stdout, done.stdout + done.stderr
