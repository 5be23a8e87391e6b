"""What a checkpoint says beside its weights, for a training that goes on from it; no correction itself.

A folder iter_N has a `progress.json`, which is written before the weights, and so has a folder best_model, where it is
written after them. Checkpoints of PaddleSeg alone have none.
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
# The folder of a best model: its weights, which a checkpoint has under the same name, and its figure in a checkpoint's
# progress.json.
BEST = {"best_model": ("model.pdparams", "mIoU"), "ema_best_model": ("ema_model.pdparams", "ema_mIoU")}

_LARGEST = 1 << 16  # bytes; a training writes a few hundred
_Checks = Dict[str, Callable[[Any], bool]]  # by key, whether a value can be one of a training


@dataclass
class Progress:
    """What a checkpoint says.

    Attributes:
        begun: when the training began, which tells it from others; in seconds, as time.time().
        saved: when this was written.
        seed: of the random numbers of data and network.
        average: whether the average of --use_ema belongs to it.
        mIoU, ema_mIoU: where it was evaluated.
        stop_count: of evaluations since the best one.
        loss_scaling: the state of Paddle's GradScaler, under mixed precision.
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
    """What a folder best_model says: when its training began, the figure, and the iteration that has it."""

    begun: float
    mIoU: float
    iteration: int


def iteration(folder: str | os.PathLike[str]) -> int | None:
    """N of a folder iter_N, from which upstream takes it as well; None of any other."""
    number = os.path.basename(os.path.normpath(folder)).rpartition("_")[2]
    return int(number) if re.fullmatch("[0-9]{1,18}", number) else None


def read(checkpoint: str | os.PathLike[str]) -> Progress | None:
    """The progress of a checkpoint; None if it has none.

    Raises:
        InputError: no training writes what is there.
    """
    values = _read(checkpoint, _CHECKPOINT)
    return Progress(**values) if values else None


def best(save_dir: str, checkpoint: str, kind: str = "best_model") -> BestModel | None:
    """The best model of the training that goes on from a checkpoint.

    Returns:
        None if there is none in `save_dir`.

    Raises:
        InputError: no training writes what is there.
    """
    progress, folder = read(checkpoint), os.path.join(save_dir, kind)
    weights, figure = BEST[kind]
    if progress is None:
        return None
    values = _read(folder, _BEST) if os.path.isfile(os.path.join(folder, weights)) else None
    found = BestModel(**values) if values and values["begun"] == progress.begun else None  # else another training's
    # The checkpoint itself, where the training was killed before it had also written it as the best model.
    own: float | None = getattr(progress, figure)
    number = iteration(checkpoint)
    parent = os.path.dirname(os.path.realpath(checkpoint))
    if own is None or number is None or parent != os.path.realpath(save_dir) or (found and own <= found.mIoU):
        return found
    return BestModel(progress.begun, own, number)


def checkpoints(save_dir: str, begun: float) -> list[str]:
    """The names of one training's checkpoints in a folder, the earlier first."""
    found = {}
    for name in os.listdir(save_dir) if os.path.isdir(save_dir) else ():
        number = iteration(name) if name.startswith("iter_") else None
        if number is not None:
            try:
                progress = read(os.path.join(save_dir, name))
            except InputError:  # not one of ours
                continue
            if progress and progress.begun == begun:
                found[name] = number
    return sorted(found, key=found.__getitem__)


def write(folder: str, **values: object) -> None:
    """Write the progress of a checkpoint, or of a best model."""
    files.write(os.path.join(folder, NAME), json.dumps(values, indent=1).encode("ascii"))


def _read(folder: str | os.PathLike[str], checks: _Checks) -> dict[str, Any] | None:
    path = os.path.join(folder, NAME)
    if not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        values = json.loads(content.decode("ascii")) if len(content) <= _LARGEST else None
    except (ValueError, RecursionError):  # json's and the codec's are ValueErrors
        values = None
    if not isinstance(values, dict):
        raise InputError(f"{path} is no JSON of a training's progress: take another checkpoint, or remove this file.")
    for key, is_right in checks.items():
        if not is_right(values.get(key)):
            raise InputError(
                f"{path}: {key} cannot be {str(values.get(key))[:80]!r}: take another checkpoint, or remove this file."
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
    """The state of Paddle's GradScaler, whose scale is a list of one number; None without mixed precision."""
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
