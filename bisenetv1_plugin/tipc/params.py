"""TIPC's parameter file, `train_infer_python.txt`, read as the standard's shell functions read it."""

from pathlib import Path

MODES = ("lite_train_lite_infer", "lite_train_whole_infer", "whole_infer", "whole_train_whole_infer")
BENCHMARK = "benchmark_train"

# The first lines of the files that `ShortParams` reads.
PTQ, PADDLE2ONNX = "ptq_params", "paddle2onnx_params"

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
    "infer_quantised": 38,
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


class TipcError(Exception):
    """What is wrong with a TIPC file, its data or a mode, in a sentence that names it."""


class Params:
    """One parameter file.

    Args:
        path (str | Path): the file.
        mode (str): one of `MODES`, or `BENCHMARK`; values may depend on it.

    Raises:
        TipcError: there is no such file or mode, or the file has too few lines.
    """

    def __init__(self, path, mode):
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
        self._lines.append("")

    def key(self, name):
        """What stands before the first colon of a line."""
        return self._lines[LINES[name]].split(":")[0]

    def value(self, name):
        """What stands between the first and the second colon of a line; '' where there is none."""
        return (self._lines[LINES[name]].split(":") + [""])[1]

    def values(self, name):
        """The alternatives of a line, which `|` separates."""
        return [value for value in self.value(name).split("|") if value]

    def of_mode(self, name):
        """The value of a `mode=value|mode=value` line for this mode; '' if it has none."""
        for alternative in self.values(name):
            mode, _, value = alternative.partition("=")
            if mode == self.mode:
                return value.partition("=")[0]
        return ""

    def option(self, name, value=None):
        """The command-line argument `key=value`, with the line's own value by default; '' where either is null."""
        value = self.value(name) if value is None else value
        key = self.key(name)
        return "" if "null" in (key, value) or value.strip() == "" else f"{key}={value}"

    def block(self, title):
        """Pairs of key and value of the lines under the header `===title===`; none where the file has no such block."""
        pairs, inside = [], False
        for line in self._lines:
            if line.startswith("==="):
                inside = line.strip("= ") == title
            elif inside and line:
                pairs.append(tuple((line.split(":") + [""])[:2]))
        return pairs


class ShortParams:
    """A parameter file of a shorter form, such as those of paddle2onnx and PTQ, with the same values in every mode.

    Args:
        path (str | Path): the file.
        header (str): what its first line must say, `PTQ` or `PADDLE2ONNX`.
        names (sequence[str]): what its lines are for, from the second on.

    Raises:
        TipcError: there is no such file, it is of another form, or has too few lines.
    """

    def __init__(self, path, header, names):
        if header_of(path) != header:
            raise TipcError(f"{path} is no {header} file: its first line is not `==={header}===`.")
        lines = _lines(Path(path))[1:]
        if len(lines) < len(names):
            raise TipcError(
                f"{path} has {len(lines) + 1} lines that are not blank; the standard's format has {len(names) + 1}: "
                f"{', '.join(names)} after the first."
            )
        self._pairs = {name: (line.split(":") + [""])[:2] for name, line in zip(names, lines)}

    def __getitem__(self, name):
        """What stands between the first and the second colon of a line."""
        return self._pairs[name][1]

    def option(self, name, value=None):
        """The command-line argument `key=value`, with the line's own value by default; '' where that is null."""
        value = self[name] if value is None else value
        return "" if value in ("null", "") else f"{self._pairs[name][0]}={value}"


def header_of(path):
    """What stands between the equals signs of a file's first line."""
    return "".join(_lines(Path(path))[:1]).strip("= ")


def _lines(path):
    if not path.is_file():
        raise TipcError(f"there is no TIPC file {path}.")
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line]
