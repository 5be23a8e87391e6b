"""The `progress.json` of a checkpoint, from which a training resumes. It is no correction itself.

In a folder iter_N it is written before the weights, in best_model after them. Checkpoints of PaddleSeg without the
plugin do not have it.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict

from bisenetv1_plugin import files
from bisenetv1_plugin.errors import InputError

NAME = "progress.json"
# The folder of each best model: the file name of its weights, and the key of its mIoU in a checkpoint's progress.json.
BEST = {"best_model": ("model.pdparams", "mIoU"), "ema_best_model": ("ema_model.pdparams", "ema_mIoU")}

_LARGEST = 1 << 16  # bytes; a usual file has a few hundred
_Checks = Dict[str, Callable[[Any], bool]]  # by key, whether a value is valid


@dataclass
class Progress:
    """The progress of a training at a checkpoint.

    Attributes:
        begun: the start of the training, from `time.time()`. It identifies the training.
        saved: the time of writing, from `time.time()`.
        seed: the seed for the data and the network.
        average: whether the checkpoint has the average of --use_ema.
        mIoU, ema_mIoU: 0..1, None without an evaluation.
        stop_count: the number of evaluations since the best one.
        loss_scaling: the state of Paddle's GradScaler under mixed precision.
    """

    begun: float
    saved: float
    seed: int
    average: bool
    mIoU: float | None
    ema_mIoU: float | None
    stop_count: int
    loss_scaling: dict[str, Any] | None


@dataclass
class BestModel:
    """The progress.json of a best model: the start of its training, its mIoU and its iteration."""

    begun: float
    mIoU: float
    iteration: int


def iteration(folder: str | os.PathLike[str]) -> int | None:
    """N of a folder named iter_N, as in PaddleSeg. None for other names."""
    number = os.path.basename(os.path.normpath(folder)).rpartition("_")[2]
    return int(number) if re.fullmatch("[0-9]{1,18}", number) else None


def read(checkpoint: str | os.PathLike[str]) -> Progress | None:
    """Read the progress of a checkpoint. None if it has no progress.json.

    Raises:
        InputError: the file is not valid.
    """
    values = _read(checkpoint, _CHECKPOINT)
    return Progress(**values) if values else None


def best(save_dir: str, checkpoint: str, kind: str = "best_model") -> BestModel | None:
    """The best model in `save_dir` of the training that resumes from a checkpoint. None if there is none.

    Raises:
        InputError: a progress.json is not valid.
    """
    progress, folder = read(checkpoint), os.path.join(save_dir, kind)
    weights, figure = BEST[kind]
    if progress is None:
        return None
    values = _read(folder, _BEST) if os.path.isfile(os.path.join(folder, weights)) else None
    found = BestModel(**values) if values and values["begun"] == progress.begun else None  # not another training's
    # The checkpoint may be the best one, if the training was killed before it wrote best_model.
    own: float | None = getattr(progress, figure)
    number = iteration(checkpoint)
    parent = os.path.dirname(os.path.realpath(checkpoint))
    if own is None or number is None or parent != os.path.realpath(save_dir) or (found and own <= found.mIoU):
        return found
    return BestModel(progress.begun, own, number)


def checkpoints(save_dir: str, begun: float) -> list[str]:
    """The names of one training's checkpoints in a folder, in the order of their iterations."""
    found = {}
    for name in os.listdir(save_dir) if os.path.isdir(save_dir) else ():
        number = iteration(name) if name.startswith("iter_") else None
        if number is not None:
            try:
                progress = read(os.path.join(save_dir, name))
            except InputError:  # of another program
                continue
            if progress and progress.begun == begun:
                found[name] = number
    return sorted(found, key=found.__getitem__)


def write(folder: str, **values: object) -> None:
    """Write the progress.json of a checkpoint or a best model."""
    files.write(os.path.join(folder, NAME), json.dumps(values, indent=1).encode("ascii"))


def _read(folder: str | os.PathLike[str], checks: _Checks) -> dict[str, Any] | None:
    path = os.path.join(folder, NAME)
    if not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        values = json.loads(content.decode("ascii")) if len(content) <= _LARGEST else None
    except (ValueError, RecursionError):  # json and the codec raise ValueErrors
        values = None
    if not isinstance(values, dict):
        raise InputError(f"{path} is not the progress of a training: use another checkpoint, or delete this file.")
    for key, is_right in checks.items():
        if not is_right(values.get(key)):
            raise InputError(
                f"{path}: {key} cannot be {str(values.get(key))[:80]!r}: use another checkpoint, or delete this file."
            )
    return {key: values.get(key) for key in checks}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e18 < value < 1e18


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 32


def _is_fraction(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_fraction_or_none(value: Any) -> bool:
    return value is None or _is_fraction(value)


def _is_scaling(value: Any) -> bool:
    """Whether it is a state of Paddle's GradScaler, with a list of one number as scale, or None."""
    if value is None:
        return True
    if not isinstance(value, dict) or set(value) != _SCALING:
        return False
    scale = value["scale"]
    is_scale = isinstance(scale, list) and len(scale) == 1 and _is_number(scale[0]) and scale[0] > 0
    return is_scale and all(isinstance(value[key], bool) or _is_number(value[key]) for key in _SCALING - {"scale"})


_SCALING = {
    *("scale", "incr_ratio", "decr_ratio", "incr_every_n_steps", "decr_every_n_nan_or_inf", "incr_count", "decr_count"),
    "use_dynamic_loss_scaling",
}
_CHECKPOINT: _Checks = {
    "begun": _is_number,
    "saved": _is_number,
    "seed": _is_count,
    "average": lambda value: isinstance(value, bool),
    "mIoU": _is_fraction_or_none,
    "ema_mIoU": _is_fraction_or_none,
    "stop_count": _is_count,
    "loss_scaling": _is_scaling,
}
_BEST: _Checks = {"begun": _is_number, "mIoU": _is_fraction, "iteration": _is_count}
