"""Read an exported model's `deploy.yaml`."""

from __future__ import annotations

import os
from typing import Any, Callable

from bisenetv1_plugin import files, plain_yaml
from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.inference.preprocess import Preprocess


def load_export(path: str | os.PathLike[str]) -> Export:
    """Read the export in a folder, or a `deploy.yaml`.

    Raises:
        InputError: see `Export`.
    """
    path = os.fspath(path)
    return Export(os.path.join(path, "deploy.yaml") if os.path.isdir(path) else path)


class Export:
    """The contents of the `deploy.yaml` of an exported folder.

    Attributes:
        path (str): the `deploy.yaml` itself.
        folder (str): its folder.
        program, params (str, optional): Paddle's files; None if the export was quantized for another runtime.
        onnx (str, optional): the ONNX model; None if it was exported without one.
        openvino (str, optional): OpenVINO's int8 model; None if there is none.
        preprocess (Preprocess): turns pixels into the network's input.
        transform_list (list[dict]): its transforms, as in the configuration.
        output_op (str): 'argmax', 'softmax' or 'none'.
        quantized (bool): whether it is int8, made by `bisenetv1 quantize`.
        precision (str): the default precision: 'int8' if quantized, else 'fp32'.
        input_shape (list[int]): `[N, C, H, W]`; None for any size.
        classes (tuple[str]): the names of the classes, by number; empty if the export has none, as PaddleSeg's.
        colors (tuple): their colors, RGB 0..255; empty for PaddleSeg's colors.

    Raises:
        InputError: the file does not exist or has another form, or a file that it names does not exist.
    """

    def __init__(self, deploy_yaml: str | os.PathLike[str]) -> None:
        path = os.fspath(deploy_yaml)
        values = _read_values(path)
        self.path = path
        self.folder = os.path.dirname(path)
        self.program, self.params, self.onnx, self.openvino = (
            os.path.join(self.folder, values[key]) if values.get(key) else None
            for key in ("model", "params", "onnx", "openvino")
        )
        try:
            self.preprocess = Preprocess(values["transforms"])
        except InputError as error:
            raise InputError(f"{path}: {error} Export again.") from error
        self.transform_list: list[dict[str, Any]] = values["transforms"]
        self.quantized = values.get("precision") == "int8"
        self.precision = "int8" if self.quantized else "fp32"
        self.output_op: str = values.get("output_op") or "argmax"
        self.input_shape = [size if size and size > 0 else None for size in values.get("input_shape") or [None] * 4]
        self.classes: tuple[str, ...] = tuple(map(str, values.get("classes") or ()))
        self.colors: tuple[tuple[int, ...], ...] = tuple(map(tuple, values.get("colors") or ()))
        for file_path in self.files[1:]:
            if not os.path.isfile(file_path):
                raise InputError(f"{path} names {file_path}, and there is no such file: export again.")

    @property
    def files(self) -> list[str]:
        """The paths of its files: the `deploy.yaml`, then the models."""
        return [self.path, *filter(None, (self.program, self.params, self.onnx, self.openvino))]

    def shape_error(self, shape: tuple[int, ...]) -> str | None:
        """Why an array of this shape `[N, C, H, W]` cannot be run, as a sentence; None if it can."""
        names = ("images at a time", "channels", "pixels of height", "pixels of width")
        for have, need, name in zip(shape, self.input_shape, names):
            if need and have != need:
                cure = "`bisenetv1 export` without --input_shape takes any"
                if name == "channels":
                    cure = "images are read as RGB: train with in_channels: 3"
                return f"the export takes {need} {name}, not {have}; {cure}"
        return None

    def onnx_model(self) -> str:
        """The path of the ONNX model.

        Raises:
            InputError: the export has no ONNX model.
        """
        if not self.onnx:
            raise InputError(f"{self.path} names no ONNX model: export with `bisenetv1 export --to onnx`.")
        return self.onnx


