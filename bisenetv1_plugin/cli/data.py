"""Write a configuration for your own data, prepare a dataset, check data, or generate scenes."""

from __future__ import annotations

import errno
import functools
import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisenetv1_plugin import files
from bisenetv1_plugin.cli import flags, terminal
from bisenetv1_plugin.errors import InputError, line, lines

SUMMARY = "configure, prepare, check or generate data"

if TYPE_CHECKING:
    from bisenetv1_plugin.datasets.own import Options, Summary

_PATIENCE = 5  # seconds until a bar appears


def add_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    config = actions.add_parser(
        "config",
        help="write a configuration for a folder of your own",
        description="Read a folder of images and labels, and write what training on it needs: a configuration, and a "
        "folder NAME_data next to it. That folder has lists, class names and preview.png. If your labels are colors, "
        "0/255, 16 bits, or annotations of COCO or labelme, it also has labels of class numbers. Your files are never "
        "changed.",
    )
    config.add_argument(
        "dir", help="the folder: images/ and labels/, train.txt and val.txt, VOC, Cityscapes, COCO or labelme"
    )
    config.add_argument("--out", default="my.yml", help="the configuration to write, default my.yml")
    add_choice_arguments(config)
    config.set_defaults(action=_config)
    prepare = actions.add_parser(
        "prepare",
        help="prepare a downloaded dataset: write its lists and class numbers",
        description="Write the lists, class names and label files that the configurations for CamVid and Cityscapes "
        "need.",
    )
    prepare.add_argument("dataset", choices=["camvid", "cityscapes"])
    prepare.add_argument("src", help="the folder of the download")
    prepare.add_argument("dst", help="the folder to write; for cityscapes it may be SRC itself")
    prepare.set_defaults(action=_prepare)
    check = actions.add_parser(
        "check",
        help="check a configuration's data: missing files, sizes, label values, class shares",
        description="Read all images and labels of a configuration. Print what would stop or spoil a training, and "
        "the share of each class. The exit code is 1 if there are problems.",
    )
    check.add_argument("config", help="the YAML configuration")
    check.set_defaults(action=_check)
    scenes = actions.add_parser(
        "scenes",
        help="write synthetic street scenes with their labels",
        description="Draw street scenes with exact labels, to try everything without a download.",
    )
    scenes.add_argument("dst", help="the folder to write")
    scenes.add_argument("--train", type=flags.positive, default=200, help="number of training scenes, default 200")
    scenes.add_argument("--val", type=flags.positive, default=40, help="number of validation scenes, default 40")
    size: Any = {"metavar": ("W", "H"), "help": "size of the scenes, default 1024 512"}
    scenes.add_argument("--size", nargs=2, type=flags.positive, default=[1024, 512], **size)
    scenes.add_argument("--classes", nargs="+", metavar="NAME", help="among Cityscapes' 19, or `demo`; default: all")
    scenes.add_argument("--seed", type=int, default=0, help="seed of the random scenes, default 0")
    scenes.set_defaults(action=_scenes)


def add_choice_arguments(parser: ArgumentParser) -> None:
    """Flags about the user's own data; `choices` reads them."""
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="names of the classes, starting with number 0")
    parser.add_argument("--colors", metavar="FILE", help="file of lines `name r g b`, for color labels")
    parser.add_argument("--class_weights", action="store_true", help="weigh rare classes more in the loss")
    doubt = parser.add_mutually_exclusive_group()
    doubt.add_argument("--keep_rare", action="store_true", help="keep rare and unlisted label values as classes")
    doubt.add_argument(
        "--ignore_rare",
        action="store_true",
        help="ignore label values of less than 0.01 %% of the pixels: they become 255",
    )
    parser.add_argument("--skip_broken", action="store_true", help="omit files that cannot be read")
    parser.add_argument(
        "--unlabeled",
        choices=["background", "ignored"],
        help="labelme: the class of pixels outside all shapes; default: background if they are more than 5 %% of all",
    )
    parser.add_argument(
        "--line_width", type=flags.positive, default=10, help="labelme: width of lines in pixels, default 10"
    )
    parser.add_argument(
        "--max_size",
        type=flags.not_negative,
        help="resize larger images to this longest side, 0: never; default: 2048 if an image is longer than 3000",
    )


