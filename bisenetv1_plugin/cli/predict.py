"""Predict images with trained weights, as PaddleSeg's tools/predict.py does; writes masks and overlays."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from bisenetv1_plugin.cli import flags, terminal
from bisenetv1_plugin.errors import InputError

if TYPE_CHECKING:
    from bisenetv1_plugin.inference.sources import Source

SUMMARY = "predict images with trained weights"


def add_arguments(parser: ArgumentParser) -> None:
    flags.add_config_arguments(parser)
    flags.add_test_arguments(parser, "aug_pred")
    flags.add_image_arguments(parser, save_dir="./output/result")
    parser.add_argument("--custom_color", nargs="+", type=flags.channel, help="colors of the classes: R G B R G B ...")


def run(args: Namespace) -> int:
    args.device = terminal.load_paddle(args.device)
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.inference.engine import infer
    from bisenetv1_plugin.inference.sources import Source
    from bisenetv1_plugin.training import builder
    from bisenetv1_plugin.training.dygraph import PredictionFiles, engine_factory, result_folders

    if len(args.custom_color or []) % 3:
        raise InputError(f"--custom_color has {len(args.custom_color)} numbers; give three for each class: R G B.")
    cfg = builder.load_config(args.config, needs=["val_dataset"])
    options = flags.test_config(cfg, args, "aug_pred")
    colors = options.pop("custom_color", None)
    colors = args.custom_color or colors
    source = Source(args.image_path, keep_folders=True, skip=[args.save_dir, *result_folders(args.save_dir)])
    if source.live:
        raise InputError("predict cannot read a camera: export the model, and use the camera with bisenetv1 infer.")
    _refuse_overwriting(args, source)
    model = builder.open_network(cfg, args.model_path, args.device).model
    engine = engine_factory(model, cfg.val_dataset_cfg.get("transforms") or [], options)()
    sink = PredictionFiles(args.save_dir, source.frames is not None, colors)
    with progress.bar(total=source.total, unit="image", desc="predict") as bar:
        infer(engine, source, [sink], step=lambda: bar.update(source.done - bar.n))
    if source.frames or source.done > len(source.faults):
        overlays, masks = result_folders(args.save_dir)
        print(f"Overlays: {overlays}; masks: {masks}")
    return flags.report(source.faults)


def _refuse_overwriting(args: Namespace, source: Source) -> None:
    from bisenetv1_plugin import files
    from bisenetv1_plugin.training.dygraph import MADE_BY, result_paths

    is_frame = source.frames is not None
    targets = [path for name in source.names() for path in result_paths(args.save_dir, name, is_frame)]
    if is_frame:
        targets = [frame for path in targets for frame in source.frame_files(os.path.dirname(path))]
    files.check_outputs(targets, [*source.paths, args.config, args.model_path], files.made_by(MADE_BY))
