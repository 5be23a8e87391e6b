"""PaddleSeg's `train` continues with NaN in the network, and saves it as a checkpoint and as the best model.

This guard checks every state before it is saved. NaN or infinity in a tensor ends the training with the number of the
iteration. So does a `BiSeNetV1Loss` that stays NaN or infinite. An occasional overflow under mixed precision is
harmless: GradScaler skips that step, and the state stays finite.
"""

from __future__ import annotations

import functools
import os
import re
import traceback
from contextlib import contextmanager, suppress
from typing import Any, Callable, Iterator, Sequence

import paddle

from bisenetv1_plugin.compat import core_train
from bisenetv1_plugin.errors import InputError

DEFECT = "PaddleSeg's train continues with NaN in the network, and saves it among the good checkpoints."

_CURES = (
    "Try a lower learning rate, look for wrong labels with `bisenetv1 data check`, and under mixed precision try "
    "--precision fp32."
)


def needed() -> bool:
    """Whether `train` saves states without checking that they are finite."""
    names = core_train.names()
    return {"paddle", "save"} <= names and not {"isfinite", "isnan"} & names


def apply() -> None:
    core_train.add_guard(_refuse_nan)


@contextmanager
def _refuse_nan(call: core_train.Call) -> Iterator[None]:
    losses = (call.arguments["losses"] or {}).get("types", ())
    names = vars(core_train.module())
    paddle_ = names["paddle"]
    finite = core_train.ModuleView(paddle_, save=_wrap_save(paddle_.save, losses))
    try:
        with core_train.patch(names, "paddle", finite):
            yield
    except FloatingPointError as error:
        iteration, calls = _iteration(error), _calls_not_finite(losses)
        if not (iteration and calls):
            raise
        # A loss raises at the start of a call, so the last call that it counted was in the iteration before.
        raise InputError(_sentence(iteration, f"the loss has been NaN since iteration {iteration - calls}")) from error


def _wrap_save(save: Callable[..., Any], losses: Sequence[Any]) -> Callable[..., Any]:
    """`save`, which raises for NaN and infinity."""

    @functools.wraps(save)
    def finite_save(obj: object, path: str, *args: Any, **kwargs: Any) -> Any:
        wrong = not_finite(obj)
        if not wrong:
            return save(obj, path, *args, **kwargs)
        folder = os.path.dirname(os.path.abspath(path))
        with suppress(OSError):  # it is not empty
            os.rmdir(folder)
        iteration = re.search(r"iter_(\d+)$", folder)
        what = f"{len(wrong)} tensors of {path} would have NaN or infinity (such as {wrong[0]})"
        if not iteration:
            raise InputError(f"{what}: it was not saved. {_CURES}")
        calls = _calls_not_finite(losses)
        since = f", and the loss has been NaN since iteration {int(iteration[1]) - calls + 1}" if calls else ""
        raise InputError(_sentence(int(iteration[1]), what + since))

    return finite_save


def not_finite(state: object) -> list[str]:
    """The names of the tensors in a state, nested or not, that have NaN or infinity."""
    tensors = dict(_floating_tensors(state))
    if not tensors:
        return []
    # One read from the device for all tensors.
    finite: Any = paddle.stack([paddle.isfinite(tensor).all() for tensor in tensors.values()]).tolist()
    return [name for name, is_finite in zip(tensors, finite) if not is_finite]


def _floating_tensors(state: object, prefix: str = "") -> Iterator[tuple[str, paddle.Tensor]]:
    for name, value in state.items() if isinstance(state, dict) else ():
        if isinstance(value, dict):
            yield from _floating_tensors(value, f"{prefix}{name}.")
        elif isinstance(value, paddle.Tensor) and value.is_floating_point():
            yield f"{prefix}{name}", value


def _sentence(iteration: int, what: str) -> str:
    return (
        f"the training was stopped at iteration {iteration}: {what}. All checkpoints saved before are finite. {_CURES}"
    )


def _calls_not_finite(losses: Sequence[Any]) -> int:
    """The number of calls in a row in which a loss was NaN or infinite, as far as the losses count them."""
    return max((loss.calls_not_finite() for loss in losses if hasattr(loss, "calls_not_finite")), default=0)


def _iteration(error: BaseException) -> int | None:
    """The iteration in which `train` raised this error."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "train" and frame.f_globals is vars(core_train.module()):
            return frame.f_locals.get("iter")
    return None