def choices(args: Namespace) -> Options:
    """The `Options` from the flags of `add_choice_arguments`."""
    from dataclasses import fields

    from bisenetv1_plugin.datasets.own import Options

    return Options(**{field.name: getattr(args, field.name) for field in fields(Options)})


def configure(source: Path, config: Path, folder: Path | None, chosen: Options) -> Summary:
    """Call `datasets.own.configure` with a progress bar, draw the preview, and print the summary."""
    import warnings

    from PIL import Image

    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.datasets.own import configure
    from bisenetv1_plugin.drawing import plots

    with warnings.catch_warnings():
        # The notes have one sentence about large images.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        summary = configure(source, config, folder, chosen, functools.partial(progress.bar, delay=_PATIENCE))
        preview = str(summary.folder / "preview.png")
        picture = plots.draw_labels(preview, summary.examples, summary.report.classes, summary.colors)
    counts = ", ".join(f"{count} {split}" for split, count in summary.report.images.items())
    print(f"{source}: {summary.kind}; {counts}; {len(summary.report.classes)} classes\n")
    print(lines("\n".join(summary.report.table())) + "\n")
    for note in summary.notes:
        print(line(note))
    if summary.converted:
        print(f"Labels converted to class numbers: {summary.converted}, in {summary.folder / 'labels'}.")
    print(f"Class names are in {summary.folder / 'classes.txt'}; {picture} shows some labels in their colors.")
    return summary


def run(args: Namespace) -> int | None:
    try:
        return args.action(args)
    except InputError:
        raise
    except OSError as error:
        if error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC):
            raise  # about printed output: `cli.main` knows the exit code
        raise InputError(files.refusal(error) or str(error)) from error
    except ValueError as error:
        raise InputError(str(error)) from error


def _config(args: Namespace) -> None:
    import shlex

    summary = configure(Path(args.dir), Path(args.out), None, choices(args))
    # A name that starts with a dash would be a flag.
    out = os.path.join(os.curdir, args.out) if args.out.startswith("-") else args.out
    config, image = shlex.quote(out), shlex.quote(line(str(summary.pairs["val"][0][0])))
    interval = min(1000, max(100, summary.recipe.iters // 100 * 10))  # a validation and a checkpoint every tenth
    weights = "output/best_model/model.pdparams"
    print(f"\nThe configuration is {args.out}. Next:\n")
    print(f"  bisenetv1 train --config {config} --do_eval --save_dir output --save_interval {interval}")
    print(f"  bisenetv1 val --config {config} --model_path {weights}")
    print(f"  bisenetv1 export --config {config} --model_path {weights}")
    print(f"  bisenetv1 infer --config output/inference_model/deploy.yaml --image_path {image} --save_dir masks")


def _prepare(args: Namespace) -> None:
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.datasets import prepare

    function = {"camvid": prepare.prepare_camvid, "cityscapes": prepare.prepare_cityscapes}[args.dataset]
    prepared = function(args.src, args.dst, progress=progress.bar)
    counts = ", ".join(f"{count} {split}" for split, count in prepared.counts.items())
    print(f"{prepared.root}: {counts} images, {len(prepared.classes)} classes")


def _check(args: Namespace) -> int:
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.datasets.check import check_config

    with terminal.quiet():
        report = check_config(args.config, progress=progress.bar)
    print(lines(report.to_text()))
    return 0 if report.ok else 1


def _scenes(args: Namespace) -> None:
    terminal.load_paddle()
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.datasets.classes import DEMO_CLASSES
    from bisenetv1_plugin.datasets.synthetic import write_scenes

    classes = DEMO_CLASSES if args.classes == ["demo"] else args.classes
    path = write_scenes(args.dst, args.train, args.val, tuple(args.size), classes, args.seed, progress.bar)
    print(f"The scenes are in {path}")
