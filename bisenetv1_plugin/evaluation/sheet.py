"""Pictures of masks side by side."""

from __future__ import annotations

from typing import Any, Sequence

import cv2
import numpy as np

from bisenetv1_plugin import image_files
from bisenetv1_plugin.drawing import painter, plots
from bisenetv1_plugin.evaluation.confusion import IGNORED, WorstImage
from bisenetv1_plugin.evaluation.verify import ExampleImage

_WRONG = (220, 30, 30)  # RGB color of wrong pixels in `draw_worst`


def draw_sheet(
    path: str,
    shown: Sequence[ExampleImage],
    titles: Sequence[str],
    names: Sequence[str],
    colors: Sequence[Any],
    files: Sequence[Sequence[Any]] = (),
) -> str:
    """Draw the example images of `verify`, one per row: the image, and the masks of dygraph and every runtime.

    Args:
        path: path of the PNG.
        shown: the images.
        titles: titles of the mask columns.
        names, colors: names and colors of the classes; without colors, PaddleSeg's are used.
        files: the files of each sample in the dataset, the image first. If given, images are read from these files and
            the label is shown as well. Otherwise images are the network's input.

    Returns:
        The path.
    """
    palette = painter.palette(len(names), colors)
    rows = []
    for number, image, label, masks in shown:
        if not files:
            pixels = _displayable(image)
        else:
            height, width = masks[0].shape  # smaller than the files if validation resizes
            pixels = cv2.cvtColor(cv2.resize(cv2.imread(str(files[number][0])), (width, height)), cv2.COLOR_BGR2RGB)
            truth = label.reshape(label.shape[-2:]).astype("uint8")
            masks = [cv2.resize(truth, (width, height), interpolation=cv2.INTER_NEAREST), *masks]
        rows.append([pixels, *(palette[mask] for mask in masks)])
    legend = [*zip(painter.drawable_names(names), palette)]
    if files:
        titles, legend = ["truth", *titles], [*legend, ("ignored", palette[255])]
    return plots.draw_sheet(path, rows, ["image", *titles], legend)


def draw_worst(
    path: str,
    worst: Sequence[WorstImage],
    captions: Sequence[str],
    dataset: Any,
    names: Sequence[str],
    colors: Sequence[Any],
) -> str:
    """Draw images, one per row: the image, its label, the prediction, and where they differ.

    Args:
        path: path of the PNG.
        worst: the images.
        captions: a line above each image.
        dataset: the PaddleSeg dataset of the images. Without a `file_list`, or if OpenCV cannot read its files, the
            network's input is drawn.
        names, colors: names and colors of the classes; without colors, PaddleSeg's are used.

    Returns:
        The path.
    """
    palette = painter.palette(len(colors) or len(names), colors)
    rows, present = [], set()
    for figures, label, mask in worst:
        size = label.shape[::-1]
        pixels = cv2.resize(_picture(dataset, figures.number), size, interpolation=cv2.INTER_AREA)
        # A light gray image, so that the transparent red stands out.
        where = np.repeat(0.5 * pixels.mean(axis=2, keepdims=True) + 120, 3, axis=2)
        where[label != mask] = 0.4 * where[label != mask] + 0.6 * np.array(_WRONG)
        where[label == IGNORED] = palette[IGNORED]
        where = where.clip(0, 255).astype("uint8")
        rows.append([pixels, palette[label], palette[mask], where])
        present |= {*np.unique(label).tolist(), *np.unique(mask).tolist()}
    legend = [(name, palette[number]) for number, name in enumerate(painter.drawable_names(names)) if number in present]
    legend += [("ignored", palette[IGNORED])] * (IGNORED in present)
    legend.append(("wrong", _WRONG))
    return plots.draw_sheet(path, rows, ["picture", "label", "prediction", "where they differ"], legend, captions)


def image_file(dataset: Any, number: int) -> str | None:
    """Return the file of an image, or None if the dataset has no `file_list` like PaddleSeg's."""
    listed = getattr(dataset, "file_list", None)
    if not listed or len(listed) != len(dataset):
        return None
    return listed[number] if isinstance(listed[number], str) else str(listed[number][0])


def _picture(dataset: Any, number: int) -> np.ndarray:
    """Return an image of the dataset, uint8 RGB `[H, W, 3]`."""
    path = image_file(dataset, number)
    pixels = image_files.decode_file(path) if path else None
    if pixels is not None:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    seen = _displayable(np.asarray(dataset[number]["img"]))
    return np.repeat((255 * seen).astype("uint8"), 3 // seen.shape[2], axis=2)


def _displayable(image: np.ndarray) -> np.ndarray:
    """Convert a network input `[C, h, w]` to a displayable image `[h, w, 1 or 3]`, 0..1."""
    seen = (image[:3] if len(image) >= 3 else image[:1]).transpose(1, 2, 0)
    return (seen - seen.min()) / max(float(seen.max() - seen.min()), 1e-6)
