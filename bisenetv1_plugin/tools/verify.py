"""Compare an export, in every runtime at hand, with the network in dygraph: logits, pixels, IoU and Acc of every class.

The exit code is 0 where parity is shown for every runtime that ran, 1 where it is not. fp32: at least 99.99 % of
the pixels equal, any other with its two best classes less than 1e-3 apart, logits less than 1e-3 apart, and in Paddle
Inference IoU and Acc of every class equal to four decimals (less than 5e-5 apart). bf16: at least 95 % of the pixels
equal, mIoU within 0.3 points; int8 (of a quantised export): 80 %, 1 point. At least three classes must be predicted.

An export with argmax or softmax has no logits: those come from another that is made for it, the masks from itself.
For int8 there are none.
"""

import itertools
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from typing import Any, Optional

from bisenetv1_plugin.tools import flags
from bisenetv1_plugin.tools.errors import UserError

SUMMARY = "compare an export with the network it came from"

PARITY, NO_PARITY, NOT_SHOWN = "parity", "no parity", "parity not shown"
_SHOWN = 4


def add_arguments(parser):
    parser.add_argument("config", help="the YAML configuration")
    parser.add_argument("weights", help="the trained weights, a .pdparams file")
    parser.add_argument("exported", help="the exported folder, or its deploy.yaml")
    parser.add_argument(
        "data", nargs="?", help="a list of `image label` lines; default: the configuration's val_dataset"
    )
    parser.add_argument(
        "--precision", nargs="+", default=["fp32"], choices=["fp32", "bf16", "int8"], help="default: fp32"
    )
    parser.add_argument("--cpu_threads", type=int, default=flags.cores(), help="threads on the CPU")
    parser.add_argument("--enable_mkldnn", action="store_true", help="fp32 in Paddle Inference with oneDNN")
    parser.add_argument("--json", metavar="FILE", help="also write the figures here")
    parser.add_argument("--picture", metavar="FILE", help="also write a PNG of a few masks side by side")
    flags.add_device_argument(parser)


def run(args):
    from bisenetv1_plugin.tools import project

    data = []
    if args.data:
        if not os.path.isfile(args.data):
            raise UserError(f"{args.data} is no list of `image label` lines.")
        root = os.path.dirname(os.path.abspath(args.data))
        data = [f"val_dataset.val_path={args.data}", f"val_dataset.dataset_root={root}"]
    cfg = project.load_config(args.config, data)
    if not cfg.val_dataset_cfg:
        raise UserError(f"{args.config} has no val_dataset.")
    export = _export(args, cfg.val_dataset_cfg)
    project.set_device(args.device)
    build = project.Builder(cfg)
    model = project.trained_model(build, args.weights)
    dataset = build.val_dataset
    with tempfile.TemporaryDirectory() as folder:
        another = project.trained_model(project.Builder(cfg), args.weights)  # an export leaves its model converted
        twin = export if export.output_op == "none" else _logits_export(another, export, folder)
        runtimes = _runtimes(args, export, twin, dataset)
        reference, rows = _compare(model, dataset, runtimes, export)
    for runtime in runtimes:
        runtime.judge(reference)
    print(_table(reference, runtimes))
    if args.json:
        _write_json(args.json, len(dataset), reference, runtimes)
    if args.picture:
        _draw(args.picture, rows, runtimes, dataset.num_classes)
    return 0 if all(runtime.verdict == PARITY for runtime in runtimes) else 1


@dataclass
class _Runtime:
    """One runtime in one precision, its answers so far, and the verdict on them."""

    name: str
    precision: str
    exact: bool  # IoU and Acc of every class must be dygraph's to four decimals
    masks: Any  # runs the export
    logits: Optional[Any]  # runs the one that gives logits; None if there is none
    comparison: Any
    tally: Any
    verdict: Optional[str] = None
    reason: Optional[str] = None

    def add(self, image, reference_logits):
        """Run an image `[1, C, H, W]`; returns the mask, uint8 `[H, W]`."""
        output = self.masks.run(image)[0]
        logits = output if self.logits is self.masks else self.logits and self.logits.run(image)[0]
        mask = output.argmax(axis=0) if output.ndim == 3 else output
        self.comparison.add(reference_logits, mask, logits)
        return mask.astype("uint8")

    def judge(self, reference):
        """Give the verdict, against the `Tally` of dygraph."""
        from bisenetv1_plugin.tools import parity

        ours, theirs = self.tally.scores(), reference.scores()
        if self.precision != "fp32":
            fault = self.comparison.reduced_fault(self.precision, theirs, ours)
        else:
            fault = self.comparison.fault() or (parity.figure_fault(theirs, ours) if self.exact else None)
        has_logits = self.comparison.max_difference is not None or self.precision == "int8"
        missing = None if has_logits else "there are no logits to compare."
        missing = missing or parity.too_few(min(reference.classes, self.tally.classes), len(theirs.class_iou))
        self.verdict = NO_PARITY if fault else NOT_SHOWN if missing else PARITY
        self.reason = fault or missing


def _export(args, val):
    from bisenetv1_plugin.tools.predictor import Export

    path = os.path.join(args.exported, "deploy.yaml") if os.path.isdir(args.exported) else args.exported
    export = Export(path)
    if export.transform_list != val.get("transforms"):
        raise UserError(f"{path} has other transforms than the val_dataset of {args.config}: export again.")
    return export


def _logits_export(model, export, folder):
    """The same export again, without argmax."""
    from bisenetv1_plugin.tools import export as exporter
    from bisenetv1_plugin.tools.predictor import Export

    arguments = (model, folder, export.transform_list, export.input_shape, "none")
    try:
        exporter.save(*arguments, to="onnx" if export.onnx else "paddle")
    except UserError as error:
        print(f"bisenetv1: no logits but Paddle's: {error}", file=sys.stderr)
        exporter.save(*arguments)
    return Export(os.path.join(folder, "deploy.yaml"))


