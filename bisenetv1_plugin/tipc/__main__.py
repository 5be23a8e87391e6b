"""TIPC chains: python -m bisenetv1_plugin.tipc prepare|run|onnx|ptq|cpp|serving|benchmark CONFIG MODE"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Sequence

from bisenetv1_plugin import files
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.machine import use_all_cores
from bisenetv1_plugin.tipc.chain import Chain, Deployment
from bisenetv1_plugin.tipc.params import (
    BENCHMARK,
    CPP,
    MODES,
    PADDLE2ONNX,
    PTQ,
    SERVING,
    Params,
    TipcError,
    header_of,
)
from bisenetv1_plugin.tipc.steps import Steps


def main() -> int:
    """Return 0 if everything ran and shows parity, 1 if not, and 2 if the file, mode or data cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m bisenetv1_plugin.tipc", description=__doc__.split(":")[0])
    parser.add_argument("action", choices=list(_ACTIONS))
    parser.add_argument("config", help="a parameter file, test_tipc/configs/bisenetv1/*.txt")
    parser.add_argument("mode", nargs="?", help=", ".join(MODES))
    parser.add_argument("case", nargs="?", help="benchmark: run only this case, such as dynamic_bs4_fp32_DP_N1C1")
    parser.add_argument("--data", default=os.environ.get("TIPC_DATA"), help="prepare: folder of your own data")
    parser.add_argument("--weights", default=os.environ.get("TIPC_WEIGHTS"), help="prepare: weights for whole_infer")
    args = parser.parse_args()
    try:
        return _ACTIONS[args.action](args)
    except InputError as error:
        sentence = str(error)
    except OSError as error:  # the disk is full, the folder belongs to another user, ...
        refusal = files.refusal(error)
        if refusal is None:
            raise
        sentence = refusal
    except KeyboardInterrupt:
        print("tipc: stopped.", file=sys.stderr)
        return 130
    print(f"tipc: {sentence}", file=sys.stderr)
    return 2


def _prepare(args: argparse.Namespace) -> int:
    from bisenetv1_plugin.tipc.inputs import prepare

    path = Path(args.config)
    if header_of(path) in (PTQ, PADDLE2ONNX, CPP, SERVING):  # these use the weights of whole_infer
        _check_mode(args, "whole_infer", "paddle2onnx_infer")
        params = Params(path.with_name("train_infer_python.txt"), "whole_infer")
    else:
        params = Params(path, args.mode)
    prepare(params, args.data, args.weights)
    return 0


def _run(args: argparse.Namespace) -> int:
    chain = Chain(Params(args.config, args.mode))
    chain.run()
    return _judge(chain.steps, chain.deployments, chain.folder)


def _run_short(args: argparse.Namespace) -> int:
    from bisenetv1_plugin.tipc import short_chains

    chains = {
        "onnx": short_chains.run_onnx,
        "ptq": short_chains.run_ptq,
        "cpp": short_chains.run_cpp,
        "serving": short_chains.run_serving,
    }
    _check_mode(args, None, "whole_infer", *(["paddle2onnx_infer"] if args.action == "onnx" else []))
    return _judge(*chains[args.action](args.config))


def _run_benchmark(args: argparse.Namespace) -> int:
    from bisenetv1_plugin.tipc import speed

    _check_mode(args, BENCHMARK)
    return 0 if speed.run(args.config, args.case) else 1


def _check_mode(args: argparse.Namespace, *modes: str | None) -> None:
    if args.mode not in modes:
        raise TipcError(f"the mode is {args.mode}; with {args.config} it must be {' or '.join(filter(None, modes))}.")


def _judge(steps: Steps, deployments: Sequence[Deployment], folder: Path) -> int:
    use_all_cores()  # not earlier: a chain may start processes that share them
    from bisenetv1_plugin.tipc import verdict

    results = []
    for deployment in deployments:
        if not deployment.runs:
            steps.failed.append(f"{deployment.name}: nothing was inferred")
            continue
        results += verdict.judge(deployment, folder / f"{deployment.name}.png")
    return 0 if verdict.report(results, steps.failed, folder / "verdict.json") else 1


_ACTIONS = {
    "prepare": _prepare,
    "run": _run,
    "benchmark": _run_benchmark,
    **dict.fromkeys(("onnx", "ptq", "cpp", "serving"), _run_short),
}


if __name__ == "__main__":
    sys.exit(main())
