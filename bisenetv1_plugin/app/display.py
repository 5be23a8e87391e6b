"""How the page shows a result: as a picture, with a table of the classes below it."""

from __future__ import annotations

import html
import uuid
from typing import NamedTuple

import numpy as np
from PIL import Image

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.postprocess import confidence_picture
from bisenetv1_plugin.inference.segmentation import Segmentation

# In both languages, because Gradio does not translate choices and HTML.
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


class Controls(NamedTuple):
    """The values of the page's controls. Pixels of a lower confidence than `unknown_below` are unknown; 0: none."""

    opacity: float
    unknown_below: float
    view: str

    @property
    def needs_confidence(self) -> bool:
        """Whether the view or `unknown_below` needs the confidence.

        Raises:
            InputError: there is no such view.
        """
        views = [value for _, value in VIEWS]
        if self.view not in views:
            raise InputError(f"there is no view {self.view!r}; choose one of {', '.join(views)}.")
        return self.unknown_below > 0 or self.view == "confidence"

    def mark_unknown(self, result: Segmentation) -> Segmentation:
        """The result with its unknown pixels marked."""
        return result.with_unknown(self.unknown_below) if self.unknown_below else result

    def draw(self, result: Segmentation) -> np.ndarray:
        """The picture to show, uint8 RGB `[H, W, 3]`."""
        if self.view == "confidence" and result.confidence is not None:
            return np.repeat(confidence_picture(result.confidence)[..., np.newaxis], 3, axis=2)
        return result.overlay(self.opacity, legend=False)


def unique_image(pixels: np.ndarray) -> Image.Image:
    """An image of these pixels, uint8 RGB `[H, W, 3]`, with a random comment.

    Gradio names files by a hash of their bytes. Without the comment, it would overwrite an equal file while another
    visitor downloads it.
    """
    picture = Image.fromarray(pixels)
    picture.info["comment"] = uuid.uuid4().hex
    return picture


def class_counts(result: Segmentation) -> np.ndarray:
    """The number of pixels of each class, int64 `[256]`."""
    return np.bincount(result.mask.ravel(), minlength=256)


def class_table(facts: str, result: Segmentation, counts: np.ndarray) -> str:
    """HTML: the facts, then the classes in the picture with their colors and shares, the largest first."""
    names, colors = [*result.classes, _UNKNOWN], [*result.colors, result.unknown_color]
    rows = []
    for number in np.argsort(-counts, kind="stable"):
        if counts[number]:
            index = min(number, len(result.classes))
            share, rgb = counts[number] / counts.sum(), ",".join(map(str, colors[index]))
            rows.append(
                f'<tr><td><i style="background:rgb({rgb})"></i></td><td>{html.escape(names[index])}</td>'
                f'<td><b style="background:rgb({rgb});width:{share:.2%}"></b></td><td>{share:.1%}</td></tr>'
            )
    return f'<p>{html.escape(facts)}</p><table class="shares">{"".join(rows)}</table>'