def _runtimes(args, export, twin, dataset):
    """The runtimes at hand; says which are not, and why."""
    from bisenetv1_plugin.tools import parity
    from bisenetv1_plugin.tools.backends import BACKENDS

    runtimes = []
    for backend, precision in itertools.product(BACKENDS, args.precision):
        options = {"cpu_threads": args.cpu_threads, "precision": precision}
        if backend == "paddle":
            options["enable_mkldnn"] = args.enable_mkldnn
        try:
            masks = BACKENDS[backend](export, **options)
        except UserError as error:
            print(f"bisenetv1: {backend} {precision} is not compared: {error}", file=sys.stderr)
            continue
        if twin is export:
            logits = masks
        elif precision == "int8":
            logits = None  # the twin is not quantised
        else:
            logits = BACKENDS[backend](twin, **options) if twin.onnx or backend == "paddle" else None
        comparison, tally = parity.Comparison(), parity.Tally(dataset.num_classes, dataset.ignore_index)
        exact = backend == "paddle" and not args.enable_mkldnn
        runtimes.append(_Runtime(f"{backend} {precision}", precision, exact, masks, logits, comparison, tally))
    if not runtimes:
        raise UserError("there is no runtime to compare with.")
    return runtimes


def _compare(model, dataset, runtimes, export):
    """Run everything on every image; returns the `Tally` of dygraph, and the pictures of a few images."""
    import numpy as np
    from tqdm import tqdm

    from bisenetv1_plugin.tools import parity
    from bisenetv1_plugin.tools.infer import restore

    reference = parity.Tally(dataset.num_classes, dataset.ignore_index)
    rows, step = [], max(1, len(dataset) // _SHOWN)
    for index in tqdm(range(len(dataset)), unit="image", desc="verify"):
        sample = dataset[index]
        image = np.asarray(sample["img"], dtype="float32")[np.newaxis]
        if export.misfit(image.shape):
            raise UserError(f"image {index} of the data does not fit: {export.misfit(image.shape)}.")
        logits = parity.dygraph_logits(model, image)
        masks = [logits.argmax(axis=0).astype("uint8"), *(runtime.add(image, logits) for runtime in runtimes)]
        label = np.asarray(sample["label"])
        for tally, mask in zip([reference, *(runtime.tally for runtime in runtimes)], masks):
            tally.add(restore(mask, sample["trans_info"]), label)
        if index % step == 0 and len(rows) < _SHOWN:
            rows.append((image[0], masks))
    return reference, rows


def _table(reference, runtimes):
    """Dygraph and the runtimes in columns: parity, then IoU and Acc of every class as `val` has them."""
    scores = [reference.scores(), *(runtime.tally.scores() for runtime in runtimes)]
    lines = [("", "dygraph", *(runtime.name for runtime in runtimes))]
    for title, key, form in _PARITY_ROWS:
        lines.append((title, "", *(_form(getattr(runtime.comparison, key), form) for runtime in runtimes)))
    lines.append(("mIoU", *(f"{score.miou:.4f}" for score in scores)))
    lines.append(("Acc", *(f"{score.acc:.4f}" for score in scores)))
    for title, part in (("IoU", 0), ("Acc", 1)):
        for index, values in enumerate(zip(*(score.rounded()[part] for score in scores))):
            lines.append((f"{title} of class {index}", *(f"{value:.4f}" for value in values)))
    text = "\n".join(f"{line[0]:<26}" + "".join(f"{cell:>18}" for cell in line[1:]) for line in lines)
    verdicts = [
        f"{runtime.name}: {runtime.verdict}" + f" ({runtime.reason})" * bool(runtime.reason) for runtime in runtimes
    ]
    return "\n".join(["", text, "", *verdicts])


_PARITY_ROWS = (
    ("largest logit difference", "max_difference", ".1e"),
    ("mean logit difference", "mean_difference", ".1e"),
    ("equal pixels", "agreement", ".4%"),
    ("widest margin, if not", "widest_margin", ".1e"),
)


def _form(value, form):
    return "-" if value is None else format(value, form)


def _write_json(path, images, reference, runtimes):
    import paddle

    def figures(scores):
        class_iou, class_acc = scores.rounded()
        return {"miou": scores.miou, "acc": scores.acc, "class_iou": class_iou, "class_acc": class_acc}

    entries = [
        {
            "name": runtime.name,
            "verdict": runtime.verdict,
            "reason": runtime.reason,
            **{key: getattr(runtime.comparison, key) for _, key, _ in _PARITY_ROWS},
            **figures(runtime.tally.scores()),
        }
        for runtime in runtimes
    ]
    content = {
        "paddle": paddle.__version__,
        "images": images,
        "predicted_classes": reference.classes,
        "dygraph": figures(reference.scores()),
        "runtimes": entries,
    }
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    os.replace(f"{path}.part", path)


def _draw(path, rows, runtimes, num_classes):
    """The images as the network sees them, and the masks of dygraph and every runtime, side by side."""
    from bisenetv1_plugin.tools import figures

    colors = figures.palette(num_classes)
    pictures = []
    for image, masks in rows:
        seen = image[:3].transpose(1, 2, 0)
        seen = (seen - seen.min()) / max(float(seen.max() - seen.min()), 1e-6)
        pictures.append([seen, *(colors[mask] for mask in masks)])
    figures.sheet(path, pictures, ["image", "dygraph", *(runtime.name for runtime in runtimes)])
