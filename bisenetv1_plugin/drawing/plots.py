"""Pictures of figures: sheets of masks side by side, the curves of a training, bars."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING, Sequence

import numpy as np

from bisenetv1_plugin.drawing.painter import RGB, palette
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.files import check_outputs, made_by, whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MADE_BY = "figure"  # see `whole_file`


def sheet(
    path: str, rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], legend: Sequence[tuple[str, RGB]] = ()
) -> str:
    """Write rows of RGB pictures under column titles as one PNG, `legend` a list of (name, RGB); returns the path."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import patches
    from matplotlib import pyplot as plt

    height, width = rows[0][0].shape[:2]
    size = (3 * len(titles), (3 * height / width + 0.05) * len(rows) + 0.6)
    figure, axes = plt.subplots(len(rows), len(titles), figsize=size, squeeze=False, layout="constrained")
    for row, pictures in zip(axes, rows):
        for axis, picture in zip(row, pictures):
            axis.imshow(picture)
            axis.set_axis_off()
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=10)
    handles = [
        patches.Patch(color=(color[0] / 255, color[1] / 255, color[2] / 255), label=name) for name, color in legend
    ]
    longest = max((len(name) for name, _ in legend), default=0)
    ncols = max(1, min(8, int(72 * size[0] / (6 * longest + 40))))  # in points: a letter, and a patch with its margins
    figure.legend(handles=handles, loc="outside lower center", ncols=ncols, fontsize=9, frameon=False)
    _save(figure, path, dpi=110)
    return path


def draw_curves(save_dir: str) -> str:
    """Write `curves.png` into `save_dir`; returns its path.

    Raises:
        InputError: the folder holds no VisualDL record of a training, or an empty one; or its `curves.png` is none of
            a training.
    """
    path = os.path.join(save_dir, "curves.png")
    check_outputs([path], is_ours=made_by(MADE_BY))
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    loss, miou = read_curve(save_dir, "Train/loss"), read_curve(save_dir, "Evaluate/mIoU")
    if not loss:
        raise InputError(f"the VisualDL record in {save_dir} holds no Train/loss: was the training stopped at once?")
    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axis.plot(*zip(*loss), color="tab:blue", label="training loss")
    axis.set(xlabel="iteration", ylabel="loss (three heads)")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    if miou:
        right = axis.twinx()
        right.plot(*zip(*miou), color="tab:orange", marker="o", markersize=3, label="validation mIoU")
        right.set(ylabel="mIoU", ylim=(0, 1))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    _save(figure, path, dpi=120)
    return path


def _save(figure: Figure, path: str, dpi: int) -> None:
    from matplotlib import pyplot as plt

    try:
        # Where the name has no ending, matplotlib would add one, and write beside the file that becomes `path`.
        with whole_file(path, MADE_BY) as beside:
            figure.savefig(beside, dpi=dpi, format=os.path.splitext(path)[1][1:] or "png")
    finally:
        plt.close(figure)


def read_curve(save_dir: str, tag: str) -> list[tuple[int, float]]:
    """The points (iteration, value) of a VisualDL tag, over all the records of the folder, sorted.

    Raises:
        InputError: there is no record.
    """
    from visualdl import LogReader

    records = sorted(glob.glob(os.path.join(glob.escape(save_dir), "vdlrecords.*.log")))
    if not records:
        raise InputError(f"{save_dir} holds no VisualDL record: train with --use_vdl.")
    points: dict[int, float] = {}
    for record in records:  # a resumed training writes a record of its own; the later one counts
        reader = LogReader(file_path=record)
        if tag in reader.get_tags().get("scalar", []):
            points.update((point.id, point.value) for point in reader.get_data("scalar", tag))
    return sorted(points.items())


def bars(path: str, values: Sequence[tuple[str, float]], label: str) -> str:
    """Write a PNG of horizontal bars, `values` a list of (name, number), the first on top; returns the path."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names, numbers = zip(*values)
    figure, axis = plt.subplots(figsize=(9, 0.35 * len(names) + 1), layout="constrained")
    drawn = axis.barh(range(len(names)), numbers, tick_label=names)
    axis.bar_label(drawn, fmt="%.0f", padding=3)
    axis.invert_yaxis()
    axis.margins(x=0.15)  # room for the longest number
    axis.set(xlabel=label)
    _save(figure, path, dpi=110)
    return path


def labelled(
    path: str,
    pairs: Sequence[tuple[str | os.PathLike[str], str | os.PathLike[str]]],
    names: Sequence[str],
    colors: Sequence[RGB] = (),
) -> str:
    """Write images with their labels in the classes' colors, beside and over the image, as one PNG; returns the path.

    Args:
        path: the file.
        pairs (sequence[tuple]): paths of images and of labels, 8-bit class numbers; any sizes.
        names (sequence[str]): of the classes, for the legend.
        colors (sequence[tuple[int]]): see `palette`.
    """
    import cv2
    import numpy as np
    from PIL import Image

    table = palette(len(names), colors)
    rows = []
    for image, label in pairs:
        with Image.open(label) as file:
            height, width = file.height, file.width
            scale = min(1.0, 640 / max(width, height))
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            truth = table[np.asarray(file.resize(size, Image.Resampling.NEAREST))]
        reduced = cv2.IMREAD_REDUCED_COLOR_4 if scale < 0.25 else cv2.IMREAD_COLOR
        pixels = cv2.cvtColor(cv2.resize(cv2.imread(str(image), reduced), size), cv2.COLOR_BGR2RGB)
        rows.append([pixels, truth, (0.5 * pixels + 0.5 * truth).astype("uint8")])
    legend = [*zip(names, table), ("ignored", table[255])]
    return sheet(path, rows, ["image", "label", "both"], legend)
