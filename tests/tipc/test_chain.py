"""TIPC chains on a few generated scenes: an intact chain passes, and a sabotaged one fails."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import paddle
import pytest

from bisenetv1_plugin.tipc.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "test_tipc/configs/bisenetv1"
CPU = "train_linux_cpu_normal_normal_infer_python_linux_cpu.txt"

# Paddle's quantizer cannot read the programs of later versions.
PADDLE_QUANTIZES = paddle.__version__ < "3.2"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CONFIGS.is_dir(), reason="not in a checkout")]


def tipc(folder, *arguments, script="bisenetv1_plugin.tipc", **environment):
    """Run `python -m bisenetv1_plugin.tipc` in a folder with this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", script, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=env, text=True, capture_output=True, timeout=600)


def shortened(text):
    """Reduce the shipped file to a short training and one inference run."""
    return text.replace("_infer=40", "_infer=20").replace("--enable_mkldnn:True|False", "--enable_mkldnn:True")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    from bisenetv1_plugin.datasets.synthetic import write_scenes

    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, train=8, val=4, size=(160, 96))
    return folder


@pytest.fixture(scope="module")
def passed(tmp_path_factory, scenes):
    """The folder of a lite chain, and its completed process."""
    folder = tmp_path_factory.mktemp("chain")
    shutil.copytree(CONFIGS, folder / "test_tipc/configs/bisenetv1")
    config = folder / "test_tipc/configs/bisenetv1" / CPU
    config.write_text(shortened(config.read_text()))
    network = config.with_name("bisenetv1_tipc.yml")
    network.write_text(network.read_text().replace("[192, 128]", "[96, 64]"))
    done = tipc(folder, "prepare", config, "lite_train_lite_infer", "--data", scenes)
    assert done.returncode == 0 and "the data you named" in done.stdout, done.stdout + done.stderr
    done = tipc(folder, "run", config.relative_to(folder), "lite_train_lite_infer")
    return folder, done


LOGS = "test_tipc/output/bisenetv1/lite_train_lite_infer"


def test_lite_chain_passes(passed):
    folder, done = passed
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    log = (folder / LOGS / "results_python.log").read_text().splitlines()
    assert [" Run successfully with command - bisenetv1 - " in line for line in log] == [False, True, True, True, True]
    assert log[1].startswith("\033[33m Run successfully with command - ") and log[1].endswith(".log  \033[0m")
    verdict = json.loads((folder / LOGS / "verdict.json").read_text())
    (result,) = verdict["results"]
    assert verdict["passed"] and verdict["failed"] == [] and result["verdict"] == "parity" and result["reason"] == ""
    assert result["agreement"] >= 0.9999 and result["logits"] <= 1e-3
    assert result["class_iou"] == result["predict_class_iou"] and result["class_acc"] == result["predict_class_acc"]
    assert max(result["class_iou"]) > 0
    (picture,) = (folder / LOGS).glob("*.png")
    assert picture.stat().st_size > 1000


@pytest.fixture
def copied(passed, tmp_path):
    """A copy of the folder to modify, with its trained weights as those of `whole_infer`."""
    folder, _ = passed
    shutil.copytree(folder, tmp_path / "chain")
    weights = next((tmp_path / "chain").rglob("best_model/model.pdparams"))
    shutil.copyfile(weights, tmp_path / "chain/test_tipc/output/bisenetv1/model.pdparams")
    return tmp_path / "chain"


def whole_infer(folder):
    return tipc(folder, "run", f"test_tipc/configs/bisenetv1/{CPU}", "whole_infer")


def script(folder, name, code):
    """Write a script under the name of one of PaddleSeg's. The chain runs it, as in a checkout."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(code)


@pytest.mark.very_slow
def test_whole_infer_passes(copied):
    done = whole_infer(copied)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.very_slow
def test_wrong_weights_at_export(copied):
    """The weights have the right shapes, but are from another network."""
    script(
        copied,
        "tools/export.py",
        """
