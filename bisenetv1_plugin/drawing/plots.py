"""Draw plots as PNG files: masks side by side, confusion matrices, training curves and bars."""

from __future__ import annotations

import glob
import os
from types import ModuleType
from typing import TYPE_CHECKING, Sequence

import cv2
import numpy as np
from PIL import Image

from bisenetv1_plugin.drawing.painter import RGB, drawable_names, find_font, palette
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.files import check_outputs, made_by, whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

MADE_BY = "figure"  # see `whole_file`


def draw_sheet(
    path: str,
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    legend: Sequence[tuple[str, RGB]] = (),
    captions: Sequence[str] = (),
) -> str:
    """Write rows of RGB pictures under column titles as one PNG; returns the path.

    Args:
        path: the file.
        rows: the pictures, uint8 or float 0..1 `[H, W, 3]`; all of a row have the same shape.
        titles: the titles of the columns.
        legend: names with their RGB.
        captions: a line above each row.
    """
    from matplotlib import patches

    plt = _pyplot()
    width = 3 * len(titles)
    heights = [min(2.0, row[0].shape[0] / row[0].shape[1]) for row in rows]  # in widths of a column
    texts = _fit_texts([name for name, _ in legend], most=60)
    longest = max((len(text) for text, _ in texts), default=0)
    ncols = max(
        1, min(8, int(72 * width / (6 * longest + 40)))
    )  # in points: 6 for a letter, 40 for a patch with margins
    lines = max(1, -(-len(legend) // ncols))
    size = (width, sum(3 * height + 0.05 + 0.2 * bool(captions) for height in heights) + 0.4 + 0.2 * lines)
    figure, axes = plt.subplots(
        len(rows), len(titles), figsize=size, squeeze=False, layout="constrained", height_ratios=heights
    )
    for row, pictures in zip(axes, rows):
        for axis, picture in zip(row, pictures):
            axis.imshow(picture)
            axis.set_axis_off()
            axis.set_title(" " * bool(captions), fontsize=9)  # room for the caption
    for axis, title in zip(axes[0], titles):
        axis.set_title(title + "\n " * bool(captions), fontsize=10)
    for row, (text, font) in zip(axes, _fit_texts(captions, most=int(72 * width / 5.5))):
        # An annotation may span the columns; a title would move them.
        place = {"xy": (0, 1), "xytext": (0, 4), "xycoords": "axes fraction", "textcoords": "offset points"}
        row[0].annotate(text, fontproperties=font, fontsize=9, **place).set_in_layout(False)
    handles = [
        patches.Patch(color=(color[0] / 255, color[1] / 255, color[2] / 255), label=text)
        for (text, _), (_, color) in zip(texts, legend)
    ]
    drawn = figure.legend(handles=handles, loc="outside lower center", ncols=ncols, fontsize=9, frameon=False)
    for label, (_, font) in zip(drawn.get_texts(), texts):
        label.set_fontproperties(font)
        label.set_fontsize(9)
    _save(figure, path, dpi=110)
    return path


def draw_confusion(path: str, shares: np.ndarray, names: Sequence[str]) -> str:
    """Write a confusion matrix as a PNG; returns the path.

    Args:
        path: the file.
        shares: `[classes, classes]`, rows of labels, columns of predictions, each row 0..1 or NaN.
        names: the names of the classes.
    """
    import matplotlib
    from matplotlib import colors

    has_numbers = len(names) <= 30
    cell, letters = (0.42, 8) if has_numbers else (0.13, 6)  # inches, points
    texts = _fit_texts(drawable_names(names), most=28)
    margin = max(len(text) for text, _ in texts) * letters / 100 + 0.6
    side = cell * len(names)
    size = max(4.0, side + margin + 1), max(3.0, side + margin)
    figure, axis = _pyplot().subplots(figsize=size, layout="constrained")
    # The square root makes small shares visible.
    blues = matplotlib.colormaps["Blues"].with_extremes(bad="0.85")
    drawn = axis.imshow(shares, cmap=blues, norm=colors.PowerNorm(0.5, vmin=0, vmax=1))
    axis.set(xlabel="prediction", ylabel="label" + " (gray: no pixels)" * bool(np.isnan(shares).any()))
    for ticks, turned in ((axis.xaxis, 90), (axis.yaxis, 0)):
        ticks.set_ticks(range(len(names)), [text for text, _ in texts])
        for label, (_, font) in zip(ticks.get_ticklabels(), texts):
            label.set(fontproperties=font, fontsize=letters, rotation=turned)
    if has_numbers:
        for (row, column), share in np.ndenumerate(shares):
            if share > 0:
                shade = "white" if share > 0.3 else "black"
                axis.text(column, row, _percent(share), color=shade, fontsize=7, ha="center", va="center")
    bar = figure.colorbar(
        drawn, ax=axis, ticks=[0, 0.01, 0.05, 0.1, 0.2, 0.5, 1], format="{x:.0%}", fraction=0.6 / size[0], pad=0.02
    )
    bar.set_label("share of the label's pixels", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    _save(figure, path, dpi=110)
    return path


def _percent(share: float) -> str:
    if share < 0.0005:
        return "<0.1"
    return f"{100 * share:.1f}" if share < 0.0995 or 0.995 <= share < 0.9995 else f"{100 * share:.0f}"


def _fit_texts(texts: Sequence[str], most: int) -> list[tuple[str, FontProperties]]:
    """Texts with suitable fonts, shortened to `most` letters. A letter that no font has becomes `?`."""
    from matplotlib.font_manager import FontProperties

    common = find_font(frozenset("".join(texts)))
    found = []
    for text in texts:
        path = common or find_font(frozenset(text))
        if not path:
            text = "".join(letter if find_font(frozenset(letter)) else "?" for letter in text)
            path = find_font(frozenset(text))
        # Matplotlib would parse text between dollars as a formula.
        found.append((shorten(text, most).replace("$", r"\$"), FontProperties(fname=path)))
    return found


def shorten(text: str, most: int) -> str:
    """A text of at most `most` letters; a longer one loses its middle."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]}...{text[-(most // 2 - 2) :]}"


def draw_curves(save_dir: str) -> str:
    """Write `curves.png` into `save_dir`; returns its path.

    Raises:
        InputError: the folder has no VisualDL record, or an empty one, or its `curves.png` was not written by this
            function.
    """
    path = os.path.join(save_dir, "curves.png")
    check_outputs([path], is_ours=made_by(MADE_BY))
    plt = _pyplot()
    loss, miou = read_curve(save_dir, "Train/loss"), read_curve(save_dir, "Evaluate/mIoU")
    if not loss:
        raise InputError(f"the VisualDL record in {save_dir} has no Train/loss: was the training stopped at its start?")
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


def _pyplot() -> ModuleType:
    """Matplotlib's `pyplot`, without a screen."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure: Figure, path: str, dpi: int) -> None:
    try:
        # Without an ending, Matplotlib would add one and write another file.
        with whole_file(path, MADE_BY) as temporary:
            figure.savefig(temporary, dpi=dpi, format=os.path.splitext(path)[1][1:] or "png")
    finally:
        _pyplot().close(figure)


def read_curve(save_dir: str, tag: str) -> list[tuple[int, float]]:
    """The points (iteration, value) of a VisualDL tag in all records of the folder, sorted.

    Raises:
        InputError: the folder has no record.
    """
    from visualdl import LogReader

    records = sorted(glob.glob(os.path.join(glob.escape(save_dir), "vdlrecords.*.log")))
    if not records:
        raise InputError(f"{save_dir} has no VisualDL record: train with --use_vdl.")
    points: dict[int, float] = {}
    for record in records:  # a resumed training writes another record, which takes precedence
        reader = LogReader(file_path=record)
        if tag in reader.get_tags().get("scalar", []):
            points.update((point.id, point.value) for point in reader.get_data("scalar", tag))
    return sorted(points.items())


def draw_bars(path: str, values: Sequence[tuple[str, float]], label: str) -> str:
    """Write horizontal bars of (name, number), the first on top, as a PNG; returns the path."""
    plt = _pyplot()
    names, numbers = zip(*values)
    figure, axis = plt.subplots(figsize=(9, 0.35 * len(names) + 1), layout="constrained")
    drawn = axis.barh(range(len(names)), numbers, tick_label=names)
    axis.bar_label(drawn, fmt="%.0f", padding=3)
    axis.invert_yaxis()
    axis.margins(x=0.15)  # room for the longest number
    axis.set(xlabel=label)
    _save(figure, path, dpi=110)
    return path


def draw_labels(
    path: str,
    pairs: Sequence[tuple[str | os.PathLike[str], str | os.PathLike[str]]],
    names: Sequence[str],
    colors: Sequence[RGB] = (),
) -> str:
    """Write images with their colored labels, beside and over the image, as one PNG; returns the path.

    Args:
        path: the file.
        pairs: paths of images and of labels, 8-bit class numbers; any size.
        names: the names of the classes, for the legend.
        colors: see `palette`.
    """
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
    legend = [*zip(drawable_names(names), table), ("ignored", table[255])]
    return draw_sheet(path, rows, ["image", "label", "both"], legend)
