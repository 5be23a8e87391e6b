"""Pictures people look at: coloured masks and sheets of them, and the curves of a training."""

import os
from glob import glob

from bisenetv1_plugin.errors import InputError


def palette(num_classes):
    """PaddleSeg's colours of the classes, black for all other values: uint8 RGB `[256, 3]`."""
    import numpy as np
    from paddleseg.utils import visualize

    colors = np.zeros((256, 3), "uint8")
    colors[:num_classes] = np.asarray(visualize.get_color_map_list(256), "uint8").reshape(-1, 3)[:num_classes]
    return colors


def sheet(path, rows, titles, legend=()):
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
    handles = [patches.Patch(color=[channel / 255 for channel in color], label=name) for name, color in legend]
    figure.legend(handles=handles, loc="outside lower center", ncols=8, fontsize=9, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def draw_curves(save_dir):
    """Write `curves.png` into `save_dir`; returns its path.

    Raises:
        InputError: the folder holds no VisualDL record of a training, or an empty one.
    """
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
    path = os.path.join(save_dir, "curves.png")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def read_curve(save_dir, tag):
    """The points (iteration, value) of a VisualDL tag, over all the records of the folder, sorted.

    Raises:
        InputError: there is no record.
    """
    from visualdl import LogReader

    records = sorted(glob(os.path.join(save_dir, "vdlrecords.*.log")))
    if not records:
        raise InputError(f"{save_dir} holds no VisualDL record: train with --use_vdl.")
    points = {}
    for record in records:  # a resumed training writes a record of its own; the later one counts
        reader = LogReader(file_path=record)
        if tag in reader.get_tags().get("scalar", []):
            points.update((point.id, point.value) for point in reader.get_data("scalar", tag))
    return sorted(points.items())
