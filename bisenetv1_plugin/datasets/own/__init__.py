"""Writes a configuration for a folder of images and labels, and converts the labels where needed.

`walk` lists the files. `layouts`, `lists`, `coco` and `labelme` pair images with labels, and `census` reads every pair.
`encoding` decides what the label values mean, with `tables` of names and colors. `split` and `recipe` choose the splits
and the training settings. `configure` runs these steps and writes the files.
"""

from bisenetv1_plugin.datasets.own.configure import Summary, configure
from bisenetv1_plugin.datasets.own.options import Options

__all__ = ["Options", "Summary", "configure"]
