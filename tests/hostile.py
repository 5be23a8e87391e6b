"""Encoded pictures, and damaged files for the tests."""

import io

import hypothesis.strategies as st
import numpy as np
from PIL import Image


def encoded(format, size=(48, 32), **options):
    scene = np.arange(size[0] * size[1] * 3, dtype="uint8").reshape(size[1], size[0], 3)
    content = io.BytesIO()
    Image.fromarray(scene).save(content, format, **options)
    return content.getvalue()


@st.composite
def damaged(draw, contents):
    """A file as another program could have left it: some bytes changed, a part cut out, doubled or of another file."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        # Heads of files and of their parts are short, and say most.
        at = at % 200 if draw(st.booleans()) else at
        end = at + draw(st.sampled_from([1, 2, 4, 8, 64]))
        how = draw(st.sampled_from(["flip", "cut", "end", "double", "splice", "number"]))
        if how == "flip" and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del content[at:end]
        elif how == "end":
            del content[at:]
        elif how == "double":
            content[at:at] = content[at:end]
        elif how == "splice":
            other = draw(st.sampled_from(contents))
            content[at:end] = other[at : at + draw(st.integers(0, 400))]
        elif how == "number":
            numbers = [
                bytes(4),
                b"\xff" * 4,
                b"\x7f\xff\xff\xff",
                b"\0\0\xff\xff",
                b"\xff\xff\0\0",
                b"\1" * 8,
                b"\xff" * 8,
            ]
            value = draw(st.sampled_from(numbers))
            content[at : at + len(value)] = value
    return bytes(content)


PICTURES = [
    encoded("PNG"),
    encoded("JPEG"),
    encoded("JPEG", progressive=True),
    encoded("WEBP"),
    encoded("BMP"),
    encoded("GIF"),
    encoded("TIFF"),
]
