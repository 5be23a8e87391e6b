"""`bisenetv1 verify` reports parity only if it holds and is shown."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
import yaml
from PIL import Image
from small_network import infer, run

from bisenetv1_plugin import Segmenter
from bisenetv1_plugin.cli import main
from bisenetv1_plugin.cli import verify as cli_verify
from bisenetv1_plugin.evaluation import parity, text_table
from bisenetv1_plugin.training import builder

pytestmark = pytest.mark.slow


@pytest.fixture
def verify(small, command):
    """Runs the command; returns its exit code and what it wrote."""

    def run(exported, *arguments, weights=small.weights, config=small.config):
        return command("verify", config, weights, exported, *arguments, "--device", "cpu", "--cpu_threads", 1)

    return run


def changed(small, tmp_path, **tensors):
    """Save weights with changed tensors in the principal head."""
    state = paddle.load(str(small.weights))
    for name, change in tensors.items():
        key = f"heads.2.conv_1x1.{name}"
        state[key] = paddle.to_tensor(change(state[key].numpy()))
    paddle.save(state, str(tmp_path / "changed.pdparams"))
    return tmp_path / "changed.pdparams"


def test_parity_in_every_runtime(small, dynamic, figures, python, tmp_path):
    """In a process of its own, as users run it."""
    paths = (small.config, small.weights, dynamic, "--json", tmp_path / "v.json", "--picture", tmp_path / "v.png")
    done = python("-m", "bisenetv1_plugin", "verify", *paths, "--device", "cpu", "--cpu_threads", 1)
    assert done.returncode == 0, done.stderr
    out = done.stdout
    found = json.loads((tmp_path / "v.json").read_text())
    assert [entry["name"] for entry in found["runtimes"]] == ["paddle fp32", "onnxruntime fp32", "openvino fp32"]
    assert found["images"] == 3 and found["predicted_classes"] >= 3

    # PaddleSeg's own evaluation, of the same weights on the same images
    miou, acc, class_iou, class_acc, _ = figures(small.config)
    for entry in found["runtimes"]:
        assert entry["verdict"] == "parity" and f"{entry['name']}: parity" in out
        assert entry["agreement"] >= 0.9999 and entry["mean_difference"] <= entry["max_difference"] < 1e-3
        assert abs(entry["miou"] - miou) < 1e-4 and abs(entry["acc"] - acc) < 1e-4
    paddle_inference = found["runtimes"][0]
    assert paddle_inference["class_iou"] == [round(float(value), 4) for value in class_iou]
    assert paddle_inference["class_acc"] == [round(float(value), 4) for value in class_acc]
    assert len(Image.open(tmp_path / "v.png").convert("RGB").getcolors(1000000)) > 50


def test_a_list_and_bf16(verify, small, logits, tmp_path):
    (tmp_path / "one.txt").write_text(
        " ".join(str(small.folder / "data" / part) for part in small.list.read_text().split()[:2]) + "\n"
    )
    verify(logits, tmp_path / "one.txt", "--precision", "fp32", "bf16", "--json", tmp_path / "v.json")
    found = json.loads((tmp_path / "v.json").read_text())
    exact = {entry["name"]: entry for entry in found["runtimes"] if "fp32" in entry["name"]}
    assert found["images"] == 1 and {entry["verdict"] for entry in exact.values()} == {"parity"}
    for entry in found["runtimes"]:
        if "bf16" in entry["name"]:
            near = abs(entry["miou"] - exact["paddle fp32"]["miou"]) <= 0.003
            assert entry["max_difference"] > 1e-4 and entry["verdict"] == ("parity" if near else "no parity")


def test_an_export_of_other_weights(verify, small, dynamic, tmp_path):
    weights = changed(small, tmp_path, bias=lambda bias: bias + np.linspace(0, 0.5, len(bias), dtype="float32"))
    done = verify(dynamic, weights=weights)
    assert done.returncode == 1, done.stderr
    assert "paddle fp32: no parity (prediction and inference agree on only" in done.stdout
    assert "fp32: parity" not in done.stdout


@pytest.mark.very_slow
def test_one_class_does_not_show_parity(verify, small, export, tmp_path):
    weights = changed(small, tmp_path, bias=lambda bias: bias + 1000 * np.eye(len(bias), dtype="float32")[0])
    exported = export("one_class", weights=weights)
    done = verify(exported, weights=weights)
    assert done.returncode == 1, done.stderr
    assert "paddle fp32: parity not shown (only 1 class was predicted, and uniform masks" in done.stdout
    assert "IoU, Acc of every class" in done.stdout and "IoU of" not in done.stdout


def test_rows_of_classes_that_differ():
    def scores(acc):
        return parity.Scores(0.5, 0.5, np.array([0.5, 0.4]), np.array([0.5, acc]))

    comparison = parity.Comparison()
    comparison.add(np.zeros((2, 1, 1), "float32"), np.zeros((1, 1), int), None)
    tables = []
    for acc in (0.60002, 0.61):
        verdict = parity.Verdict("onnxruntime fp32", comparison, scores(acc), 1.0, parity.PARITY, None)
        tables.append(cli_verify._table(SimpleNamespace(dygraph=scores(0.6), verdicts=[verdict]), ["road", "car"]))
    equal, unequal = ([line.split() for line in table.splitlines() if "of" in line.split()[:3]] for table in tables)
    assert equal[-1] == ["IoU,", "Acc", "of", "every", "class", "equal"]
    assert unequal[-1] == ["Acc", "of", "car", "0.6000", "0.6100"] and len(unequal) == len(equal)


@pytest.mark.very_slow
def test_parity_needs_logits(verify, dynamic, monkeypatch):
    monkeypatch.setitem(sys.modules, "paddle2onnx", None)
    done = verify(dynamic)
    assert done.returncode == 1, done.stderr
    assert "paddle fp32: parity\n" in done.stdout
    assert "onnxruntime fp32: parity not shown (there are no logits to compare)" in done.stdout


def test_refusals(verify, small, logits, tmp_path):
    values = yaml.safe_load(small.config.read_text())
    values["val_dataset"]["transforms"].insert(0, {"type": "Resize", "target_size": [48, 32]})
    (tmp_path / "resized.yml").write_text(yaml.safe_dump(values))
    (tmp_path / "list.txt").write_text("absent.png label.png\n")
    cases = [
        ((logits,), {"config": tmp_path / "resized.yml"}, "has other transforms than the val_dataset"),
        ((tmp_path,), {}, "deploy.yaml does not exist: name the folder that `bisenetv1 export` wrote"),
        ((logits, tmp_path / "absent.txt"), {}, "is not a file: name a list"),
        (
            (logits, tmp_path / "list.txt"),
            {},
            f"{tmp_path / 'absent.png'} with label {tmp_path / 'label.png'} cannot be read",
        ),
    ]
    for arguments, keywords, sentence in cases:
        done = verify(*arguments, **keywords)
        assert done.returncode == 2 and sentence in done.stderr


@pytest.mark.very_slow
def test_fixed_shape_that_does_not_fit(verify, small, export):
    done = verify(export("fixed", "--input_shape", 1, 3, 32, 32))
    assert done.returncode == 2 and "does not fit: the export takes 32 pixels of height, not 64" in done.stderr


@pytest.mark.parametrize(
    "shift, sentence", [(0.5, "differ on a pixel whose two best classes are 4.0e-01 apart (limit 0.001)"), (0.0, None)]
)
def test_clear_pixel_must_not_differ(shift, sentence):
    """One pixel in 40000, which the agreement alone would allow."""
    logits = np.zeros((3, 200, 200), "float32")
    logits[1] = 0.4
    runtime = logits.copy()
    runtime[2, 0, 0] = shift
    comparison = parity.Comparison()
    comparison.add(logits, runtime.argmax(axis=0))
    assert comparison.agreement >= parity.AGREEMENT
    assert comparison.fault() is None if sentence is None else sentence in comparison.fault()


def test_different_logits_are_a_fault_even_with_equal_masks():
    logits = np.random.RandomState(0).rand(3, 8, 8)
    comparison = parity.Comparison()
    comparison.add(logits, logits.argmax(axis=0), logits + 0.25)
    assert comparison.max_difference == pytest.approx(0.25) == comparison.mean_difference
    assert "logits differ by up to 2.5e-01" in comparison.fault()


@pytest.mark.parametrize("difference, is_fault", [(0.02, False), (0.06, True)])
def test_rounding_of_large_logits_is_no_fault(difference, is_fault):
    logits = np.random.RandomState(0).uniform(-5000, 5000, (3, 8, 8))
    comparison = parity.Comparison()
    comparison.add(logits, logits.argmax(axis=0), logits + difference)
    assert bool(comparison.fault()) is is_fault


@pytest.mark.parametrize("order", [(1, 1000), (1000, 1)])
def test_large_logits_of_an_image_do_not_excuse_another(order):
    """The limit is 0.01 for the image with logits up to 1000, and 0.001 for the one with logits up to 1."""
    small = np.eye(3)[:, np.arange(1200) % 3].reshape(3, 30, 40)
    images = {scale: scale * small for scale in order}
    comparison = parity.Comparison()
    for logits in images.values():
        comparison.add(logits, logits.argmax(axis=0), logits + 0.005)
    assert comparison.fault() == "their logits differ by up to 5.0e-03 (limit 0.001)."

    images[1][0, 0, 0] = images[1][1, 0, 0] + 0.005
    comparison = parity.Comparison()
    for scale, logits in images.items():
        mask = logits.argmax(axis=0)
        if scale == 1:
            mask[0, 0] = 1
        for _ in range(5):
            comparison.add(logits, logits.argmax(axis=0), logits)
        comparison.add(logits, mask, logits)
    assert comparison.agreement > parity.AGREEMENT
    assert comparison.fault() == "they differ on a pixel whose two best classes are 5.0e-03 apart (limit 0.001)."


@pytest.mark.parametrize("both", [True, False])
def test_nan_is_a_fault_even_with_equal_masks(both):
    logits = np.random.RandomState(0).rand(3, 8, 8)
    runtime = logits.copy()
    runtime[logits[:, 2, 3].argmax(), 2, 3] = np.nan
    comparison = parity.Comparison()
    comparison.add(runtime if both else logits, logits.argmax(axis=0), runtime)
    comparison.add(logits, logits.argmax(axis=0), logits)
    assert comparison.agreement == 1 and "some logits are NaN" in comparison.fault()


@pytest.mark.parametrize(
    "wrong, miou, sentence",
    [
        (0, 0.5, None),
        (5, 0.5, "agree on only 75.00% of the pixels"),  # equal mIoU alone proves nothing
        (0, 0.48, "mIoU differs by 0.0200, more than 0.01 for int8"),
    ],
)
def test_limits_of_reduced_precision(wrong, miou, sentence):
    logits = np.zeros((3, 4, 5), "float32")
    logits[1] = 1
    mask = np.ones(20, int)
    mask[:wrong] = 2
    comparison = parity.Comparison()
    comparison.add(logits, mask.reshape(4, 5))
    prediction, inference = (parity.Scores(each, 0.0, np.zeros(3), np.zeros(3)) for each in (0.5, miou))
    fault = comparison.reduced_fault("int8", prediction, inference)
    assert fault is None if sentence is None else sentence in fault


@pytest.mark.parametrize(
    "acc, sentence",
    [
        (0.370451, None),  # rounds to another fourth decimal than 0.370449
        (0.37051, "Acc of class 2 is 0.37045 in prediction and 0.37051 in inference"),
        (float("nan"), "Acc of class 2"),
    ],
)
def test_class_tolerance(acc, sentence):
    def scores(value):
        return parity.Scores(0.5, 0.5, np.full(3, 0.5), np.array([0.1, 0.2, value]))

    fault = parity.class_fault(scores(0.370449), scores(acc))
    assert fault is None if sentence is None else sentence in fault


class FixedAnswers(parity.Candidate):
    """A candidate with predefined answers."""

    def __init__(self, answers, **options):
        super().__init__("a run", 3, **options)
        self._answers = answers

    def answer(self, index, image, trans_info):
        if self._answers[index] is None:
            self.missing.append(f"{index}.png")
        return self._answers[index]


LOGITS = np.eye(3, dtype="float32")[np.arange(12).reshape(3, 4) % 3].transpose(2, 0, 1)
RIGHT = LOGITS.argmax(axis=0)


@pytest.mark.parametrize(
    "answer, options, verdict, reason",
    [
        (parity.Answer(LOGITS, LOGITS), {}, parity.PARITY, None),
        (parity.Answer(RIGHT, LOGITS), {}, parity.PARITY, None),
        (parity.Answer(RIGHT, None), {"needs_logits": False}, parity.PARITY, None),
        (parity.Answer(RIGHT, None), {}, parity.NOT_SHOWN, "there are no logits to compare."),
        (
            parity.Answer(RIGHT, LOGITS + 0.5),
            {},
            parity.NO_PARITY,
            "their logits differ by up to 5.0e-01 (limit 0.001).",
        ),
        (parity.Answer(RIGHT, LOGITS + 0.5), {"precision": "bf16"}, parity.PARITY, None),
        (parity.Answer(RIGHT[::-1], None), {}, parity.NO_PARITY, "agree on only 33.3333% of the pixels"),
        (None, {}, parity.NO_PARITY, "1 of 2 images have no usable mask: 0.png ..."),
    ],
)
def test_verdicts(answer, options, verdict, reason):
    run = FixedAnswers([answer, answer or parity.Answer(RIGHT, LOGITS)], **options)
    dygraph = parity.Tally(3)
    sample = {"label": RIGHT[np.newaxis], "trans_info": []}
    for index in range(2):
        dygraph.add(RIGHT, sample["label"])
        found = run.answer(index, None, [])
        if found:
            run.add(found, "none", LOGITS, sample, RIGHT)
    judged = run.judge(dygraph, 2)
    assert judged.verdict == verdict and (judged.reason is None if reason is None else reason in judged.reason)
    figures = judged.figures()
    assert (figures["name"], figures["verdict"], figures["reason"]) == ("a run", verdict, judged.reason)
    if answer is None:
        assert figures["miou"] is figures["agreement"] is figures["own_size"] is None and figures["class_iou"] == []
    else:
        assert figures["miou"] == judged.scores.miou and figures["agreement"] == pytest.approx(figures["own_size"])


@pytest.mark.parametrize("names", [["road", "sky"], ["道路", "天空的颜色和云的颜色和云的颜色"]])
def test_columns_are_aligned_with_wide_characters(names):
    rows = text_table.class_table(names, {"IoU": [0.5, 1]}).splitlines()
    widths = {sum(2 if ord(letter) > 0x2E80 else 1 for letter in row) for row in rows}
    assert len(rows) == 3 and len(widths) == 1 and rows[1].endswith("0.5000")


@pytest.fixture(scope="module")
def figures(small):
    """What PaddleSeg's `evaluate` returns with these options; computed once for each."""
    from paddleseg.core import evaluate

    known = {}

    def of(config, **test_config):
        key = (config, str(test_config))
        if key not in known:
            _, build, model = builder.open_network(config, small.weights)
            options = {"num_workers": 0, "print_detail": False, **test_config}
            known[key] = evaluate(model, build.val_dataset, **options)
        return known[key]

    return of


