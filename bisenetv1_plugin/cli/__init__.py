"""The command `bisenetv1`: PaddleSeg's tools for machines with no checkout of it, and this plugin's own."""

import argparse
import importlib
import sys

from bisenetv1_plugin import __version__
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.machine import use_all_cores

# One module of this folder each, with SUMMARY, add_arguments(parser) and run(args). Only `run` imports Paddle.
COMMANDS = (
    *("demo", "train", "val", "predict", "export", "quantize", "infer", "verify"),
    *("convert", "data", "configs", "curves", "doctor", "run"),
)


def parser():
    """The parser of all commands; what it parses has `run`, the function to call with it."""
    parser = argparse.ArgumentParser(prog="bisenetv1", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"{__name__}.{name}")
        command = commands.add_parser(name, help=module.SUMMARY, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv=None):
    """Run one command; returns the exit code: 0 done, 1 done with faults that were named, 2 refused."""
    args = parser().parse_args(argv)
    use_all_cores()
    try:
        return args.run(args) or 0
    except InputError as error:
        print(f"bisenetv1: {error}", file=sys.stderr)
        return 2
