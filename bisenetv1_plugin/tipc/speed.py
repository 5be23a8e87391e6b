"""The training benchmark: images per second for every batch size, precision and number of devices of the file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Sequence

import numpy as np

from bisenetv1_plugin.tipc.chain import Chain, losses
from bisenetv1_plugin.tipc.params import BENCHMARK, Params, TipcError, check_count, check_name

_WARM_UP = 2  # log lines to skip


def run(path: str | Path, case: str | None = None) -> bool:
    """Train every case of a file's `train_benchmark_params` block, and write the speeds from the logs.

    Cases have the standard's names, such as `dynamic_bs4_fp32_DP_N1C1`: batch size per device, precision, number of
    devices. Each has a folder with a log and `speed.json` in test_tipc/output/MODEL/benchmark_train.

    Args:
        path: the TIPC file.
        case: the only case to run.

    Returns:
        Whether every training succeeded and logged its speed.

    Raises:
        TipcError: the file cannot be used, or has no such case.
    """
    params = Params(path, BENCHMARK)
    block = dict(params.block("train_benchmark_params"))
    missing = [key for key in ("batch_size", "fp_items", "epoch") if not block.get(key)]
    if missing:
        raise TipcError(f"{path} has no {' and no '.join(missing)} in a block train_benchmark_params.")
    where = f"{path}, block train_benchmark_params"
    for size in block["batch_size"].split("|"):
        check_count(size, where)
    for precision in block["fp_items"].split("|"):
        check_name(precision, where)
    check_count(block["epoch"], where)
    cases = {
        f"dynamic_bs{size}_{precision}_DP_N1C{len(gpus.split(','))}": (gpus, precision, size)
        for size in block["batch_size"].split("|")
        for precision in block["fp_items"].split("|")
        for gpus in params.values("gpu_list")
    }
    if case and case not in cases:
        raise TipcError(f"{path} has no case {case}; it has {', '.join(cases)}.")
    for flag in filter(None, block.get("flags", "").split(";")):
        name, _, value = flag.partition("=")
        if not name.isidentifier():
            raise TipcError(f"{where}: flags are NAME=VALUE;NAME=VALUE, not {flag!r}.")
        if name != "null":
            os.environ[name] = value
    names = [case] if case else list(cases)
    succeeded = [_train(Chain(params, name), name, block["epoch"], *cases[name]) for name in names]
    return all(succeeded)


def _train(chain: Chain, name: str, iters: str, gpus: str, precision: str, batch_size: str) -> bool:
    """Train a case; return whether it succeeded and was long enough to measure its speed."""
    params, folder = chain.params, chain.folder / "train"
    device = "cpu" if gpus == "-1" else params.values("train_device")[0]
    command = params.value("norm_train")
    if precision == "fp16":
        command += " --amp_level O2"  # as in the standard's benchmarks
    chain.train(command, gpus, device, precision, folder, iters, batch_size)
    if chain.steps.failed:
        return False
    log = chain.log_of(folder)
    found = re.findall(r"\[TRAIN\].*?\bips: ([\d.]+)", log.read_text(encoding="utf-8"))[_WARM_UP:]
    fault = None if found else f"{log} has no `ips:` after {_WARM_UP} lines: run more iterations, or log more often."
    if not np.isfinite(losses(log)).all():
        fault = f"{log} has losses that are not finite."
    chain.steps.check(f"speed of {name}", fault)
    if fault:
        return False
    speed = sum(map(float, found)) / len(found)
    _write(chain.folder / "speed.json", params.value("model_name"), name, precision, batch_size, speed, losses(log))
    print(f"{name}: {speed:.2f} images/s a device")
    return True


def _write(
    path: Path, model_name: str, case: str, precision: str, batch_size: str, speed: float, found_losses: Sequence[float]
) -> None:
    """Write the results with the standard's keys."""
    import paddle

    content = {
        "model_name": f"{model_name}_bs{batch_size}_{precision}_DP",
        "batch_size": int(batch_size),
        "fp_item": precision,
        "run_mode": "DP",
        "convergence_key": "loss:",
        "convergence_value": found_losses[-1],
        "ips": speed,
        "speed_unit": "samples/s",
        "device_num": case.rpartition("_")[2],
        "frame_version": paddle.__version__,
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