import sys, paddle
from bisenetv1_plugin.__main__ import main
arguments = [part for a in sys.argv[1:] for part in a.split("=")]
at = arguments.index("--model_path") + 1
state = paddle.load(arguments[at])
paddle.seed(7)
wrong = {name: value + 0.05 * paddle.randn(value.shape) if "head" in name else value for name, value in state.items()}
paddle.save(wrong, "wrong.pdparams")
arguments[at] = "wrong.pdparams"
sys.exit(main(["export", *arguments]))
""",
    )
    done = whole_infer(copied)
    assert done.returncode == 1
    assert "agree on only" in done.stdout and "TIPC verdict: FAIL" in done.stdout


@pytest.mark.very_slow
def test_masks_off_by_one_and_a_predictor_that_exits_with_0(copied):
    """Two runs of one export. deploy/python/infer.py exits with 0 if it cannot create its predictor."""
    config = copied / "test_tipc/configs/bisenetv1" / CPU
    config.write_text(config.read_text().replace("--enable_mkldnn:True", "--enable_mkldnn:True|False"))
    script(
        copied,
        "deploy/python/infer.py",
        """
import pathlib, sys
if "--enable_mkldnn=False" in sys.argv:
    print("no predictor")
    exit()
import numpy as np
from PIL import Image
from bisenetv1_plugin.__main__ import main
arguments = [a for a in sys.argv[1:] if not a.startswith(("--benchmark", "--model_name"))]
code = main(["infer", *arguments])
folder = [a.split("=")[1] for a in arguments if a.startswith("--save_dir")][0]
for path in pathlib.Path(folder).glob("*.png"):
    Image.fromarray(np.maximum(np.asarray(Image.open(path)), 1) - 1).save(path)
sys.exit(code)
""",
    )
    done = whole_infer(copied)
    assert done.returncode == 1 and "agree on only" in done.stdout
    assert done.stdout.count("Run failed with command - bisenetv1 - ") == 1
    assert "4 of 4 images have no usable mask" in done.stdout


@pytest.mark.very_slow
def test_truncated_parameters(copied):
    script(
        copied,
        "tools/export.py",
        """
import os, sys
from bisenetv1_plugin.__main__ import main
code = main(["export", *sys.argv[1:]])
folder = [a.split("=")[1] for a in sys.argv if a.startswith("--save_dir")][0]
os.truncate(os.path.join(folder, "model.pdiparams"), 100000)
sys.exit(code)
""",
    )
    done = whole_infer(copied)
    assert done.returncode == 1 and "Run failed" in done.stdout


@pytest.mark.very_slow
def test_missing_image(copied):
    images = copied / "test_tipc/data/bisenetv1/infer.txt"
    first = images.read_text().split()[0]
    images.write_text(images.read_text().replace(first, first + ".gone"))
    done = whole_infer(copied)
    assert done.returncode == 2 and ".gone, but there is no such file" in done.stderr


@pytest.mark.very_slow
def test_too_few_classes(copied):
    """Weights that predict one class everywhere always agree, which does not show parity."""
    path = copied / "test_tipc/output/bisenetv1/model.pdparams"
    state = paddle.load(str(path))
    name = next(name for name in state if name.startswith("heads.2") and name.endswith("conv_1x1.bias"))
    state[name] = state[name] + paddle.to_tensor(np.eye(1, state[name].shape[0], 3, dtype="float32")[0] * 1000)
    paddle.save(state, str(path))
    done = whole_infer(copied)
    assert done.returncode == 1 and "only 1 class was predicted" in done.stdout


def test_generated_scenes_without_network(tmp_path, monkeypatch, capsys):
    from bisenetv1_plugin.tipc.inputs import FOLDER, prepare
    from bisenetv1_plugin.tipc.params import Params

    def unreachable(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        prepare(Params(CONFIGS / CPU, "lite_train_lite_infer"))
        out = capsys.readouterr()
        # A Python older than 3.11.4 cannot unpack the archive safely, and does not ask for it.
        reason = "no network" if hasattr(tarfile, "data_filter") else "this Python's tarfile has no filter"
        assert "Data: generated street scenes; 5 classes" in out.out and reason in out.err
    assert len((FOLDER / "infer.txt").read_text().splitlines()) == 5
    assert "num_classes: 5" in (FOLDER / "data.yml").read_text()


def test_refusals(copied, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(copied)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    def refused(*arguments):
        """What it says, in this process."""
        monkeypatch.setattr(sys, "argv", ["tipc", *map(str, arguments)])
        capfd.readouterr()
        code, said = main(), "".join(capfd.readouterr())
        assert code == 2 and "Traceback" not in said, said
        return said

    config = copied / "test_tipc/configs/bisenetv1" / CPU
    before = sorted((copied / "test_tipc/output").rglob("*"))
    assert "None is not a TIPC mode" in refused("run", config)
    assert "the mode is dynamic_bs2_fp32_DP_N1C1" in refused("benchmark", config, "dynamic_bs2_fp32_DP_N1C1")
    for action, kind in (("ptq", "ptq_params"), ("onnx", "paddle2onnx_params")):
        assert f"is not a {kind} file" in refused(action, config)
    text = config.read_text()
    config.write_text(text.replace("infer_quant:False", "infer_quant:False|True"))
    assert "need equally many values" in refused("run", config, "whole_infer")
    config.write_text(text)
    assert "'half_infer' is not a TIPC mode" in refused("run", config, "half_infer")
    config.write_text("\n".join(text.splitlines()[:20]))
    assert "20 lines" in refused("run", config, "whole_infer")
    said = refused("prepare", CONFIGS / CPU, "whole_infer", "--data", tmp_path)
    assert "there is no list" in said and "train.txt" in said
    assert sorted((copied / "test_tipc/output").rglob("*")) == before


def test_chain_that_infers_nothing(copied):
    """The standard has no run in int8 of a network that is not quantized."""
    config = copied / "test_tipc/configs/bisenetv1" / CPU
    config.write_text(config.read_text().replace("--precision:fp32\n", "--precision:int8\n"))
    # What the export holds is not the question.
    script(
        copied,
        "tools/export.py",
        """
