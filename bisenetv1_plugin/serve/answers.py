"""The answer to a picture: its mask as PNG, or JSON with more."""

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
from bisenetv1_plugin.serve.guard import Refusal

PNG, JSON = "image/png", "application/json"
# A mask of noise has a region for every pixel.
_MAX_REGIONS = 1000
# Pixels along the outlines of one region, and of all. The time for a region grows with the square of its length.
_MAX_OUTLINE, _MAX_OUTLINES = 100_000, 500_000


class Options(BaseModel):
    """The query parameters of a request."""

    model_config = ConfigDict(extra="forbid")

    color: bool = Field(
        False, description="Add the colors of the classes to the PNG as its palette; the numbers stay the same."
    )
    regions: bool = Field(False, description="JSON: the connected pieces of the mask, with outlines.")
    confidence: bool = Field(
        False, description="JSON: how sure the network is. This takes more time and memory, as unknown_below does."
    )
    unknown_below: float | None = Field(
        None, ge=0, le=1, description="Set the mask to 255 where the confidence is below this."
    )
    min_area: int = Field(1, ge=1, lt=1 << 31, description="Omit regions with fewer pixels.")
    tolerance: float = Field(
        TOLERANCE, ge=0, le=1 << 16, description="By how many pixels the outlines of regions may be simplified."
    )

    @property
    def needs_confidence(self) -> bool:
        """Whether the probabilities have to be computed."""
        return self.confidence or self.unknown_below is not None


class RegionAnswer(BaseModel):
    """A connected piece of the mask."""

    number: int = Field(description="The number of its class.")
    name: str = Field(description="The name of its class.")
    box: list[int] = Field(description="x, y, width and height, in pixels.")
    area: int = Field(description="In pixels.")
    confidence: float | None = Field(None, description="The mean probability of its class, if it was computed.")
    polygons: list[list[list[list[int]]]] = Field(
        description="A MultiPolygon of GeoJSON: for each polygon the outline, then the holes; x and y of pixel corners."
    )


class Answer(BaseModel):
    """The answer in JSON."""

    width: int
    height: int
    mask: str = Field(description="The PNG, in base64.")
    shares: dict[str, float] = Field(description="The share of the pixels of each class, by its name.")
    unknown: float | None = Field(None, description="The share of the pixels below `unknown_below`.")
    confidence: float | None = Field(
        None, description="The mean probability of the likeliest class, if it was computed."
    )
    regions: list[RegionAnswer] | None = Field(None, description="With `regions`: the largest first.")
    milliseconds: dict[str, float] = Field(description="`waiting` for other pictures, and `computing`.")


def media_type(accept: str) -> str:
    """The media type that an `Accept` header prefers, `PNG` or `JSON`; `PNG` if it prefers neither to the other.

    Raises:
        Refusal: it accepts neither.
    """
    qualities: dict[str, float] = {}
    for entry in accept.split(","):
        name, _, rest = entry.partition(";")
        quality = re.search(r"\bq=([01](?:\.\d{0,3})?)(?!\S)", rest)
        qualities[name.strip().lower()] = float(quality[1]) if quality else 1.0

    def quality_of(kind: str) -> float:
        ranges = (kind, kind.partition("/")[0] + "/*", "*/*")
        return next((qualities[name] for name in ranges if name in qualities), 0.0)

    best = max((PNG, JSON), key=quality_of)
    if not quality_of(best):
        raise Refusal(406, f"The answer is {PNG} or {JSON}: name one of them in `Accept`, or omit the header.")
    return best


def encode(result: Segmentation, kind: str, options: Options, milliseconds: dict[str, float]) -> bytes:
    """The body of the answer: the PNG that `infer` writes to NAME.png or color/NAME.png, or an `Answer`.

    Raises:
        InputError: the mask has too many regions, or no number is left for unknown pixels.
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
        return painter.indexed_png(result.mask)
    return cv2.imencode(".png", result.mask)[1].tobytes()


def _regions(result: Segmentation, options: Options) -> list[dict[str, Any]]:
    found = result.regions(options.min_area, options.tolerance)
    if len(found) > _MAX_REGIONS:
        raise InputError(
            f"the mask has {len(found)} regions; an answer may have {_MAX_REGIONS}: give a larger min_area."
        )
    lengths = [_outline_length(region.mask) for region in found]
    if max(lengths, default=0) > _MAX_OUTLINE or sum(lengths) > _MAX_OUTLINES:
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


def _outline_length(piece: np.ndarray) -> int:
    """The number of pixel edges between True and False in a bool mask."""
    return int(np.count_nonzero(piece[1:] != piece[:-1]) + np.count_nonzero(piece[:, 1:] != piece[:, :-1]))
