"""What is shown of a result: its picture, and the table below it."""

from __future__ import annotations

import html
import uuid
from typing import NamedTuple

import numpy as np
from PIL import Image

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.postprocess import confidence_picture
from bisenetv1_plugin.inference.segmentation import Segmentation

# In both languages: Gradio does not translate choices, nor HTML.
_UNKNOWN = "unknown · 未知"
VIEWS = [("Overlay · 叠加图", "overlay"), ("Confidence · 置信度", "confidence")]

STYLE = """<style>
.shares { width: 100%; }
.shares, .shares tr, .shares td { border: 0 !important; }
.shares td { padding: 2px 8px !important; white-space: nowrap; }
.shares td:nth-child(3) { width: 99%; }
.shares td:nth-child(4) { text-align: right; font-variant-numeric: tabular-nums; }
.shares i { display: inline-block; width: 1em; height: 1em; border: 1px solid #8888; vertical-align: middle; }
.shares b { display: block; height: .8em; min-width: 1px; }
.fault { border-left: 4px solid #c00; padding: .5em 1em; }
</style>"""


class Look(NamedTuple):
    """What the controls say: the opacity, below which confidence a pixel is unknown (0: never), and what is shown."""

    opacity: float
    unknown_below: float
    view: str

    @property
    def needs_confidence(self) -> bool:
        """
        Raises:
            InputError: nothing of that name is shown here.
        """
        views = [value for _, value in VIEWS]
        if self.view not in views:
            raise InputError(f"there is no view {self.view!r}; there are {', '.join(views)}.")
        return self.unknown_below > 0 or self.view == "confidence"

    def of(self, result: Segmentation) -> Segmentation:
        """A result, with the pixels that are unknown."""
        return result.with_unknown(self.unknown_below) if self.unknown_below else result

    def pixels(self, result: Segmentation) -> np.ndarray:
        """What is shown of it, uint8 RGB `[H, W, 3]`."""
        if self.view == "confidence" and result.confidence is not None:
            return np.repeat(confidence_picture(result.confidence)[..., np.newaxis], 3, axis=2)
        return result.overlay(self.opacity, legend=False)


def image_of(pixels: np.ndarray) -> Image.Image:
    """Pixels, uint8 RGB `[H, W, 3]`, as an image that no other is equal to.

    Gradio names a file by its bytes, and would write it anew while another visitor reads it.
    """
    picture = Image.fromarray(pixels)
    picture.info["comment"] = uuid.uuid4().hex
    return picture


def counts_of(result: Segmentation) -> np.ndarray:
    """How many pixels each number has in a mask."""
    return np.bincount(result.mask.ravel(), minlength=256)


def table_of(facts: str, result: Segmentation, counts: np.ndarray) -> str:
    """HTML: the facts, and the classes that are there with their colors and shares, the largest first."""
    names, colors = [*result.classes, _UNKNOWN], [*result.colors, result.unknown_color]
    rows = []
    for number in np.argsort(-counts, kind="stable"):
        if counts[number]:
            at = min(number, len(result.classes))
            share, rgb = counts[number] / counts.sum(), ",".join(map(str, colors[at]))
            rows.append(
                f'<tr><td><i style="background:rgb({rgb})"></i></td><td>{html.escape(names[at])}</td>'
                f'<td><b style="background:rgb({rgb});width:{share:.2%}"></b></td><td>{share:.1%}</td></tr>'
            )
    return f'<p>{html.escape(facts)}</p><table class="shares">{"".join(rows)}</table>'
