"""The small network of `small_network.py`, for every test of this folder."""

from small_network import dynamic, export, logits, small  # noqa: F401 - fixtures
