"""The small network of `small_network.py`, for every test of this folder."""

import pytest
from PIL import Image
from small_network import dynamic, export, logits, small  # noqa: F401 - fixtures


@pytest.fixture(autouse=True)
def most_pixels(monkeypatch):
    """Restore Pillow's limit, which a command with --is_slide raises for its process."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