_MOST = 256  # classes: a mask has 8 bits
_LONGEST = 1000  # characters of a class's name, because a legend shows it
_INPUT = {"dtype": "float32", "layout": "NCHW", "color": "RGB"}  # the input of every runtime
# The optional keys of `Deploy`: a description of the value, and a check of it.
_KEYS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(
        ("model", "params", "onnx", "openvino"),
        ("the name of a file in the same folder", lambda value: isinstance(value, str) and _is_name(value)),
    ),
    "transforms": (
        "a list of transforms, each with a type and plain values",
        lambda value: isinstance(value, list) and all(map(_is_transform, value)),
    ),
    "input_shape": (
        "four whole numbers, N, C, H and W; -1 or null for any",
        lambda value: isinstance(value, list) and len(value) == 4 and all(s is None or _is_size(s) for s in value),
    ),
    "input": (
        "float32, NCHW and, with three channels, RGB",
        lambda value: isinstance(value, dict) and all(_INPUT.get(key) == item for key, item in value.items()),
    ),
    "output_op": ("argmax, softmax or none", lambda value: value in ("argmax", "softmax", "none")),
    "precision": ("fp32 or int8", lambda value: value in ("fp32", "int8")),
    "classes": (
        f"a list of at most {_MOST} names, of at most {_LONGEST} characters each",
        lambda value: isinstance(value, list) and len(value) <= _MOST and all(map(_is_text, value)),
    ),
    "colors": (
        f"a list of at most {_MOST} colors [r, g, b], 0 to 255 each",
        lambda value: isinstance(value, list) and len(value) <= _MOST and all(map(_is_color, value)),
    ),
}
_LARGEST = 1 << 20  # bytes of YAML; a usual file has some hundred


def _read_values(path: str) -> dict[str, Any]:
    """The checked values under `Deploy` in a file."""
    if not os.path.isfile(path):
        what = "is not a file" if os.path.exists(path) else "does not exist"
        raise InputError(f"{path} {what}: name the folder that `bisenetv1 export` wrote.")
    files.utf8_path(path)
    try:
        with open(path, "rb") as file:
            content = plain_yaml.parse(file.read(_LARGEST))
    except plain_yaml.NotPlain as error:
        why = f"it is not YAML ({brief(error)})"
        raise InputError(f"{path} is not the deploy.yaml of an export: {why}.") from error
    values = content.get("Deploy") if isinstance(content, dict) else None
    if not isinstance(values, dict):
        raise InputError(f"{path} is not the deploy.yaml of an export: it has no `Deploy:` part.")
    for key, (what, is_right) in _KEYS.items():
        value = values.get(key)
        if value is not None and not is_right(value):
            raise InputError(f"{path}: {key} is {_short(value)}; it must be {what}. Export again.")
    models = [key for key in ("model", "onnx", "openvino") if values.get(key)]
    missing = [*["transforms"] * (values.get("transforms") is None), *["model"] * (not models)]
    missing += ["params"] * ("model" in models and not values.get("params"))
    if missing:
        raise InputError(f"{path} has no {' and no '.join(missing)} under `Deploy:`. Export again.")
    classes, colors = values.get("classes") or (), values.get("colors") or ()
    if classes and colors and len(classes) != len(colors):
        raise InputError(f"{path} has {len(classes)} classes and {len(colors)} colors: give one color for each class.")
    return values


def _is_name(text: str) -> bool:
    return text not in ("", os.curdir, os.pardir) and text.isprintable() and not set(text) & {"/", "\\", ":"}


def _is_transform(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(key, str) for key in value)
        and isinstance(value.get("type"), str)
        and all(map(_is_plain, value.values()))
    )


def _is_plain(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list):
        return depth < 3 and len(value) <= _MOST and all(_is_plain(item, depth + 1) for item in value)
    return value is None or isinstance(value, (bool, float, str)) or _is_whole(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and -(1 << 63) <= value < 1 << 63  # Python refuses to print much larger numbers


def _is_size(value: Any) -> bool:
    return type(value) is int and -1 <= value < 1 << 16


def _is_text(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST
    return isinstance(value, float) or (_is_whole(value) and not isinstance(value, bool))


def _is_color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(c) is int and 0 <= c <= 255 for c in value)


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        text = "a number too large to be shown"
    return text if len(text) <= 80 else f"{text[:80]} ..."
