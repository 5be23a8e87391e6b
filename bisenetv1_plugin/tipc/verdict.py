"""The verdict on a TIPC chain: does what was deployed say what the trained network says, class by class?"""

import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from typing import List, Optional

import numpy as np

from bisenetv1_plugin import files
from bisenetv1_plugin.evaluation import table
from bisenetv1_plugin.tipc.params import TipcError
from bisenetv1_plugin.tipc.prepare import listed

PASS, FAIL, NOT_SHOWN = "pass", "fail", "parity not shown"


@dataclass
class Result:
    """One inference run of the chain against dygraph, over the images of the list.

    Attributes:
        name: the run's, as in the log folder.
        classes: the names of the classes.
        agreement: share of equal pixels, 0..1; None where masks are missing.
        logits: the largest difference of the runtime's logits and dygraph's; None for fp16 and int8, and with no mask.
        class_iou, class_acc: of each class, to four decimals, 0..1; `predict_` those of dygraph.
        verdict, reason: PASS, FAIL or NOT_SHOWN, and why not PASS.
    """

    name: str
    classes: List[str]
    images: int
    agreement: Optional[float]
    logits: Optional[float]
    predict_miou: float
    miou: Optional[float]
    predict_class_iou: List[float]
    class_iou: List[float]
    predict_class_acc: List[float]
    class_acc: List[float]
    verdict: str
    reason: str = ""


