"""BiSeNetV1 (ECCV 2018) as a plugin for PaddleSeg. Importing this package is free: nothing else is loaded."""

__version__ = "0.1.0"