import os, sys
(folder,) = [a.split("=")[1] for a in sys.argv if a.startswith("--save_dir")]
os.makedirs(folder)
open(os.path.join(folder, "deploy.yaml"), "w").close()
""",
    )
    done = whole_infer(copied)
    assert done.returncode == 1 and "nothing was inferred" in done.stdout + done.stderr


def test_compare_results(passed, tmp_path):
    """A verdict equals itself. It differs if a class differs, a run is missing or the chain failed."""
    folder, _ = passed

    def compare(stored, log):
        for name, content in (("stored", stored), ("log", log)):
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        script = REPOSITORY / "test_tipc/compare_results.py"
        command = [sys.executable, script, "--gt_file", tmp_path / "stored.json", "--log_file", tmp_path / "log.json"]
        return subprocess.run(command, capture_output=True, text=True)

    verdict = json.loads((folder / LOGS / "verdict.json").read_text())
    assert compare(verdict, verdict).returncode == 0
    done = compare(verdict, {**verdict, "passed": False})
    assert done.returncode == 1 and "the chain did not pass" in done.stdout
    changed = json.loads(json.dumps(verdict))
    changed["results"][0]["class_iou"][2] += 0.01
    done = compare(changed, verdict)
    assert done.returncode == 1 and "class_iou of norm_train" in done.stdout
    changed["results"][0]["name"] = "another"
    assert "the stored run another is missing" in compare(changed, verdict).stdout
    done = compare({**verdict, "results": []}, verdict)
    assert done.returncode == 1 and "has no result" in done.stderr
    done = subprocess.run(
        [sys.executable, REPOSITORY / "test_tipc/compare_results.py", "--gt_file", "none", "--log_file", "none"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "none cannot be read" in done.stderr


@pytest.mark.very_slow
def test_ptq(copied, scenes):
    config = "test_tipc/configs/bisenetv1/train_ptq_infer_python.txt"
    weights = next(copied.rglob("best_model/model.pdparams"))
    done = tipc(copied, "prepare", config, "whole_infer", "--data", scenes, "--weights", weights)
    assert done.returncode == 0 and f"Weights: the ones you named, {weights}" in done.stdout, done.stderr
    done = tipc(copied, "ptq", config)
    folder = copied / "test_tipc/output/bisenetv1_ptq/whole_infer"
    if not (PADDLE_QUANTIZES or importlib.util.find_spec("nncf")):
        assert done.returncode == 1 and "Quantize with Paddle 2.6.2" in done.stderr
        return
    (result,) = json.loads((folder / "verdict.json").read_text())["results"]
    assert done.stdout.count("Run successfully") == 2, done.stdout[-3000:] + done.stderr[-3000:]
    assert result["agreement"] < 1 and result["logits"] is None, "8 bits, so not equal"
    # The network is hardly trained and may lose more than the verdict allows; see tests/inference/test_select.py.
    assert (done.returncode, result["verdict"]) in ((0, "parity"), (1, "no parity"))
    assert (result["verdict"] == "parity") <= (result["agreement"] >= 0.8)
    (copied / config).write_text((copied / config).read_text().replace("--precision int8", "--precision fp16"))
    done = tipc(copied, "ptq", config)
    assert done.returncode == 1 and "4 of 4 images have no usable mask" in done.stdout


@pytest.mark.very_slow
def test_benchmark(copied):
    config = f"test_tipc/configs/bisenetv1/{CPU}"
    done = tipc(copied, "benchmark", config, "benchmark_train", "dynamic_bs2_fp32_DP_N1C1")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    folder = copied / "test_tipc/output/bisenetv1/benchmark_train/dynamic_bs2_fp32_DP_N1C1"
    found = json.loads((folder / "speed.json").read_text())
    assert (found["batch_size"], found["device_num"], found["fp_item"]) == (2, "N1C1", "fp32") and found["ips"] > 0
    done = tipc(copied, "benchmark", config, "benchmark_train", "dynamic_bs3_fp32_DP_N1C1")
    assert done.returncode == 2 and "no case dynamic_bs3_fp32_DP_N1C1; it has dynamic_bs2_fp32_DP_N1C1" in done.stderr
    (copied / config).write_text((copied / config).read_text().replace("epoch:20", "epoch:6"))
    done = tipc(copied, "benchmark", config, "benchmark_train", "dynamic_bs2_fp32_DP_N1C1")
    assert done.returncode == 1 and "has no `ips:` after 2 lines" in done.stdout
    assert not (folder / "speed.json").exists()
    script(
        copied,
        "tools/train.py",
        """
