"""The command `bisenetv1`: PaddleSeg's tools for machines with no checkout of it, and this plugin's own."""

import argparse
import importlib
import os
import sys

from bisenetv1_plugin import __version__
from bisenetv1_plugin.tools import flags
from bisenetv1_plugin.tools.errors import UserError

# One module of `tools` each, with SUMMARY, add_arguments(parser) and run(args). Paddle is imported by `run` only.
COMMANDS = (
    *("demo", "train", "val", "predict", "export", "quantize", "infer", "verify"),
    *("convert", "data", "configs", "curves", "doctor", "run"),
)


def main(argv=None):
    """Run one command; returns the exit code: 0 done, 1 done with faults that were named, 2 refused."""
    parser = argparse.ArgumentParser(prog="bisenetv1", description=__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"bisenetv1_plugin.tools.{name}")
        command = commands.add_parser(name, help=module.SUMMARY, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    use_all_cores()
    try:
        return args.run(args) or 0
    except UserError as error:
        print(f"bisenetv1: {error}", file=sys.stderr)
        return 2


def use_all_cores():
    """Paddle runs on one CPU thread unless OMP_NUM_THREADS says otherwise, which must be before it is imported."""
    if "PADDLE_TRAINER_ID" not in os.environ:  # processes that share a machine share its cores
        os.environ.setdefault("OMP_NUM_THREADS", str(flags.cores()))


if __name__ == "__main__":
    sys.exit(main())
