"""Draw the loss and mIoU curves of a training that was run with --use_vdl."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

SUMMARY = "draw the curves of a training that was run with --use_vdl"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("save_dir", help="the training's --save_dir; curves.png is written there")


def run(args: Namespace) -> None:
    from bisenetv1_plugin.drawing import plots  # not above: NumPy and Pillow may be missing for --help

    print(f"The curves are in {plots.draw_curves(args.save_dir)}")