def judge(export, picture):
    """Compare every inference run of an export with dygraph.

    Args:
        export (chain.Export): what was exported, and where its results are.
        picture (Path): where to draw the masks of both side by side.

    Returns:
        list[Result]: one for each run.

    Raises:
        TipcError: the list of images cannot be read or has no labels.
    """
    from tqdm import tqdm

    from bisenetv1_plugin.datasets.classes import named_classes
    from bisenetv1_plugin.evaluation import parity
    from bisenetv1_plugin.training import builder

    pairs = listed(export.images)
    cfg, build, model = builder.open_network(export.config, export.weights, "cpu")
    num_classes = build.val_dataset.num_classes
    classes = named_classes(cfg, num_classes)
    transforms = build.val_dataset.transforms
    ignored = build.val_dataset.ignore_index
    tallies = [parity.Tally(num_classes, ignored) for _ in export.runs]
    reference = parity.Tally(num_classes, ignored)
    comparisons = [parity.Comparison() for _ in export.runs]
    missing = [[] for _ in export.runs]
    rows, drawn = [], pairs[:: max(1, len(pairs) // 4)][:4]
    with tempfile.TemporaryDirectory() as folder:
        twins = _twins(cfg, export, folder)
        for image, label in tqdm(pairs, unit="image", desc="verdict"):
            sample = transforms({"img": str(image), "label": str(label), "gt_fields": ["label"]})
            if sample["trans_info"]:
                raise TipcError(
                    f"{export.config} resizes or pads images for validation: masks of both must be comparable."
                )
            data = np.asarray(sample["img"], dtype="float32")[np.newaxis]
            logits = parity.dygraph_logits(model, data)
            theirs = {key: twin.run(data)[0] for key, twin in twins.items()}
            predicted, truth = logits.argmax(axis=0).astype("uint8"), np.asarray(sample["label"])
            reference.add(predicted, truth)
            shown = [predicted]
            for number, run in enumerate(export.runs):
                mask = _mask(run.results / f"{image.stem}.png", predicted.shape)
                if mask is None or mask.max() >= num_classes:
                    missing[number].append(image.name)
                    continue
                tallies[number].add(mask, truth)
                comparisons[number].add(logits, mask, theirs.get(_runtime(run)))
                shown.append(mask)
            if (image, label) in drawn and len(shown) == 1 + len(export.runs):
                rows.append((image, truth, shown))
    _draw(picture, rows, export, classes)
    return [
        _result(run, classes, len(pairs), reference, *found)
        for run, *found in zip(export.runs, tallies, comparisons, missing)
    ]


def report(results, failed, path):
    """Print the table and write the same as JSON; whether everything passed.

    Args:
        results (list[Result]): of all exports.
        failed (list[str]): the commands of the chain that failed.
        path (Path): the JSON file.
    """
    passed = bool(results) and not failed and all(result.verdict == PASS for result in results)
    for result in results:
        columns = {
            **{"IoU predict": result.predict_class_iou, "IoU infer": result.class_iou},
            **{"Acc predict": result.predict_class_acc, "Acc infer": result.class_acc},
        }
        print(f"\n{result.name}\n{table.by_class(result.classes, columns)}")
        print(f"mIoU predict {result.predict_miou:.4f}" + ("" if result.miou is None else f", infer {result.miou:.4f}"))
        print("; ".join(_shown(result)) + f": {result.verdict}")
        if result.reason:
            print(f"  {result.reason}")
    for command in failed:
        print(f"failed: {command}")
    if not results:
        print("nothing was inferred: parity not shown")
    print(f"TIPC verdict: {'pass' if passed else 'FAIL'}", flush=True)
    content = {"passed": passed, "failed": failed, "results": [asdict(result) for result in results]}
    files.write(path, json.dumps(content, indent=1).encode() + b"\n")
    return passed


def _shown(result):
    if result.agreement is not None:
        yield f"{result.agreement:.4%} of the pixels are equal"
    if result.logits is not None:
        yield f"logits differ by at most {result.logits:.1e}"


def _result(run, classes, images, reference, tally, comparison, missing):
    from bisenetv1_plugin.evaluation import parity

    expected = reference.scores()
    verdict, reason, agreement, miou, iou, acc = PASS, "", None, None, [], []
    if missing:
        verdict, reason = FAIL, f"no usable mask of {len(missing)} of {images} images: {', '.join(missing[:3])} ..."
    else:
        scores = tally.scores()
        agreement, miou, (iou, acc) = comparison.agreement, scores.miou, scores.rounded()
        few = parity.too_few(min(reference.classes, tally.classes), len(iou))
        if run.precision != "fp32":
            reason = comparison.reduced_fault(run.precision, expected, scores)
        elif run.options is not None and comparison.max_difference is None:
            reason = "there are no logits to compare."
        else:
            reason = comparison.fault() or parity.figure_fault(expected, scores)
        if reason:
            verdict = FAIL
        elif few:
            verdict, reason = NOT_SHOWN, few
    expected_iou, expected_acc = expected.rounded()
    return Result(
        name=run.results.name,
        classes=list(classes.names),
        images=images,
        agreement=agreement,
        logits=comparison.max_difference,
        predict_miou=expected.miou,
        miou=miou,
        predict_class_iou=expected_iou,
        class_iou=iou,
        predict_class_acc=expected_acc,
        class_acc=acc,
        verdict=verdict,
        reason=reason or "",
    )


def _runtime(run):
    """Equal for two runs that compute the same logits; None if a run's cannot be held against dygraph's."""
    return None if run.options is None or run.precision != "fp32" else (run.backend, *sorted(run.options.items()))


def _twins(cfg, export, folder):
    """A runtime with the logits for each that ran: those exports end in argmax, and here is one without."""
    from bisenetv1_plugin.errors import InputError
    from bisenetv1_plugin.export.write import write_export
    from bisenetv1_plugin.inference.exported import Export
    from bisenetv1_plugin.inference.runtimes import RUNTIMES
    from bisenetv1_plugin.machine import cores
    from bisenetv1_plugin.training import builder

    runs = {_runtime(run): run for run in export.runs if _runtime(run)}
    if not runs:
        return {}
    model = builder.open_network(cfg, export.weights).model
    to = "paddle" if all(run.backend == "paddle" for run in runs.values()) else "onnx"
    write_export(model, folder, cfg.val_dataset_cfg["transforms"], output_op="none", to=to)
    logits = Export(os.path.join(folder, "deploy.yaml"))
    twins = {}
    for key, run in runs.items():
        try:
            twins[key] = RUNTIMES[run.backend](logits, cpu_threads=cores(), **run.options)
        except InputError as error:  # the run itself will have failed as well
            print(f"{run.results.name}: no logits: {error}", file=sys.stderr)
    return twins


def _mask(path, shape):
    """The mask that an inference run left; None if it is missing or has another size."""
    from PIL import Image

    if not path.is_file():
        return None
    mask = np.asarray(Image.open(path))
    return mask if mask.shape == shape else None


def _draw(path, rows, export, classes):
    """Image, truth, prediction and every inference run, side by side."""
    import cv2

    from bisenetv1_plugin.drawing import painter, plots

    colors = painter.palette(len(classes.names), classes.colors)
    pictures = [
        [cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB), *(colors[mask] for mask in (truth, *shown))]
        for image, truth, shown in rows
    ]
    if pictures:
        titles = ["image", "truth", "predict", *(f"infer {n + 1}" for n in range(len(export.runs)))]
        plots.sheet(path, pictures, titles, [*zip(classes.names, colors)])
