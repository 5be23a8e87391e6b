"""Runs an exported folder: pictures in, masks out. Nothing here needs Paddle or PaddleSeg."""
