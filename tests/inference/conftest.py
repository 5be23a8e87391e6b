"""What every test of this folder restores."""

import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def most_pixels(monkeypatch):
    """Restore Pillow's limit, which a command with --is_slide raises for its process."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
