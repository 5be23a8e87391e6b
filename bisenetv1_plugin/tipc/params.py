"""Read TIPC's parameter files, such as `train_infer_python.txt`, like the standard's shell functions."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Sequence

from bisenetv1_plugin.errors import InputError

MODES = ("lite_train_lite_infer", "lite_train_whole_infer", "whole_infer", "whole_train_whole_infer")
BENCHMARK = "benchmark_train"

# The first lines of the files that `ShortParams` reads.
PTQ, PADDLE2ONNX, CPP = "ptq_params", "paddle2onnx_params", "cpp_infer_params"
SERVING = "serving_params"

# Line numbers, counted from 0 without blank lines.
LINES = {
    "model_name": 1,
    "python": 2,
    "gpu_list": 3,
    "train_device": 4,
    "precision": 5,
    "iters": 6,
    "save_dir": 7,
    "train_batch_size": 8,
    "pretrained": 9,
    "weights_name": 10,
    "train_images": 11,
    "train_option": 12,
    "trainers": 14,
    "norm_train": 15,
    "pact_train": 16,
    "fpgm_train": 17,
    "distill_train": 18,
    "trainer1": 19,
    "trainer2": 20,
    "eval": 23,
    "eval_option": 24,
    "export_dir": 27,
    "export_weights": 28,
    "norm_export": 29,
    "pact_export": 30,
    "fpgm_export": 31,
    "distill_export": 32,
    "export1": 33,
    "export2": 34,
    "infer_weights": 36,
    "infer_export": 37,
    "infer_quantized": 38,
    "inference": 39,
    "infer_device": 40,
    "mkldnn": 41,
    "threads": 42,
    "infer_batch_size": 43,
    "tensorrt": 44,
    "infer_precision": 45,
    "infer_config": 46,
    "infer_images": 47,
    "log_option": 48,
    "benchmark": 49,
    "result_dir": 50,
    "infer_option": 51,
}


# The alternatives of these lines become parts of file and folder names.
_IN_NAMES = (
    *("gpu_list", "train_device", "precision", "trainers", "infer_device", "mkldnn", "threads", "infer_batch_size"),
    *("tensorrt", "infer_precision"),
)
_COUNTS = ("threads", "infer_batch_size")
_BYTES, _CHARACTERS = 1 << 20, 10_000  # maximum of a file and of a line; the standard's have 3,000 and 300


class TipcError(InputError):
    """An error in a TIPC file, its data or a mode."""


class _ParameterFile:
    """The named lines of a parameter file, each `key:value`."""

    path: Path
    _named: dict[str, _Line]

    def where(self, name: str) -> str:
        """Return the file and line number, for messages."""
        return f"{self.path}, line {self._named[name].number}"

    def key(self, name: str) -> str:
        """Return the text before the first colon of a line."""
        return self._named[name].split(":")[0]

    def value(self, name: str) -> str:
        """Return the text between the first and second colon of a line, or ''."""
        return (self._named[name].split(":") + [""])[1]

    def option(self, name: str, value: str | None = None) -> str:
        """Return the argument `key=value`, by default with the line's value; '' if either is null."""
        value = self.value(name) if value is None else value
        key = self.key(name)
        return "" if "null" in (key, value) or value.strip() == "" else f"{key}={value}"


class Params(_ParameterFile):
    """One parameter file.

    Args:
        path: the file.
        mode: one of `MODES`, or `BENCHMARK`; values may depend on it.

    Raises:
        TipcError: there is no such file or mode, or the file has too few lines or an invalid value.
    """

    def __init__(self, path: str | Path, mode: str) -> None:
        if mode not in (*MODES, BENCHMARK):
            raise TipcError(f"{mode!r} is not a TIPC mode: choose one of {', '.join(MODES)}, {BENCHMARK}.")
        self.path, self.mode = Path(path), mode
        self._lines = _lines(self.path)
        least = LINES["result_dir"] + 1  # the last line is optional
        if len(self._lines) < least:
            raise TipcError(
                f"{path} has {len(self._lines)} lines without blank ones; the standard's format has at least {least}. "
                "Compare it with test_tipc/configs/bisenetv1/train_infer_python.txt."
            )
        self._lines.append(_Line("", 0))
        self._named = {name: self._lines[index] for name, index in LINES.items()}
        check_name(self.value("model_name"), self.where("model_name"))
        for name in _IN_NAMES:
            for value in self.values(name):
                check_name(value, self.where(name))
        for name in _COUNTS:
            for value in self.values(name):
                check_count(value, self.where(name), or_null=True)
        for name in ("iters", "train_batch_size"):
            check_count(self.mode_value(name) or "null", self.where(name), or_null=True)

    def values(self, name: str) -> list[str]:
        """Return the alternatives of a line, which are separated by `|`."""
        return [value for value in self.value(name).split("|") if value]

    def mode_value(self, name: str) -> str:
        """Return the value of a `mode=value|mode=value` line for this mode, or ''."""
        for alternative in self.values(name):
            mode, _, value = alternative.partition("=")
            if mode == self.mode:
                return value.partition("=")[0]
        return ""

    def block(self, title: str) -> list[tuple[str, str]]:
        """Return the keys and values of the lines under `===title===`; empty if there is no such block."""
        pairs: list[tuple[str, str]] = []
        inside = False
        for line in self._lines:
            if line.startswith("==="):
                inside = line.strip("= ") == title
            elif inside and line:
                key, value = (line.split(":") + [""])[:2]
                pairs.append((key, value))
        return pairs


