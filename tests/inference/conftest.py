"""The small network of `small_network.py`, for every test of this folder."""

import pytest
from PIL import Image
from small_network import dynamic, export, logits, small  # noqa: F401 - fixtures


@pytest.fixture(autouse=True)
def most_pixels(monkeypatch):
    """A command with --is_slide lets Pillow read larger pictures, in a process that is its own."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
