"""Pictures people look at: coloured masks and sheets of them."""


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
