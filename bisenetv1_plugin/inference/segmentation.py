"""The result of segmenting a picture: `Segmentation`."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from bisenetv1_plugin import files
from bisenetv1_plugin.drawing.painter import Painter, palette
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.postprocess import UNKNOWN, check_probability, check_unknown, mark_unknown
from bisenetv1_plugin.inference.regions import TOLERANCE, Region, find


@dataclass(repr=False, eq=False)  # arrays compare by element
class Segmentation:
    """The mask of a picture, with its classes and colors.

    Attributes:
        mask (numpy.ndarray): uint8 `[H, W]`, the class number of every pixel, in the picture's size; 255 where the
            confidence is below `unknown_below`.
        classes (list[str]): the names of the classes, by number.
        colors (numpy.ndarray): their colors, uint8 RGB `[classes, 3]`.
        image (numpy.ndarray): the picture, uint8 RGB `[H, W, 3]`, upright where EXIF turns it.
        scores (numpy.ndarray, optional): float32 `[classes, H, W]`, the probability of every class, 0..1; only with
            `scores=True`.
        confidence (numpy.ndarray, optional): float32 `[H, W]`, the probability of the most likely class, 0..1; only
            with `confidence=True`, `scores=True` or `unknown_below`.
        unknown_below (float, optional): the least confidence of a pixel with a class; None: every pixel has a class.
    """

    mask: np.ndarray
    classes: list[str]
    colors: np.ndarray
    image: np.ndarray
    scores: np.ndarray | None = None
    confidence: np.ndarray | None = None
    unknown_below: float | None = None

    @property
    def shares(self) -> dict[str, float]:
        """The share of pixels of every class, 0..1, by name and in order."""
        shares = dict.fromkeys(self.classes, 0.0)
        for name, count in zip(self.classes, np.bincount(self.mask.ravel(), minlength=len(self.classes))):
            shares[name] += float(count) / self.mask.size  # two classes may have the same name
        return shares

    @property
    def unknown_share(self) -> float:
        """The share of unknown pixels, 0..1: those that are 255 because their confidence is too low."""
        if self.unknown_below is None:
            return 0.0
        return float(np.count_nonzero(self.mask == UNKNOWN) / self.mask.size)

    @property
    def unknown_color(self) -> np.ndarray:
        """The color of unknown pixels in overlays, uint8 RGB `[3]`; no class has it."""
        return palette(len(self.colors), self.colors)[UNKNOWN]

    def with_unknown(self, below: float) -> Segmentation:
        """A copy with 255 in the mask where the confidence is below `below`; the network is not run again.

        Raises:
            InputError: there is no confidence, `below` is not from 0 to 1, there already are unknown pixels, or 255 is
                a class.
        """
        check_probability("below", below)
        if self.confidence is None:
            raise InputError("there is no confidence: pass confidence=True when you segment the picture.")
        if self.unknown_below is not None:
            raise InputError(
                f"pixels below {self.unknown_below:g} are already unknown: use a result without unknown_below."
            )
        if (self.mask == UNKNOWN).any():
            check_unknown(len(self.classes))
        mask = mark_unknown(self.mask, self.confidence, below)
        classes, colors = self.classes[:UNKNOWN], self.colors[:UNKNOWN]
        return replace(self, mask=mask, classes=classes, colors=colors, unknown_below=float(below))

    def regions(self, min_area: int = 1, tolerance: float = TOLERANCE) -> list[Region]:
        """The connected regions of the mask with their classes, outlines, boxes and areas, the largest first.

        `bisenetv1_plugin.inference.regions.draw(regions, height, width)` turns regions into a mask.

        Args:
            min_area: in pixels; smaller regions are omitted.
            tolerance: how many pixels simplification may move an outline, see `regions.find`; 0: no simplification.

        Returns:
            the regions, with a `confidence` if the segmentation has one. Unknown pixels are in no region.

        Raises:
            InputError: min_area or tolerance is negative or not a number.
        """
        return find(self.mask, self.classes, self.confidence, min_area, tolerance)

    def overlay(self, opacity: float = 0.5, legend: bool = True) -> np.ndarray:
        """The picture with the classes' colors over it.

        To save it: `PIL.Image.fromarray(result.overlay()).save("overlay.png")`.

        Args:
            opacity: the opacity of the colors, 0 (only the picture) to 1 (only the colors).
            legend: add a white strip below, with the names and colors of the classes in the picture.

        Returns:
            uint8 RGB `[H, W, 3]`; with the legend it is higher than the picture.

        Raises:
            InputError: the opacity is not between 0 and 1.
        """
        if not 0 <= opacity <= 1:
            raise InputError(f"opacity is {opacity}; it must be from 0 to 1.")
        painter = Painter(self.classes, self.colors, unknown=self.unknown_below is not None)
        picture = painter.overlay(self.mask, self.image[..., ::-1], opacity)
        return np.ascontiguousarray((painter.with_legend(picture, self.mask) if legend else picture)[..., ::-1])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the mask as a gray PNG of the class numbers, as `bisenetv1 infer` does. For a picture: see `overlay`.

        Raises:
            InputError: the path does not end with .png: other formats change the numbers.
            OSError: the file cannot be written; it is not there then.
        """
        if not os.fspath(path).lower().endswith(".png"):
            raise InputError(
                f"{os.fspath(path)}: a mask is saved as .png, which keeps the class numbers. For a picture to look at: "
                "PIL.Image.fromarray(result.overlay()).save(path)."
            )
        files.write(path, _png(self.mask))

    def __repr__(self) -> str:
        height, width = self.mask.shape
        shares = sorted([*self.shares.items(), ("unknown", self.unknown_share)], key=lambda item: -item[1])
        return f"<{width}x{height}: {', '.join(f'{name} {share:.1%}' for name, share in shares if share)}>"

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows."""
        return _png(self.overlay())


def _png(picture: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "PNG")
    return encoded.getvalue()
