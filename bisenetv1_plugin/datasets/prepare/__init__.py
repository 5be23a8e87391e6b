"""Turns a downloaded CamVid or Cityscapes into what PaddleSeg reads: images, labels of class indices, lists.

Label files are PNG, one byte a pixel: a class index, or 255 where nothing is to be learned or scored. A list
file has one ``image label`` pair a line, relative to its folder, as PaddleSeg's ``Dataset`` expects.

Every function here looks at all files before it complains, and complains once, naming them. A new folder
appears whole or not at all.
"""

from bisenetv1_plugin.datasets.prepare.camvid import CAMVID_CLASSES, CAMVID_COLORS, prepare_camvid
from bisenetv1_plugin.datasets.prepare.cityscapes import prepare_cityscapes
from bisenetv1_plugin.datasets.prepare.dataset_files import Prepared

__all__ = ["CAMVID_CLASSES", "CAMVID_COLORS", "Prepared", "prepare_camvid", "prepare_cityscapes"]
