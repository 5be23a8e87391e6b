"""The verdict on a TIPC chain: does what was deployed say what the trained network says, class by class?"""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import List, Optional

import numpy as np

from bisenetv1_plugin.tipc.prepare import listed

LOGITS = 1e-3
PASS, FAIL, NOT_SHOWN = "pass", "fail", "parity not shown"


@dataclass
class Result:
    """One inference run of the chain against dygraph, over the images of the list.

    Attributes:
        name: the run's, as in the log folder.
        agreement: share of equal pixels, 0..1; None where masks are missing.
        logits: the largest difference of the logits, Paddle Inference against dygraph.
        class_iou, class_acc: of each class, to four decimals, 0..1; `predict_` those of dygraph.
        verdict, reason: PASS, FAIL or NOT_SHOWN, and why not PASS.
    """

    name: str
    images: int
    agreement: Optional[float]
    logits: float
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

    from bisenetv1_plugin.tools import parity, project

    pairs = listed(export.images)
    cfg = project.load_config(export.config)
    project.set_device("cpu")
    build = project.Builder(cfg)
    model = project.trained_model(build, str(export.weights))
    num_classes = build.val_dataset.num_classes
    transforms = build.val_dataset.transforms
    reference = parity.Tally(num_classes)
    tallies = [parity.Tally(num_classes) for _ in export.results]
    comparisons = [parity.Comparison() for _ in export.results]
    missing = [[] for _ in export.results]
    difference, rows = 0.0, []
    with tempfile.TemporaryDirectory() as folder:
        predictor = _logits_predictor(cfg, export, folder)
        for image, label in tqdm(pairs, unit="image", desc="verdict"):
            sample = transforms({"img": str(image), "label": str(label), "gt_fields": ["label"]})
            data = np.asarray(sample["img"], dtype="float32")[np.newaxis]
            logits = parity.dygraph_logits(model, data)
            difference = max(difference, float(np.abs(predictor.run(data)[0] - logits).max()))
            predicted, truth = logits.argmax(axis=0).astype("uint8"), np.asarray(sample["label"])
            reference.add(predicted, truth)
            shown = [predicted]
            for number, results in enumerate(export.results):
                mask = _mask(results / f"{image.stem}.png", predicted.shape)
                if mask is None or mask.max() >= num_classes:
                    missing[number].append(image.name)
                    continue
                tallies[number].add(mask, truth)
                comparisons[number].add(logits, mask)
                shown.append(mask)
            if len(rows) < 4 and len(shown) == 1 + len(export.results):
                rows.append((image, truth, shown))
    _draw(picture, rows, export, num_classes)
    return [
        _result(export.results[n].name, len(pairs), reference, tallies[n], comparisons[n], difference, missing[n])
        for n in range(len(export.results))
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
        print(f"\n{result.name}\n{'class':>6}{'IoU predict':>13}{'IoU infer':>11}{'Acc predict':>13}{'Acc infer':>11}")
        columns = (result.predict_class_iou, result.class_iou, result.predict_class_acc, result.class_acc)
        for number, values in enumerate(zip(*columns)):
            print(f"{number:>6}{values[0]:>13.4f}{values[1]:>11.4f}{values[2]:>13.4f}{values[3]:>11.4f}")
        print(f"mIoU predict {result.predict_miou:.4f}" + ("" if result.miou is None else f", infer {result.miou:.4f}"))
        print(f"logits differ by at most {result.logits:.1e}" + _agreement(result) + f": {result.verdict}")
        if result.reason:
            print(f"  {result.reason}")
    for command in failed:
        print(f"failed: {command}")
    if not results:
        print("nothing was inferred: parity not shown")
    print(f"TIPC verdict: {'pass' if passed else 'FAIL'}", flush=True)
    content = {"passed": passed, "failed": failed, "results": [asdict(result) for result in results]}
    beside = Path(f"{path}.part")
    beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, path)
    return passed


def _agreement(result):
    return "" if result.agreement is None else f", {result.agreement:.4%} of the pixels are equal"


def _result(name, images, reference, tally, comparison, difference, missing):
    from bisenetv1_plugin.tools import parity

    expected = reference.scores()
    verdict, reason, agreement, miou, iou, acc = PASS, "", None, None, [], []
    if missing:
        verdict, reason = FAIL, f"no usable mask of {len(missing)} of {images} images: {', '.join(missing[:3])} ..."
    else:
        scores = tally.scores()
        agreement, miou, (iou, acc) = comparison.agreement, scores.miou, scores.rounded()
        few = parity.too_few(reference.classes, len(iou))
        if comparison.fault():
            verdict, reason = FAIL, comparison.fault()
        elif scores.rounded() != expected.rounded():
            verdict, reason = FAIL, "the figures of the classes differ in the fourth decimal."
        elif difference > LOGITS:
            verdict, reason = FAIL, f"the logits differ by {difference:.1e}, more than {LOGITS:.0e}."
        elif few:
            verdict, reason = NOT_SHOWN, few
    expected_iou, expected_acc = expected.rounded()
    return Result(
        name, images, agreement, difference, expected.miou, miou, expected_iou, iou, expected_acc, acc, verdict, reason
    )


def _logits_predictor(cfg, export, folder):
    """Paddle Inference with the logits, which an export with argmax keeps to itself: exported once more without it."""
    from bisenetv1_plugin.tools import export as exporter
    from bisenetv1_plugin.tools import project
    from bisenetv1_plugin.tools.predictor import Predictor

    model = project.trained_model(project.Builder(cfg), str(export.weights))
    exporter.save(model, folder, cfg.val_dataset_cfg["transforms"], output_op="none")
    return Predictor(os.path.join(folder, "deploy.yaml"))


def _mask(path, shape):
    """The mask that an inference run left; None if it is missing or has another size."""
    from PIL import Image

    if not path.is_file():
        return None
    mask = np.asarray(Image.open(path))
    return mask if mask.shape == shape else None


def _draw(path, rows, export, num_classes):
    """Image, truth, prediction and every inference run, side by side."""
    import cv2

    from bisenetv1_plugin.tools import figures

    colors = figures.palette(num_classes)
    pictures = [
        [cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB), *(colors[mask] for mask in (truth, *shown))]
        for image, truth, shown in rows
    ]
    if pictures:
        titles = ["image", "truth", "predict", *(f"infer {n + 1}" for n in range(len(export.results)))]
        figures.sheet(path, pictures, titles)
