"""Prepares a downloaded CamVid or Cityscapes for PaddleSeg: images, labels of class indices, lists.

Label files are PNG with one byte per pixel: a class index, or 255 for pixels that are ignored. A list file has one
`image label` pair per line, relative to its folder, as PaddleSeg's `Dataset` expects.

Every function reads all files and reports all problems in one error. A new folder is written completely or not at all.
"""

from bisenetv1_plugin.datasets.prepare.camvid import CAMVID_CLASSES, CAMVID_COLORS, prepare_camvid
from bisenetv1_plugin.datasets.prepare.cityscapes import prepare_cityscapes
from bisenetv1_plugin.datasets.prepare.dataset_files import Prepared

__all__ = ["CAMVID_CLASSES", "CAMVID_COLORS", "Prepared", "prepare_camvid", "prepare_cityscapes"]
