"""Reads and checks COCO's annotations in JSON files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from bisenetv1_plugin import image_files
from bisenetv1_plugin.datasets.text import shorten
from bisenetv1_plugin.errors import InputError

_KEYS = ("images", "categories", "annotations")
_LONGEST_NUMBER = 20  # digits; Python before 3.11 takes minutes for a million of them
_LONGEST_SIDE = 1 << 20  # pixels, OpenCV's own limit
_SAMPLE = 100  # annotations, to tell objects from captions and key points


def read(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file of COCO segmentations; None for any other file.

    This checks the `id` and `file_name` of images, the `id` and `name` of categories, and the ids in annotations.
    Shapes are checked when they are drawn.

    Raises:
        InputError: the file is COCO's but invalid; the message names the file and the key.
    """
    try:
        raw = image_files.read_bytes(path)
    except (OSError, ValueError):
        return None
    try:
        content = parse(raw)
    except ValueError as error:
        if not any(f'"{key}"'.encode() in raw for key in _KEYS):
            return None
        raise InputError(f"{path} is not valid JSON ({error}): export the annotations again.") from error
    if not isinstance(content, dict) or not all(key in content for key in _KEYS):
        return None
    some = content["annotations"][:_SAMPLE] if isinstance(content["annotations"], list) else ()
    if some and not any(isinstance(a, dict) and ("segmentation" in a or "segments_info" in a) for a in some):
        return None
    _check(path, content)
    return content


def parse(raw: bytes) -> Any:
    """Parses JSON strictly: whatever other programs may read differently is an error.

    Raises:
        ValueError: the JSON is invalid.
    """
    try:
        return json.loads(
            raw.decode("utf-8-sig"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_int=_parse_integer,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_panoptic(content: dict[str, Any]) -> bool:
    return bool(content["annotations"]) and "segments_info" in content["annotations"][0]


def size_of(where: str, image: dict[str, Any]) -> tuple[int, int]:
    """(width, height) of an image's entry.

    Raises:
        InputError: width or height is not a number that an image can have.
    """
    sides = []
    for key in ("width", "height"):
        value = image.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= _LONGEST_SIDE:
            raise _error(f"{where}.{key}", value, "the pixels of the image")
        sides.append(int(value))
    return sides[0], sides[1]


def number_of(where: str, entry: dict[str, Any], key: str) -> int:
    """A whole number; some tools write it as text.

    Raises:
        InputError: the value is not a whole number.
    """
    value = entry.get(key)
    if isinstance(value, str) and value.isdecimal() and len(value) <= _LONGEST_NUMBER:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _error(f"{where}.{key}", value, "a whole number")
    return value


def objects(where: str, parent: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """A list of objects.

    Raises:
        InputError: the value is not a list of objects.
    """
    value = parent.get(key)
    if not isinstance(value, list):
        raise _error(f"{where}{key}", value, "a list")
    for index, entry in enumerate(value):
        if not isinstance(entry, dict):
            raise _error(f"{where}{key}[{index}]", entry, "an object")
    return value


def describe(value: Any) -> str:
    """Any JSON value in a few words, for messages."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    return "missing" if value is None else shorten(repr(value))


def _check(path: Path, content: dict[str, Any]) -> None:
    where = f"{path}: "
    seen: dict[Any, int] = {}
    for index, image in enumerate(objects(where, content, "images")):
        place = f"{where}images[{index}]"
        if seen.setdefault(_id(place, image, "id"), index) != index:
            raise InputError(
                f"{place} and images[{seen[image['id']]}] have the same id, {image['id']!r}: give each its own."
            )
        name = image.get("file_name")
        if not isinstance(name, str) or not PurePosixPath(name.lstrip("/")).parts:
            raise _error(f"{place}.file_name", name, "the name of a file")
    names: dict[int, str] = {}
    for index, category in enumerate(objects(where, content, "categories")):
        place = f"{where}categories[{index}]"
        number = number_of(place, category, "id")
        if not isinstance(category.get("name"), (str, int)):
            raise _error(f"{place}.name", category.get("name"), "a text")
        if names.setdefault(number, str(category["name"])) != str(category["name"]):
            raise InputError(f"{place} has the id {number} of another category, {names[number]}: give each its own.")
    annotations = objects(where, content, "annotations")
    panoptic = is_panoptic(content)
    for index, annotation in enumerate(annotations):
        place = f"{where}annotations[{index}]"
        _id(place, annotation, "image_id")
        for key, segment in enumerate(objects(f"{place}.", annotation, "segments_info")) if panoptic else ():
            number_of(f"{place}.segments_info[{key}]", segment, "id")
            _check_category(f"{place}.segments_info[{key}]", segment, names)
        if panoptic and not (isinstance(annotation.get("file_name"), str) and annotation["file_name"].strip("/.")):
            raise _error(f"{place}.file_name", annotation.get("file_name"), "the name of a file")
        if not panoptic and annotation.get("segmentation"):
            _check_category(place, annotation, names)


def _check_category(place: str, entry: dict[str, Any], names: dict[int, str]) -> None:
    if number_of(place, entry, "category_id") not in names:
        raise InputError(f"{place}.category_id is {entry['category_id']!r}, but categories have no such id: add it.")


def _id(place: str, entry: dict[str, Any], key: str) -> int | str:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise _error(f"{place}.{key}", value, "a number")
    return value


def _error(where: str, value: Any, wanted: str) -> InputError:
    return InputError(f"{where} is {describe(value)}: it must be {wanted}.")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object with unique keys, because programs differ in which of two equal keys they read."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {shorten(twice)!r} appears twice in an object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _parse_integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)
