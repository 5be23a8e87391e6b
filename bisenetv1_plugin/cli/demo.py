"""Run the whole workflow without a download: train, evaluate, export, infer, compare and draw.

It uses synthetic street scenes or, with --data, a folder of real images and labels. That folder may have any layout
that `bisenetv1 data config` reads, and the flags are the same.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Mapping, Sequence

from bisenetv1_plugin.cli import data, flags, terminal
from bisenetv1_plugin.errors import InputError

if TYPE_CHECKING:
    from bisenetv1_plugin.datasets.classes import NamedClasses
    from bisenetv1_plugin.evaluation.verify import Verification

SUMMARY = "try everything on generated street scenes"

_CONFIG = "bisenetv1_demo_256x128"
_ITERS = 200  # with --data, at most: this is a demo, not a full training
_COMPARED = 200  # validation images that are compared, at most


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--data", help="a folder of real images and labels; default: generated scenes")
    parser.add_argument("--save_dir", default="./output/demo", help="folder of all results, default ./output/demo")
    parser.add_argument(
        "--iters", type=flags.positive, help="training iterations; more are better and slower; default: at most 200"
    )
    data.add_choice_arguments(parser)
    flags.add_device_argument(parser)


def run(args: Namespace) -> int:
    args.device = terminal.load_paddle(args.device)
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.cli.training_view import train
    from bisenetv1_plugin.datasets.classes import named_classes
    from bisenetv1_plugin.drawing import plots
    from bisenetv1_plugin.evaluation.baselines import baselines
    from bisenetv1_plugin.evaluation.sheet import draw_sheet
    from bisenetv1_plugin.evaluation.verify import verify
    from bisenetv1_plugin.export.write import write_export
    from bisenetv1_plugin.inference.exported_model import load_export
    from bisenetv1_plugin.training import builder

    started = time.time()
    folder = Path(args.save_dir)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} exists and is not empty: name another --save_dir, or remove it.")

    _say("1/5 data")
    config = folder / "config.yml"
    classes = _real_data(args, config) if args.data else _scenes(config)

    _say(f"2/5 train {config}")
    cfg = builder.load_config(str(config), iters=args.iters)
    if args.data and not args.iters:
        cfg.dic["iters"] = min(cfg.iters, _ITERS)
    interval = max(1, cfg.iters // 4) if args.data else 55
    train(cfg, str(folder), device=args.device, do_eval=True, save_interval=interval, use_vdl=True, seed=0)
    curves = plots.draw_curves(str(folder))

    _say("3/5 export")
    weights = folder / "best_model" / "model.pdparams"
    cfg, build, model = builder.open_network(config, weights)
    transforms = cfg.val_dataset_cfg["transforms"]
    with terminal.quiet():
        write_export(model, str(folder / "exported"), transforms, classes=named_classes(cfg))

    _say("4/5 predict and infer the validation images")
    dataset = build.val_dataset
    dataset.file_list = dataset.file_list[:: -(-len(dataset) // _COMPARED)]
    export = load_export(folder / "exported")
    options = {"progress": progress.bar, "test_config": cfg.test_config, "backends": ["paddle"]}
    done = verify(model, export, dataset, cpu_threads=flags.cores(), **options)

    _say("5/5 baselines and pictures")
    simple = baselines(build.train_dataset, dataset, len(classes.names))
    titles = ["prediction (dygraph)", "inference (exported)"]
    sheet = draw_sheet(str(folder / "sheet.png"), done.shown, titles, classes.names, classes.colors, dataset.file_list)
    print(_table(classes.names, done, simple))
    print(f"\nweights    {weights}\nexport     {folder / 'exported'}\npictures   {sheet}, {curves}")
    if args.data:
        print(f"longer     bisenetv1 train --config {config} --do_eval --save_dir {folder / 'longer'}")
    print(f"Done in {(time.time() - started) / 60:.1f} minutes.")
    if not done.passed:
        print(f"bisenetv1: {done.verdicts[0].verdict}: {done.verdicts[0].reason}", file=sys.stderr)
        return 1
    return 0


def _scenes(path: Path) -> NamedClasses:
    """Write scenes into the folder `data`, and the demo's configuration for them to `path`."""
    import yaml

    from bisenetv1_plugin import files, zoo
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.datasets.classes import DEMO_CLASSES, NamedClasses
    from bisenetv1_plugin.datasets.synthetic import write_scenes

    root = path.with_name("data")
    write_scenes(root, train=800, val=40, size=(256, 128), classes=DEMO_CLASSES, progress=progress.bar)
    config = yaml.safe_load(zoo.path_of(_CONFIG).read_text(encoding="utf-8"))
    for part, split in (("train_dataset", "train"), ("val_dataset", "val")):
        config[part].update({"dataset_root": str(root), f"{split}_path": str(root / f"{split}.txt")})
    with files.whole_file(path) as temporary:
        Path(temporary).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return NamedClasses(tuple(name for name, _ in DEMO_CLASSES), ())


def _real_data(args: Namespace, path: Path) -> NamedClasses:
    """Configure the user's folder as `bisenetv1 data config` does, with lists and labels in the folder `data`."""
    from bisenetv1_plugin.datasets.classes import NamedClasses

    summary = data.configure(Path(args.data), path, path.with_name("data"), data.choices(args))
    return NamedClasses(tuple(summary.report.classes), tuple(summary.colors))


def _table(names: Sequence[str], done: Verification, baselines: Mapping[str, float]) -> str:
    from bisenetv1_plugin.evaluation import parity

    (verdict,) = done.verdicts
    lines = [parity.table(names, done.dygraph, verdict.scores)]
    lines += [f"mIoU of the {name}: {miou:.4f}" for name, miou in baselines.items()]
    lines.append(
        f"prediction and inference agree on {verdict.comparison.agreement:.4%} of the pixels; where they differ, "
        f"the two best classes are at most {verdict.comparison.widest_margin:.1e} apart"
    )
    if done.val_difference:
        lines.append(f"infer and val: {done.val_difference}")
    return "\n".join(["", *lines])


def _say(text: str) -> None:
    print(f"=== {text}", flush=True)
