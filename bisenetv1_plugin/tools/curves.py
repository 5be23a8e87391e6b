"""Draw the loss and mIoU curves of a training that recorded them (--use_vdl)."""

import os
from glob import glob

from bisenetv1_plugin.tools.errors import UserError

SUMMARY = "draw the curves of a training recorded with --use_vdl"


def add_arguments(parser):
    parser.add_argument("save_dir", help="the folder that --save_dir named; curves.png is written there")


def run(args):
    print(f"The curves are in {draw(args.save_dir)}")


def draw(save_dir):
    """Write `curves.png` into `save_dir`; returns its path.

    Raises:
        UserError: the folder holds no VisualDL record of a training, or an empty one.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    loss, miou = read(save_dir, "Train/loss"), read(save_dir, "Evaluate/mIoU")
    if not loss:
        raise UserError(f"the VisualDL record in {save_dir} holds no Train/loss: was the training stopped at once?")
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


def read(save_dir, tag):
    """The points (iteration, value) of a VisualDL tag, over all the records of the folder, sorted.

    Raises:
        UserError: there is no record.
    """
    from visualdl import LogReader

    records = sorted(glob(os.path.join(save_dir, "vdlrecords.*.log")))
    if not records:
        raise UserError(f"{save_dir} holds no VisualDL record: train with --use_vdl.")
    points = {}
    for record in records:  # a resumed training writes a record of its own; the later one counts
        reader = LogReader(file_path=record)
        if tag in reader.get_tags().get("scalar", []):
            points.update((point.id, point.value) for point in reader.get_data("scalar", tag))
    return sorted(points.items())
