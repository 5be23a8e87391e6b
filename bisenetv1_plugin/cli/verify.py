"""Compare an export in every installed runtime with the network in dygraph: logits, pixels, IoU and Acc per class.

The exit code is 0 if every runtime that ran shows parity, else 1. In fp32, at least 99.99 % of the pixels must be
equal, and the others must be close: their two best classes less than 1e-3 apart. Logits must be less than 1e-3 apart.
Where dygraph's logits of an image exceed 100, both limits are 1e-5 of its largest logit.
In Paddle Inference, IoU and Acc of every class must agree to four decimals (less than 5e-5 apart). In bf16, at least
95 % of the pixels must be equal, and mIoU within 0.3 points. In int8 (a quantized export), these are 80 % and 1 point.
At least three classes must be predicted.

An export with argmax or softmax has no logits. They come from a second export that is made for the comparison; the
masks come from the export itself. In int8, logits are not compared.

With --is_slide, both sides slide a window, as in `infer` and `predict`.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any, Sequence

from bisenetv1_plugin.cli import flags, results, terminal
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.evaluation import text_table

if TYPE_CHECKING:
    from bisenetv1_plugin.evaluation.verify import Verification
    from bisenetv1_plugin.inference.exported_model import Export

SUMMARY = "compare an export with the network it came from"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("config", help="the YAML configuration")
    parser.add_argument("weights", help="the trained weights, a .pdparams file")
    parser.add_argument("exported", help="the exported folder, or its deploy.yaml")
    parser.add_argument(
        "data", nargs="?", help="a list of `image label` lines; default: the configuration's val_dataset"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        default=["fp32"],
        choices=["fp32", "bf16", "int8"],
        help="precisions to compare, default fp32",
    )
    flags.add_cpu_threads_argument(parser)
    parser.add_argument("--enable_mkldnn", action="store_true", help="use oneDNN for fp32 in Paddle Inference")
    flags.add_window_arguments(parser)
    results.add_argument(parser)
    parser.add_argument("--picture", metavar="FILE", help="also write a PNG of a few masks side by side")
    flags.add_trust_argument(parser)
    flags.add_device_argument(parser)


def run(args: Namespace) -> int:
    args.device = terminal.load_paddle(args.device)
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.datasets.classes import named_classes
    from bisenetv1_plugin.evaluation.sheet import draw_sheet
    from bisenetv1_plugin.evaluation.verify import verify
    from bisenetv1_plugin.training import builder

    windows = flags.windows(args)
    results.check_place(args.json)
    results.check_picture(args.picture)
    data = []
    if args.data:
        if not os.path.isfile(args.data):
            raise InputError(f"{args.data} is not a file: name a list of `image label` lines.")
        root = os.path.dirname(os.path.abspath(args.data))
        data = [f"val_dataset.val_path={args.data}", f"val_dataset.dataset_root={root}"]
    cfg = builder.load_config(args.config, data, needs=["val_dataset"])
    export = _export(args, cfg.val_dataset_cfg)
    reads = [args.config, args.weights, *export.files, *filter(None, [args.data])]
    results.check(args.json, "predicted_classes", reads)
    results.check_picture(args.picture, reads)
    _, build, model = builder.open_network(cfg, args.weights, args.device, datasets=["val_dataset"])
    dataset = build.val_dataset
    with terminal.quiet():
        done = verify(
            model,
            export,
            dataset,
            args.precision,
            args.cpu_threads,
            args.enable_mkldnn,
            progress.bar,
            flags.with_window(cfg.test_config, args),
            make_model=lambda: builder.open_network(cfg, args.weights).model,
            windows=windows,
        )
    for sentence in done.skipped:
        print(f"bisenetv1: {sentence}", file=sys.stderr)
    classes = named_classes(cfg, dataset.num_classes)
    print(_table(done, classes.names))
    if done.val_difference:
        print(f"infer and val: {done.val_difference}")
    if args.json:
        _write_json(args.json, done)
    if args.picture:
        titles = ["dygraph", *(verdict.name for verdict in done.verdicts)]
        draw_sheet(args.picture, done.shown, titles, classes.names, classes.colors)
    return 0 if done.passed else 1


def _export(args: Namespace, val: dict[str, Any]) -> Export:
    from bisenetv1_plugin.export.defaults import fill_defaults
    from bisenetv1_plugin.inference.exported_model import load_export

    export = load_export(args.exported)
    if fill_defaults(export.transform_list) != fill_defaults(val.get("transforms") or []):
        raise InputError(f"{export.path} has other transforms than the val_dataset of {args.config}: export again.")
    return export


_PARITY_ROWS = (
    ("largest logit difference", "max_difference", ".1e"),
    ("mean logit difference", "mean_difference", ".1e"),
    ("equal pixels", "agreement", ".4%"),
    ("margin of unequal pixels", "widest_margin", ".1e"),
)


def _table(done: Verification, names: Sequence[str]) -> str:
    """Dygraph and the runtimes in columns: first parity at the network's input size, then scores at full size.
    Classes with the same four decimals in all columns are left out; they are in --json.

    The scores of dygraph are those of `val`, the scores of a runtime those of the masks that `infer` writes.
    """
    scores = [done.dygraph, *(verdict.scores for verdict in done.verdicts if verdict.scores)]
    lines = [("", "dygraph", *(verdict.name for verdict in done.verdicts))]
    for title, key, form in _PARITY_ROWS:
        lines.append((title, "", *(_form(getattr(verdict.comparison, key), form) for verdict in done.verdicts)))
    lines.append(("own size, as val", "", *(f"{verdict.own_size:.4%}" for verdict in done.verdicts)))
    lines.append(("mIoU", *(f"{score.miou:.4f}" for score in scores)))
    lines.append(("Acc", *(f"{score.acc:.4f}" for score in scores)))
    equal = True
    for title, part in (("IoU", 0), ("Acc", 1)):
        for name, *values in zip(names, *(score.rounded()[part] for score in scores)):
            cells = [f"{value:.4f}" for value in values]
            if len(set(cells)) > 1:
                equal = False
                lines.append((f"{title} of {name}", *cells))
    if equal and len(scores) > 1:
        lines.append(("IoU, Acc of every class", "", *["equal"] * (len(scores) - 1)))
    verdicts = [
        f"{verdict.name}: {verdict.verdict}" + (f" ({verdict.reason.rstrip('.')})" if verdict.reason else "")
        for verdict in done.verdicts
    ]
    return "\n".join(["", text_table.align(lines, first=26, other=18), "", *verdicts])


def _form(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _write_json(path: str, done: Verification) -> None:
    import paddle

    content = {
        "paddle": paddle.__version__,
        "images": done.images,
        "predicted_classes": done.classes,
        "otherwise": done.val_difference,
        "dygraph": done.dygraph.figures(),
        "runtimes": [verdict.figures() for verdict in done.verdicts],
    }
    results.write(path, content)