import sys
from bisenetv1_plugin.__main__ import main
main(["train", *sys.argv[1:]])
sys.exit(3)
""",
    )
    done = tipc(copied, "benchmark", config, "benchmark_train", "dynamic_bs2_fp32_DP_N1C1")
    assert done.returncode == 1 and "speed of" not in done.stdout, "the weights are there, but it ended badly"
    done = tipc(copied, "run", config, "benchmark_train")
    assert done.returncode == 2 and "run by test_tipc/benchmark_train.sh" in done.stderr


def test_losses_of_to_static_are_compared_with_dygraph(tmp_path):
    """For `norm_train|to_static_train` in a file's trainers, with PaddleSeg's log lines."""
    from bisenetv1_plugin.tipc.chain import losses_differ

    def log(name, *losses):
        line = "2026-01-01 00:00:00 [INFO]\t[TRAIN] epoch: 1, iter: 5/20, loss: {}, lr: 0.004090, batch_cost: 3.0958\n"
        (tmp_path / name).write_text("loss:\n" + "".join(map(line.format, losses)))
        return tmp_path / name

    assert losses_differ(log("a", 8.8863, 7.5547), log("b", 8.8863, 7.5550)) is None
    assert "from line 2 on: 7.5547 and 7.6" in losses_differ(log("a", 8.8863, 7.5547), log("b", 8.8863, 7.6))
    assert "has 1 losses and" in losses_differ(log("a", 8.8863), log("b", 8.8863, 7.6))
    assert "has 0 losses and" in losses_differ(log("a"), log("b"))
    assert "from line 1 on: nan and nan" in losses_differ(log("a", "nan"), log("b", "nan"))


@pytest.mark.very_slow
def test_paddle2onnx(copied):
    config = "test_tipc/configs/bisenetv1/bisenetv1_model_linux_cpu_normal_normal_paddle2onnx_python_linux_cpu.txt"
    done = tipc(copied, "onnx", config)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    folder = copied / "test_tipc/output/bisenetv1/paddle2onnx_infer"
    (result,) = json.loads((folder / "verdict.json").read_text())["results"]
    assert result["agreement"] >= 0.9999 and (folder / "onnx.png").stat().st_size > 1000
    (copied / config).write_text((copied / config).read_text().replace("--to onnx", "--to paddle"))
    assert tipc(copied, "onnx", config).returncode == 1, "the model of the previous run was used"


@pytest.mark.very_slow
@pytest.mark.skipif(not shutil.which("cmake"), reason="no cmake")
def test_cpp(copied):
    """The C++ program passes, and fails with another mean in its model."""
    pytest.importorskip("paddle2onnx")
    config = copied / "test_tipc/configs/bisenetv1/bisenetv1_model_linux_cpu_normal_normal_infer_cpp_linux_cpu.txt"
    done = tipc(copied, "cpp", config)
    assert done.returncode == 2 and "there is no CMakeLists.txt in examples/cpp" in done.stderr
    text = config.read_text().replace("./examples/cpp", str(REPOSITORY / "examples/cpp"))
    config.write_text(text)
    done = tipc(copied, "cpp", config)
    folder = copied / "test_tipc/output/bisenetv1/infer_cpp"
    if "provide" in (folder / "configure.log").read_text():
        pytest.skip("CMake finds no OpenCV or yaml-cpp")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results = json.loads((folder / "verdict.json").read_text())["results"]
    assert len(results) == 2 and all(result["agreement"] >= 0.9999 for result in results)
    script(
        copied,
        "other_mean.py",
        """
