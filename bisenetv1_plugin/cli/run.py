"""Run a script of a PaddleSeg checkout with the plugin active, if your Python ignores start-up files (.pth).

For example: python -m bisenetv1_plugin run tools/train.py --config my.yml
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys

from bisenetv1_plugin import install
from bisenetv1_plugin.errors import InputError

SUMMARY = "run a PaddleSeg script with the plugin active"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("script", help="the script, for example tools/train.py")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its own arguments")


def run(args: argparse.Namespace) -> None:
    if not os.path.isfile(args.script):
        raise InputError(f"there is no script {args.script}: give the path of one, such as tools/train.py.")
    install()
    sys.argv = [args.script, *args.arguments]
    sys.path[0] = os.path.dirname(os.path.abspath(args.script))
    runpy.run_path(args.script, run_name="__main__")
