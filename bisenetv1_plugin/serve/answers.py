"""What a picture is answered with: the mask as PNG, or JSON with more."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bisenetv1_plugin.drawing.painter import Painter
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.regions import TOLERANCE
from bisenetv1_plugin.inference.segmentation import Segmentation
from bisenetv1_plugin.serve.guard import Refused

PNG, JSON = "image/png", "application/json"
# Outlines of an answer: a mask of noise has one for every pixel.
_MOST_REGIONS = 1000
# Pixels along the outlines of one, and of all: the time that they take grows with the square of the former.
_LONGEST_OUTLINE, _LONGEST_OUTLINES = 100_000, 500_000


class Options(BaseModel):
    """What may stand behind the ? of a request."""

    model_config = ConfigDict(extra="forbid")

    color: bool = Field(False, description="The PNG has the classes' colors as its palette; its numbers are the same.")
    regions: bool = Field(False, description="JSON: the connected pieces of the mask, with outlines.")
    confidence: bool = Field(False, description="JSON: how sure the network is. It takes more time and memory.")
    unknown_below: float | None = Field(
        None, ge=0, le=1, description="The mask is 255 where the confidence is below this. It needs the same."
    )
    min_area: int = Field(1, ge=1, lt=1 << 31, description="Of regions: pixels of the smallest.")
    tolerance: float = Field(
        TOLERANCE, ge=0, le=1 << 16, description="Of regions: by how many pixels an outline may be simplified."
    )

    @property
    def needs_confidence(self) -> bool:
        """Whether the probabilities have to be computed."""
        return self.confidence or self.unknown_below is not None


class RegionAnswer(BaseModel):
    """A connected piece of the mask."""

    number: int = Field(description="Of the class.")
    name: str = Field(description="Of the class.")
    box: list[int] = Field(description="x, y, width and height, in pixels.")
    area: int = Field(description="In pixels.")
    confidence: float | None = Field(None, description="The mean probability of its class, where it was computed.")
    polygons: list[list[list[list[int]]]] = Field(
        description="As a MultiPolygon of GeoJSON: for each, its outline and its holes, x and y of the pixels' corners."
    )


class Answer(BaseModel):
    """What is where in a picture."""

    width: int
    height: int
    mask: str = Field(description="A PNG in base64, as the one that is answered without JSON.")
    shares: dict[str, float] = Field(description="The share of the pixels that each class has, by its name.")
    unknown: float | None = Field(None, description="The share of the pixels below `unknown_below`.")
    confidence: float | None = Field(
        None, description="The mean probability of the likeliest class, where it was computed."
    )
    regions: list[RegionAnswer] | None = Field(None, description="The largest first; with `regions`.")
    milliseconds: dict[str, float] = Field(description="`waiting` for others, and `computing`.")


def media_type(accept: str) -> str:
    """What an `Accept` prefers: `PNG` or `JSON`; the former where it likes both.

    Raises:
        Refused: neither.
    """
    liked: dict[str, float] = {}
    for entry in accept.split(","):
        name, _, rest = entry.partition(";")
        quality = re.search(r"\bq=([01](?:\.\d{0,3})?)(?!\S)", rest)
        liked[name.strip().lower()] = float(quality[1]) if quality else 1.0

    def like(kind: str) -> float:
        ranges = (kind, kind.partition("/")[0] + "/*", "*/*")
        return next((liked[name] for name in ranges if name in liked), 0.0)

    best = max((PNG, JSON), key=like)
    if not like(best):
        raise Refused(406, f"There is {PNG} and {JSON}: name one of them in `Accept`, or omit it.")
    return best


def body(result: Segmentation, kind: str, options: Options, milliseconds: dict[str, float]) -> bytes:
    """The mask as `infer` writes it, NAME.png or, with its palette, color/NAME.png; or an `Answer` with it.

    Raises:
        InputError: the mask has too many regions, or an unknown pixel no number.
    """
    if options.unknown_below is not None:
        result = result.with_unknown(options.unknown_below)
    mask = _mask(result, options.color)
    if kind == PNG:
        return mask
    height, width = result.mask.shape
    answer: dict[str, Any] = {
        "width": width,
        "height": height,
        "mask": base64.b64encode(mask).decode(),
        "shares": result.shares,
        "milliseconds": {name: round(value, 1) for name, value in milliseconds.items()},
    }
    if result.unknown_below is not None:
        answer["unknown"] = result.unknown_share
    if result.confidence is not None:
        answer["confidence"] = float(result.confidence.mean())
    if options.regions:
        answer["regions"] = _regions(result, options)
    return json.dumps(answer).encode()


def _mask(result: Segmentation, color: bool) -> bytes:
    if color:
        painter = Painter(result.classes, result.colors, unknown=result.unknown_below is not None)
        return painter.indexed(result.mask)
    return cv2.imencode(".png", result.mask)[1].tobytes()


def _regions(result: Segmentation, options: Options) -> list[dict[str, Any]]:
    found = result.regions(options.min_area, options.tolerance)
    if len(found) > _MOST_REGIONS:
        raise InputError(
            f"the mask has {len(found)} regions, and an answer {_MOST_REGIONS} at most: give a larger min_area."
        )
    lengths = [_outline(region.mask) for region in found]
    if max(lengths, default=0) > _LONGEST_OUTLINE or sum(lengths) > _LONGEST_OUTLINES:
        raise InputError("the outlines of the regions are too long: give a larger min_area, or a smaller picture.")
    return [
        {
            "number": region.number,
            "name": region.name,
            "box": region.box,
            "area": region.area,
            **({} if region.confidence is None else {"confidence": region.confidence}),
            "polygons": [[ring.tolist() for ring in rings] for rings in region.polygons],
        }
        for region in found
    ]


def _outline(piece: np.ndarray) -> int:
    """Pixels along the edges of a bool mask that are not the edges of its box."""
    return int(np.count_nonzero(piece[1:] != piece[:-1]) + np.count_nonzero(piece[:, 1:] != piece[:, :-1]))
