"""The TIPC parser; it is compared with the standard's shell functions if there is a PaddleSeg checkout."""

import os
import subprocess
from pathlib import Path

import pytest

from bisenetv1_plugin.tipc.params import BENCHMARK, LINES, MODES, Params, ShortParams, TipcError

CONFIGS = Path(__file__).resolve().parents[2] / "test_tipc/configs/bisenetv1"
CPU = CONFIGS / "train_linux_cpu_normal_normal_infer_python_linux_cpu.txt"
PTQ = CONFIGS / "train_ptq_infer_python.txt"  # has the shorter form


def test_params():
    params = Params(CPU, "lite_train_lite_infer")
    assert params.value("model_name") == "bisenetv1"
    assert params.values("mkldnn") == ["True", "False"]
    assert params.mode_value("iters") == "40"
    assert params.option("train_batch_size", params.mode_value("train_batch_size")) == "--batch_size=4"
    assert params.option("precision") == params.option("pretrained") == params.option("train_option") == ""
    assert Params(CPU, "whole_infer").mode_value("iters") == ""


def test_short_params():
    params = ShortParams(PTQ, "ptq_params", ["model_name", "python", "device", "weights"])
    assert params["model_name"] == "bisenetv1_ptq" and params.option("device") == ""
    assert params.option("weights") == "--model_path=./test_tipc/output/bisenetv1/model.pdparams"
    assert params.option("weights", "other") == "--model_path=other"


def test_blocks():
    """Headers must match completely: train_benchmark_params is also the end of another header."""
    assert Params(CPU, BENCHMARK).block("train_benchmark_params")[:3] == [
        ("batch_size", "2|4"),
        ("fp_items", "fp32"),
        ("epoch", "20"),
    ]
    static = Params(CONFIGS / "train_dy2static_python.txt", MODES[0])
    assert static.block("train_benchmark_params") == []
    assert static.block("to_static_train_benchmark_params") == [("to_static_train", "--to_static_training")]


@pytest.mark.parametrize("path", sorted(set(CONFIGS.glob("train_*.txt")) - {PTQ}), ids=lambda path: path.name)
def test_shipped_files(path):
    params = Params(path, "lite_train_lite_infer")
    assert params.key("norm_train") == "norm_train" and params.key("export_dir") == "--save_dir"
    assert params.key("infer_weights") == "infer_model" and params.key("result_dir") == "--save_dir"


def test_refusals(tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("\n".join(CPU.read_text().splitlines()[:30]))
    with pytest.raises(TipcError, match="short.txt has 30 lines .* at least 51"):
        Params(short, "whole_infer")
    with pytest.raises(TipcError, match="'lite_train' is not a TIPC mode: choose one of lite_train_lite_infer"):
        Params(CPU, "lite_train")
    with pytest.raises(TipcError, match="short.txt has 30 lines .* the standard's format has 40: weights, "):
        ShortParams(short, "train_params", ["weights"] * 39)
    with pytest.raises(TipcError, match="short.txt is not a ptq_params file"):
        ShortParams(short, "ptq_params", ["weights"])
    with pytest.raises(TipcError, match="no TIPC file"):
        Params(tmp_path / "none.txt", "whole_infer")


SHELL = """
source "$1"
MODE="$3"
IFS=$'\\n'
lines=($(awk 'NR>=1{print}' "$2"))
for i in $(seq 0 51); do
    echo "$(func_parser_key "${lines[i]}")"
    echo "$(func_parser_value "${lines[i]}")"
    echo "$(func_parser_params "${lines[i]}")"
done
"""


def test_equal_to_shell_functions(tmp_path):
    """Compare keys, values and values by mode of every train_infer_python.txt in a checkout."""
    if not os.environ.get("PADDLESEG_DIR"):
        pytest.skip("PADDLESEG_DIR names no PaddleSeg checkout")
    folder = Path(os.environ["PADDLESEG_DIR"]) / "test_tipc"
    files = sorted(folder.glob("configs/*/train_infer_python.txt"))
    assert len(files) > 30
    (tmp_path / "read.sh").write_text(SHELL)
    for path in files:
        for mode in ("lite_train_lite_infer", "whole_train_whole_infer"):
            command = ["bash", str(tmp_path / "read.sh"), str(folder / "common_func.sh"), str(path), mode]
            # No pathname expansion happens in an empty folder.
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
            read = [line.strip() for line in done.stdout.split("\n")[:-1]]
            params = Params(path, mode)
            for name, number in LINES.items():
                key, value, mode_value = read[3 * number : 3 * number + 3]
                assert (params.key(name).strip(), params.value(name).strip()) == (key, value), (path, name)
                if name in ("iters", "train_batch_size"):
                    assert params.mode_value(name) == mode_value, (path, name)
