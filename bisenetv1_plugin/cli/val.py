"""Evaluate trained weights on the configuration's validation data, as PaddleSeg's tools/val.py does."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from bisenetv1_plugin.cli import flags, results, terminal

if TYPE_CHECKING:
    from bisenetv1_plugin.training.watch import Evaluation

SUMMARY = "evaluate trained weights"


def add_arguments(parser: ArgumentParser) -> None:
    flags.add_config_arguments(parser)
    flags.add_test_arguments(parser, "aug_eval")
    parser.add_argument("--num_workers", type=flags.processes, default=0, help="processes that load data")
    parser.add_argument("--auc_roc", action="store_true", help="also compute the area under the ROC curve")
    results.add_argument(parser)
    parser.add_argument("--opts", nargs="+", help="other values of the configuration, as key.key=value")


def run(args: Namespace) -> None:
    args.device = terminal.load_paddle(args.device)
    from paddleseg.utils import utils

    from bisenetv1_plugin.cli.training_view import EvaluationView
    from bisenetv1_plugin.datasets.classes import named_classes
    from bisenetv1_plugin.evaluation import text_table
    from bisenetv1_plugin.training import builder, watch

    results.check(args.json, "class_iou", [args.config, args.model_path])
    cfg = builder.load_config(args.config, args.opts, needs=["val_dataset"])
    options = flags.test_config(cfg, args, "aug_eval")
    if args.auc_roc:
        options["auc_roc"] = True
    utils.show_env_info()
    _, build, model = builder.open_network(cfg, args.model_path, args.device, datasets=["val_dataset"])
    val_dataset = build.val_dataset
    view = EvaluationView("val") if terminal.is_quiet() else None
    with terminal.quiet():
        done = watch.evaluate(model, val_dataset, view, num_workers=args.num_workers, **options)
    names = named_classes(cfg, val_dataset.num_classes).names
    columns = {"IoU": done.class_iou, "precision": done.class_precision, "recall": done.class_recall}
    terminal.say(_overall(done))
    terminal.say(text_table.by_class(names, columns))
    if args.json and terminal.is_first():
        results.write(args.json, {"config": args.config, "weights": args.model_path, "classes": names, **vars(done)})


def _overall(done: Evaluation) -> str:
    auc_roc = "" if done.auc_roc is None else f" Auc_roc: {done.auc_roc:.4f}"
    overall = f"mIoU: {done.miou:.4f} Acc: {done.acc:.4f} Kappa: {done.kappa:.4f} Dice: {done.dice:.4f}{auc_roc}"
    return f"{done.images} images: {overall}"