class ShortParams(_ParameterFile):
    """A parameter file of the shorter form of paddle2onnx, PTQ, C++ and serving. Values do not depend on the mode.

    Args:
        path: the file.
        header: the expected header in its first line, such as `PTQ`.
        names: names of the lines after the first.

    Raises:
        TipcError: there is no such file, it has another header, too few lines or an invalid value.
    """

    def __init__(self, path: str | Path, header: str, names: Sequence[str]) -> None:
        self.path = Path(path)
        if header_of(path) != header:
            raise TipcError(f"{path} is not a {header} file: its first line is not `==={header}===`.")
        lines = _lines(Path(path))[1:]
        if len(lines) < len(names):
            raise TipcError(
                f"{path} has {len(lines) + 1} lines without blank ones; the standard's format has {len(names) + 1}: "
                f"{', '.join(names)} after the first."
            )
        self._named = dict(zip(names, lines))
        check_name(self["model_name"], self.where("model_name"))
        if "save_dir" in names:
            check_save_dir(self.key("save_dir"), self.where("save_dir"))

    def __getitem__(self, name: str) -> str:
        return self.value(name)


def header_of(path: str | Path) -> str:
    """Return the header in a file's first line, without equals signs."""
    return "".join(_lines(Path(path))[:1]).strip("= ")


def split_command(command: str, where: str) -> list[str]:
    """Split a command into words, as a shell does."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise TipcError(f"{where}: `{command}` is not a command: {error}.") from error


def check_name(value: str, where: str) -> None:
    """Raise TipcError if a value cannot be part of a file or folder name."""
    if value.strip() in ("", ".", "..") or any(letter in "/\\" or ord(letter) < 32 for letter in value):
        raise TipcError(f"{where}: {value!r} must be a plain word, because it becomes part of a folder name.")
    if len(value.encode()) > 100:
        raise TipcError(f"{where}: {value[:40]!r} ... is too long, because it becomes part of a folder name.")


def check_save_dir(key: str, where: str) -> None:
    """Raise TipcError if the line of the results folder has another key: results would go elsewhere."""
    if key != "--save_dir":
        raise TipcError(f"{where} must start with `--save_dir:`, not with {key[:40]!r}: is a line missing above it?")


def check_count(value: str, where: str, or_null: bool = False) -> None:
    """Raise TipcError if a value is not a positive whole number."""
    number = value.isascii() and value.isdecimal() and len(value) < 10 and int(value) > 0
    if not (number or (or_null and value == "null")):
        raise TipcError(f"{where}: {value[:40]!r} must be a whole number, 1 or more.")


class _Line(str):
    """A line of a file, with its line number."""

    number: int

    def __new__(cls, text: str, number: int) -> _Line:
        line = super().__new__(cls, text)
        line.number = number
        return line


def _lines(path: Path) -> list[_Line]:
    """Read the non-blank lines of a file."""
    if not path.is_file():
        raise TipcError(f"there is no TIPC file {path}.")
    with open(path, "rb") as file:
        content = file.read(_BYTES + 1)
    if len(content) > _BYTES:
        raise TipcError(f"{path} is larger than {_BYTES} bytes, too large for a TIPC file.")
    for wrong in (b"\0", b"\x1b"):
        if wrong in content:
            raise TipcError(f"{path}, line {_line_of(content, content.index(wrong))}: it is not text.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TipcError(f"{path}, line {_line_of(content, error.start)}: it is not UTF-8.") from error
    lines = [_Line(line, number) for number, line in enumerate(text.splitlines(), start=1) if line]
    for line in lines:
        if len(line) > _CHARACTERS:
            raise TipcError(f"{path}, line {line.number}: it has more than {_CHARACTERS} characters.")
    return lines


def _line_of(content: bytes, place: int) -> int:
    return content[:place].count(b"\n") + 1
