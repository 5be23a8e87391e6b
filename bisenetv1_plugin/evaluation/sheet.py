"""A picture of masks side by side."""

from __future__ import annotations

from typing import Any, Sequence

import cv2

from bisenetv1_plugin.drawing import painter, plots
from bisenetv1_plugin.evaluation.verify import Shown


def draw_sheet(
    path: str,
    shown: Sequence[Shown],
    titles: Sequence[str],
    names: Sequence[str],
    colors: Sequence[Any],
    files: Sequence[Sequence[Any]] = (),
) -> str:
    """Draw the images that `verify` shows, a row each: the image, and the masks of dygraph and of every runtime.

    Args:
        path (str): the PNG.
        shown (sequence[Shown]): the images.
        titles (sequence[str]): of the columns of masks.
        names, colors (sequence): of the classes; without colors, PaddleSeg's.
        files (sequence, optional): the data's files, the image first: then the image is its file's, and the truth
            stands beside it. Otherwise it is as the network sees it.

    Returns:
        str: the path.
    """
    palette = painter.palette(len(names), colors)
    rows = []
    for number, image, label, masks in shown:
        if not files:
            seen = image[:3].transpose(1, 2, 0)
            pixels = (seen - seen.min()) / max(float(seen.max() - seen.min()), 1e-6)
        else:
            height, width = masks[0].shape  # smaller than the files' where validation resizes
            pixels = cv2.cvtColor(cv2.resize(cv2.imread(str(files[number][0])), (width, height)), cv2.COLOR_BGR2RGB)
            truth = label.reshape(label.shape[-2:]).astype("uint8")
            masks = [cv2.resize(truth, (width, height), interpolation=cv2.INTER_NEAREST), *masks]
        rows.append([pixels, *(palette[mask] for mask in masks)])
    legend = [*zip(names, palette)]
    if files:
        titles, legend = ["truth", *titles], [*legend, ("ignored", palette[255])]
    return plots.sheet(path, rows, ["image", *titles], legend)