class TestOwnSize:
    """Compare with PaddleSeg's `evaluate` and `inference`, in the images' own size."""

    @pytest.fixture(scope="class")
    def resized(self, small, export, tmp_path_factory):
        """A configuration that halves both sides of images, and its exports by `output_op`."""
        folder = tmp_path_factory.mktemp("resized")
        values = yaml.safe_load(small.config.read_text())
        values["val_dataset"]["transforms"].insert(0, {"type": "Resize", "target_size": [48, 32]})
        (folder / "config.yml").write_text(yaml.safe_dump(values))

        def exported(op):
            if not (folder / op).exists():
                export(folder / op, "--output_op", op, "--to", "onnx", config=folder / "config.yml")
            return folder / op

        return SimpleNamespace(config=folder / "config.yml", exported=exported)

    @pytest.mark.parametrize("op", ["argmax", "softmax", pytest.param("none", marks=pytest.mark.very_slow)])
    def test_resized(self, verify, op, resized, figures, tmp_path):
        done = verify(resized.exported(op), "--json", tmp_path / "v.json", config=resized.config)
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads((tmp_path / "v.json").read_text())
        miou, acc, *_ = figures(resized.config)
        assert found["dygraph"]["miou"] == pytest.approx(miou, abs=1e-6)
        assert found["dygraph"]["acc"] == pytest.approx(acc, abs=1e-6)
        shares = [entry["own_size"] for entry in found["runtimes"]]
        if op == "argmax":
            assert max(shares) < 0.999 and "infer enlarges the mask" in done.stdout
            assert f"{1 - min(shares):.4%} of the pixels differ" in done.stdout
        else:
            assert min(shares) >= 0.9999 and found["otherwise"] is None
            assert all(abs(entry["miou"] - miou) < 1e-4 for entry in found["runtimes"])

    @pytest.mark.parametrize("op", ["softmax", pytest.param("none", marks=pytest.mark.very_slow)])
    def test_infer_equals_predict(self, op, small, resized, tmp_path):
        exported = resized.exported(op)
        assert infer(exported, small, tmp_path / "a", "--with_argmax", "--device", "cpu") == 0
        flags = ["--image_path", small.images, "--save_dir", tmp_path / "b", "--device", "cpu"]
        assert run("predict", "--config", resized.config, "--model_path", small.weights, *flags) == 0
        segmenter = Segmenter(exported)
        for path in small.images.iterdir():
            expected = np.asarray(Image.open(tmp_path / "b" / "pseudo_color_prediction" / path.name))
            assert (np.asarray(Image.open(tmp_path / "a" / path.name)) == expected).mean() > 0.9999
            result = segmenter(path, scores=True)
            assert (result.mask == expected).mean() > 0.9999
            assert np.array_equal(result.scores.argmax(axis=0), result.mask)

    @pytest.mark.parametrize("op", ["argmax", "softmax"])
    def test_windows(self, verify, op, resized, figures, tmp_path):
        """Compare with PaddleSeg's evaluation; the windows are set by flags, not by the configuration."""
        words = ("--is_slide", "--crop_size", 30, 20, "--stride", 20, 14, "--json", tmp_path / "v.json")
        done = verify(resized.exported(op), *words, config=resized.config)
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads((tmp_path / "v.json").read_text())
        miou, acc, *_ = figures(resized.config, is_slide=True, crop_size=[30, 20], stride=[20, 14])
        assert found["dygraph"]["miou"] == pytest.approx(miou, abs=1e-6)
        assert found["dygraph"]["acc"] == pytest.approx(acc, abs=1e-6)
        assert miou != pytest.approx(figures(resized.config)[0], abs=1e-4)
        names = {entry["name"].split()[0] for entry in found["runtimes"]}
        assert names >= {"onnxruntime", "openvino"} and ("paddle" in names) == (op == "softmax")
        assert op == "softmax" or "paddle fp32 is not compared" in done.stderr
        for entry in found["runtimes"]:
            assert entry["own_size"] >= 0.9999 and entry["max_difference"] < 1e-3 and entry["verdict"] == "parity"
        assert found["otherwise"] is None

    def test_sliding(self, verify, small, logits, figures, tmp_path):
        windows = {"is_slide": True, "crop_size": [48, 32], "stride": [32, 24]}
        values = {**yaml.safe_load(small.config.read_text()), "test_config": windows}
        (tmp_path / "config.yml").write_text(yaml.safe_dump(values))
        done = verify(logits, "--json", tmp_path / "v.json", config=tmp_path / "config.yml")
        found = json.loads((tmp_path / "v.json").read_text())
        miou, acc, *_ = figures(small.config, **windows)
        assert found["dygraph"]["miou"] == pytest.approx(miou, abs=1e-6)
        assert done.returncode == 0 and "val and predict slide a window" in done.stdout
        assert all(entry["own_size"] < 0.99 for entry in found["runtimes"])


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"num_workers": 2}, "test_config.num_workers is unknown to PaddleSeg's evaluation"),
        ({"aug_eval": True, "scales": 1}, None),
        ({"aug_pred": False, "custom_color": [0, 0, 0, 9, 9, 9]}, None),
    ],
)
def test_difference_by_the_test_config(values, sentence, small, tmp_path, capsys):
    config = tmp_path / "config.yml"
    config.write_text(yaml.safe_dump({**yaml.safe_load(small.config.read_text()), "test_config": values}))
    flags = ["--config", str(config), "--model_path", str(small.weights), "--device", "cpu"]
    images = ["--image_path", str(small.images), "--save_dir", str(tmp_path / "out")]
    for argv in (["val", *flags], ["predict", *flags, *images]):
        assert main(argv) == (2 if sentence else 0)
        assert not sentence or sentence in capsys.readouterr().err
