"""Evaluate trained weights on the configuration's validation data, as PaddleSeg's tools/val.py does."""

from __future__ import annotations

import itertools
import os
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any, Sequence

from bisenetv1_plugin import files
from bisenetv1_plugin.cli import flags, results, terminal
from bisenetv1_plugin.errors import InputError

if TYPE_CHECKING:
    from bisenetv1_plugin.datasets.classes import NamedClasses
    from bisenetv1_plugin.evaluation.confusion import Confusion
    from bisenetv1_plugin.training.watch import Evaluation

SUMMARY = "evaluate trained weights"
_WORST = 8  # images that a report shows


def add_arguments(parser: ArgumentParser) -> None:
    flags.add_config_arguments(parser)
    flags.add_test_arguments(parser, "aug_eval")
    parser.add_argument("--num_workers", type=flags.processes, default=0, help="processes that load data")
    parser.add_argument("--auc_roc", action="store_true", help="also compute the area under the ROC curve")
    results.add_argument(parser)
    parser.add_argument(
        "--report",
        metavar="DIR",
        help="also write a report into this folder: confusion matrix, scores of classes and images, the worst images",
    )
    parser.add_argument("--worst", type=flags.images, metavar="N", help="how many images the report shows, default 8")
    parser.add_argument("--opts", nargs="+", help="values of the configuration to override, as key.key=value")


def run(args: Namespace) -> None:
    args.device = terminal.load_paddle(args.device)
    from paddleseg.utils import utils

    from bisenetv1_plugin.cli.training_view import EvaluationView
    from bisenetv1_plugin.datasets.classes import named_classes
    from bisenetv1_plugin.evaluation import text_table
    from bisenetv1_plugin.training import builder, watch

    results.check(args.json, "class_iou", [args.config, args.model_path])
    _check_report(args, [args.config, args.model_path])
    cfg = builder.load_config(args.config, args.opts, needs=["val_dataset"])
    options = flags.test_config(cfg, args, "aug_eval")
    if args.auc_roc:
        options["auc_roc"] = True
    utils.show_env_info()
    _, build, model = builder.open_network(cfg, args.model_path, args.device, datasets=["val_dataset"])
    val_dataset = build.val_dataset
    _check_labels(args.config, val_dataset)
    counted = _confusion(args, val_dataset, options) if args.report else None
    view = EvaluationView("val") if terminal.is_quiet() else None
    with terminal.quiet():
        see = counted.add if counted else None
        done = watch.evaluate(model, val_dataset, view, see, num_workers=args.num_workers, **options)
    classes = named_classes(cfg, val_dataset.num_classes)
    names = classes.names
    columns = {"IoU": done.class_iou, "precision": done.class_precision, "recall": done.class_recall}
    terminal.say(_overall(done))
    terminal.say(text_table.class_table(names, columns))
    if args.json and terminal.is_first():
        results.write(args.json, {"config": args.config, "weights": args.model_path, "classes": names, **vars(done)})
    if counted:
        _write_report(args, counted, done, val_dataset, classes)


def _check_labels(config: str, dataset: Any) -> None:
    """
    Raises:
        InputError: an image has no label, as in a list for `mode: test`.
    """
    for files_of_image in getattr(dataset, "file_list", []):
        if len(files_of_image) > 1 and files_of_image[1] is None:
            raise InputError(
                f"the val_dataset of {config} has no label for {files_of_image[0]}: name a list of `image label` lines "
                "as its val_path, with mode: val."
            )


def _check_report(args: Namespace, reads: Sequence[str]) -> None:
    """Check before the work that the report can be written after it."""
    if not args.report:
        if args.worst:
            raise InputError("--worst needs --report DIR.")
        return
    from bisenetv1_plugin.evaluation import evaluation_report

    results.check_folder(args.report, "--report")

    def is_ours(path: str) -> bool:  # `results.check` has checked the file of --json
        return bool(args.json and files.is_same(path, args.json)) or evaluation_report.is_ours(path)

    targets = evaluation_report.paths(args.report) + ([args.json] if args.json else [])
    files.check_outputs(targets, reads, is_ours)


def _confusion(args: Namespace, dataset: Any, options: dict[str, Any]) -> Confusion:
    """The empty confusion matrix of the report.

    Raises:
        InputError: the report is impossible for these data, or would replace one of their files.
    """
    import paddle

    from bisenetv1_plugin.evaluation.confusion import Confusion

    if options.get("use_multilabel"):
        raise InputError("--report needs one class per pixel, but test_config has use_multilabel: omit one of them.")
    if paddle.distributed.get_world_size() > 1:
        raise InputError("--report needs all images in one process: run bisenetv1 val without paddle.distributed.")
    listed = itertools.chain.from_iterable(getattr(dataset, "file_list", []))
    _check_report(args, [args.config, args.model_path, *(path for path in listed if isinstance(path, str))])
    return Confusion(dataset.num_classes, dataset.ignore_index, args.worst or _WORST)


def _write_report(args: Namespace, counted: Confusion, done: Evaluation, dataset: Any, classes: NamedClasses) -> None:
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.evaluation import evaluation_report

    names = evaluation_report.Names(*classes, evaluation_report.image_names(dataset))
    odd = counted.disagreement(done.miou, done.acc, (done.class_iou, done.class_precision, done.class_recall))
    summary = [f"{_overall(done)} (configuration {args.config}, weights {args.model_path})"]
    summary += evaluation_report.remarks(counted, classes.names) + ([odd] if odd else [])
    with terminal.quiet():
        evaluation_report.write(args.report, counted, dataset, names, summary, progress.bar)
    if odd:
        terminal.warn(odd)
    for sentence in evaluation_report.summary_lines(counted, names):
        terminal.say(sentence)
    terminal.say(f"The report is in {os.path.join(args.report, 'report.md')}")


def _overall(done: Evaluation) -> str:
    auc_roc = "" if done.auc_roc is None else f" Auc_roc: {done.auc_roc:.4f}"
    overall = f"mIoU: {done.miou:.4f} Acc: {done.acc:.4f} Kappa: {done.kappa:.4f} Dice: {done.dice:.4f}{auc_roc}"
    return f"{done.images} images: {overall}"
