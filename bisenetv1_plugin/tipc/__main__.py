"""TIPC chains: python -m bisenetv1_plugin.tipc prepare|run CONFIG MODE"""

import argparse
import os
import sys

from bisenetv1_plugin.tipc.params import MODES, Params, TipcError


def main():
    """Exit code 0: everything ran and parity is shown; 1: not so; 2: the file, the mode or the data cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m bisenetv1_plugin.tipc", description=__doc__.split(":")[0])
    parser.add_argument("action", choices=["prepare", "run"])
    parser.add_argument("config", help="a parameter file, test_tipc/configs/bisenetv1/*.txt")
    parser.add_argument("mode", help=", ".join(MODES))
    parser.add_argument("--data", default=os.environ.get("TIPC_DATA"), help="prepare: folder of your own data")
    parser.add_argument("--weights", default=os.environ.get("TIPC_WEIGHTS"), help="prepare: weights for whole_infer")
    args = parser.parse_args()
    from bisenetv1_plugin.tools.errors import UserError

    try:
        params = Params(args.config, args.mode)
        if args.action == "run":
            return _run(params)
        from bisenetv1_plugin.tipc.prepare import prepare

        prepare(params, args.data, args.weights)
        return 0
    except (TipcError, UserError) as error:
        print(f"tipc: {error}", file=sys.stderr)
        return 2


def _run(params):
    from bisenetv1_plugin.tipc import verdict
    from bisenetv1_plugin.tipc.chain import Chain

    chain = Chain(params)
    chain.run()
    results = []
    for export in chain.exports:
        results += verdict.judge(export, params.mode, chain.folder / f"{export.name}.png")
    return 0 if verdict.report(results, chain.failed, chain.folder / "verdict.json") else 1


if __name__ == "__main__":
    sys.exit(main())
