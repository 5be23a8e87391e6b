"""Pictures people look at: coloured masks and sheets of them."""


def colored(mask, num_classes):
    """PaddleSeg's palette for a mask, black for 255: integer `[H, W]` -> uint8 RGB `[H, W, 3]`."""
    import numpy as np
    from paddleseg.utils import visualize

    palette = np.zeros((256, 3), "uint8")
    palette[:num_classes] = np.asarray(visualize.get_color_map_list(256), "uint8").reshape(-1, 3)[:num_classes]
    return palette[mask]


def sheet(path, rows, titles):
    """Write rows of RGB pictures under column titles as one PNG; returns the path."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    height, width = rows[0][0].shape[:2]
    size = (3 * len(titles), (3 * height / width + 0.05) * len(rows) + 0.3)
    figure, axes = plt.subplots(len(rows), len(titles), figsize=size, squeeze=False, layout="constrained")
    for row, pictures in zip(axes, rows):
        for axis, picture in zip(row, pictures):
            axis.imshow(picture)
            axis.set_axis_off()
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