import sys
import onnx
from bisenetv1_plugin.__main__ import main
code = main(sys.argv[1:])
path = [a.split("=")[1] for a in sys.argv if a.startswith("--save_dir")][0] + "/picture.onnx"
model = onnx.load(path)
(table,) = [value for value in model.graph.initializer if value.name == "picture.table"]
table.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(table) - 0.2, table.name))
onnx.save(model, path)
sys.exit(code)
""",
    )
    config.write_text(text.replace("export:bisenetv1 export", "export:other_mean.py export"))
    done = tipc(copied, "cpp", config)
    assert done.returncode == 1 and "agree on only" in done.stdout and "TIPC verdict: FAIL" in done.stdout


@pytest.mark.very_slow
def test_serving(copied):
    """The masks over HTTP pass, and fail if the server returns other masks."""
    for name in ("paddle2onnx", "fastapi_offline", "prometheus_client"):
        pytest.importorskip(name, reason="pip install '.[serve]'")
    config = copied / "test_tipc/configs/bisenetv1/bisenetv1_model_linux_cpu_normal_normal_serving_python_linux_cpu.txt"
    done = tipc(copied, "serving", config, BISENETV1_PLUGIN_TOKEN="of another server")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    folder = copied / "test_tipc/output/bisenetv1/serving_infer"
    results = json.loads((folder / "verdict.json").read_text())["results"]
    assert len(results) == 2 and all(result["agreement"] >= 0.9999 for result in results)
    assert "4 of 4 images were answered" in (folder / "serving_cpu_backend_openvino.log").read_text()
    script(
        copied,
        "other_masks.py",
        """
import sys
import numpy as np
from bisenetv1_plugin.serve import answers
right = answers._mask
def shifted(result, color):
    result.mask[:] = np.roll(result.mask, 3, axis=1)
    return right(result, color)
answers._mask = shifted
from bisenetv1_plugin.__main__ import main
sys.exit(main(sys.argv[1:]))
""",
    )
    text = config.read_text().replace("--backend:openvino|onnxruntime", "--backend:onnxruntime")
    config.write_text(text.replace("web_service:bisenetv1 serve", f"web_service:{sys.executable} other_masks.py serve"))
    done = tipc(copied, "serving", config)
    assert done.returncode == 1 and "TIPC verdict: FAIL" in done.stdout


def test_links_in_lists_are_not_resolved(tmp_path):
    """The mask is named after the link, not after its target."""
    from bisenetv1_plugin.tipc import inputs

    for name in ("real.png", "label.png"):
        (tmp_path / name).touch()
    (tmp_path / "street.png").symlink_to("real.png")
    (tmp_path / "list.txt").write_text("street.png label.png\n")
    assert inputs.read_list(tmp_path / "list.txt") == [(tmp_path / "street.png", tmp_path / "label.png")]
