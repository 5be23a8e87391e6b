"""TIPC's parameter file, `train_infer_python.txt`, read as the standard's shell functions read it."""

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

# What each line is for, by its number among the lines that are not blank; the first is 0.
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


# Lines whose alternatives become parts of the names of files and folders.
_IN_NAMES = (
    *("gpu_list", "train_device", "precision", "trainers", "infer_device", "mkldnn", "threads", "infer_batch_size"),
    *("tensorrt", "infer_precision"),
)
_COUNTS = ("threads", "infer_batch_size")
_BYTES, _CHARACTERS = 1 << 20, 10_000  # of a file and of a line; the standard's have 3,000 and 300


class TipcError(InputError):
    """What is wrong with a TIPC file, its data or a mode, in a sentence that names it."""


class Params:
    """One parameter file.

    Args:
        path: the file.
        mode: one of `MODES`, or `BENCHMARK`; values may depend on it.

    Raises:
        TipcError: there is no such file or mode, or the file has too few lines or a value that cannot be.
    """

    def __init__(self, path: str | Path, mode: str) -> None:
        if mode not in (*MODES, BENCHMARK):
            raise TipcError(f"{mode!r} is no TIPC mode: choose one of {', '.join(MODES)}, {BENCHMARK}.")
        self.path, self.mode = Path(path), mode
        self._lines = _lines(self.path)
        least = LINES["result_dir"] + 1  # the one after it is spare, and some files end before it
        if len(self._lines) < least:
            raise TipcError(
                f"{path} has {len(self._lines)} lines that are not blank; the standard's format has at least {least}. "
                "Compare it with test_tipc/configs/bisenetv1/train_infer_python.txt."
            )
        self._lines.append(_Line("", 0))
        check_name(self.value("model_name"), self.where("model_name"))
        for name in _IN_NAMES:
            for value in self.values(name):
                check_name(value, self.where(name))
        for name in _COUNTS:
            for value in self.values(name):
                check_count(value, self.where(name), or_null=True)
        for name in ("iters", "train_batch_size"):
            check_count(self.mode_value(name) or "null", self.where(name), or_null=True)

    def where(self, name: str) -> str:
        """The file and the number of a line, for a sentence."""
        return f"{self.path}, line {self._lines[LINES[name]].number}"

    def key(self, name: str) -> str:
        """What stands before the first colon of a line."""
        return self._lines[LINES[name]].split(":")[0]

    def value(self, name: str) -> str:
        """What stands between the first and the second colon of a line; '' where there is none."""
        return (self._lines[LINES[name]].split(":") + [""])[1]

    def values(self, name: str) -> list[str]:
        """The alternatives of a line, which `|` separates."""
        return [value for value in self.value(name).split("|") if value]

    def mode_value(self, name: str) -> str:
        """The value of a `mode=value|mode=value` line for this mode; '' if it has none."""
        for alternative in self.values(name):
            mode, _, value = alternative.partition("=")
            if mode == self.mode:
                return value.partition("=")[0]
        return ""

    def option(self, name: str, value: str | None = None) -> str:
        """The command-line argument `key=value`, with the line's own value by default; '' where either is null."""
        value = self.value(name) if value is None else value
        key = self.key(name)
        return "" if "null" in (key, value) or value.strip() == "" else f"{key}={value}"

    def block(self, title: str) -> list[tuple[str, str]]:
        """Pairs of key and value of the lines under the header `===title===`; none where the file has no such block."""
        pairs: list[tuple[str, str]] = []
        inside = False
        for line in self._lines:
            if line.startswith("==="):
                inside = line.strip("= ") == title
            elif inside and line:
                key, value = (line.split(":") + [""])[:2]
                pairs.append((key, value))
        return pairs


