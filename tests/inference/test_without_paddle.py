"""Without Paddle and PaddleSeg: which commands work, and what the others say."""

import pytest

CONFIG, WEIGHTS, OUT = "CONFIG", "WEIGHTS", "OUT"


@pytest.mark.parametrize(
    "command",
    [
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
    ],
    ids=lambda command: " ".join(command[:2]) if command[0] in ("data", "benchmark") else command[0],
)
def test_commands_say_what_is_missing(python_without_paddle, small, dynamic, tmp_path, command):
    places = {CONFIG: small.config, WEIGHTS: small.weights, OUT: "out", "IMAGES": small.images, "EXPORT": dynamic}
    done = python_without_paddle("-m", "bisenetv1_plugin", *(places.get(word, word) for word in command))
    assert done.returncode == 2, done.stdout + done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line]
    assert "needs Paddle and PaddleSeg" in sentence and "pip install 'bisenetv1-plugin[cpu]'" in sentence
    assert not [path for path in tmp_path.iterdir() if path.name != "out" or list(path.iterdir())]


@pytest.mark.parametrize("words", [("--help",), ("configs",), ("infer", "--help"), ("--version",)], ids=" ".join)
def test_the_rest_works(python_without_paddle, words):
    done = python_without_paddle("-m", "bisenetv1_plugin", *words)
    assert done.returncode == 0 and done.stdout, done.stderr


def test_run_works(python_without_paddle, tmp_path):
    (tmp_path / "script.py").write_text("import sys; print(sys.argv[1:])")
    done = python_without_paddle("-m", "bisenetv1_plugin", "run", "script.py", "--flag")
    assert (done.returncode, done.stdout) == (0, "['--flag']\n"), done.stderr