class ShortParams:
    """A parameter file of a shorter form, as those of paddle2onnx, PTQ and C++ are, with the same values in every mode.

    Args:
        path: the file.
        header: what its first line must say, such as `PTQ`.
        names: what its lines are for, from the second on.

    Raises:
        TipcError: there is no such file, it is of another form, or has too few lines, or a value that cannot be.
    """

    def __init__(self, path: str | Path, header: str, names: Sequence[str]) -> None:
        self.path = Path(path)
        if header_of(path) != header:
            raise TipcError(f"{path} is no {header} file: its first line is not `==={header}===`.")
        lines = _lines(Path(path))[1:]
        if len(lines) < len(names):
            raise TipcError(
                f"{path} has {len(lines) + 1} lines that are not blank; the standard's format has {len(names) + 1}: "
                f"{', '.join(names)} after the first."
            )
        self._pairs = {name: (line.split(":") + [""])[:2] for name, line in zip(names, lines)}
        self._where = {name: f"{path}, line {line.number}" for name, line in zip(names, lines)}
        check_name(self["model_name"], self.where("model_name"))
        if "save_dir" in names:
            check_save_dir(self._pairs["save_dir"][0], self.where("save_dir"))

    def where(self, name: str) -> str:
        """The file and the number of a line, for a sentence."""
        return self._where[name]

    def __getitem__(self, name: str) -> str:
        """What stands between the first and the second colon of a line."""
        return self._pairs[name][1]

    def option(self, name: str, value: str | None = None) -> str:
        """The command-line argument `key=value`, with the line's own value by default; '' where that is null."""
        value = self[name] if value is None else value
        return "" if value in ("null", "") else f"{self._pairs[name][0]}={value}"


def header_of(path: str | Path) -> str:
    """What stands between the equals signs of a file's first line."""
    return "".join(_lines(Path(path))[:1]).strip("= ")


def split_command(command: str, where: str) -> list[str]:
    """Split a command into words, as a shell does."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise TipcError(f"{where}: `{command}` is no command: {error}.") from error


def check_name(value: str, where: str) -> None:
    """Refuse what cannot be the name of a file or folder, or a part of one, or would lead elsewhere."""
    if value.strip() in ("", ".", "..") or any(letter in "/\\" or ord(letter) < 32 for letter in value):
        raise TipcError(f"{where}: {value!r} is the name of a folder or a part of one: it must be a plain word.")
    if len(value.encode()) > 100:
        raise TipcError(f"{where}: {value[:40]!r} ... is the name of a folder or a part of one, and is too long.")


def check_save_dir(key: str, where: str) -> None:
    """Refuse a line for the folder of results that has another key: the command would write where it likes."""
    if key != "--save_dir":
        raise TipcError(f"{where} must begin with `--save_dir:`, not with {key[:40]!r}: is a line missing above it?")


def check_count(value: str, where: str, or_null: bool = False) -> None:
    """Refuse what is no whole number from 1 on."""
    number = value.isascii() and value.isdecimal() and len(value) < 10 and int(value) > 0
    if not (number or (or_null and value == "null")):
        raise TipcError(f"{where}: {value[:40]!r} must be a whole number from 1 on.")


class _Line(str):
    """A line of a file, which knows its number there."""

    number: int

    def __new__(cls, text: str, number: int) -> _Line:
        line = super().__new__(cls, text)
        line.number = number
        return line


def _lines(path: Path) -> list[_Line]:
    """The lines that are not blank."""
    if not path.is_file():
        raise TipcError(f"there is no TIPC file {path}.")
    with open(path, "rb") as file:
        content = file.read(_BYTES + 1)
    if len(content) > _BYTES:
        raise TipcError(f"{path} is larger than {_BYTES} bytes, which no TIPC file is.")
    for wrong in (b"\0", b"\x1b"):
        if wrong in content:
            raise TipcError(f"{path}, line {_line_of(content, content.index(wrong))}: it is no text.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TipcError(f"{path}, line {_line_of(content, error.start)}: it is not UTF-8.") from error
    lines = [_Line(line, number) for number, line in enumerate(text.splitlines(), start=1) if line]
    for line in lines:
        if len(line) > _CHARACTERS:
            raise TipcError(f"{path}, line {line.number}: it has more than {_CHARACTERS} letters.")
    return lines


def _line_of(content: bytes, place: int) -> int:
    return content[:place].count(b"\n") + 1
