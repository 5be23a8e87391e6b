"""The folder that a training writes into: nobody else does meanwhile, and nothing of the user's is lost in it."""

from __future__ import annotations

import logging
import os
import re
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import paddle

from bisenetv1_plugin import files
from bisenetv1_plugin.compat import progress_file
from bisenetv1_plugin.compat.progress_file import iteration
from bisenetv1_plugin.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: two trainings in one folder are not noticed there
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LATEST = "latest"  # in place of a checkpoint's name
CHECKPOINT = ("model.pdparams", "model.pdopt")
AVERAGE = "ema_model.pdparams"
# In a folder iter_N, best_model or ema_best_model; the states by PaddleSeg 2.9 and later.
_FILES = {*CHECKPOINT, AVERAGE, "model.pdstates", "ema_model.pdstates", progress_file.NAME}
_TEMPORARY_NAME = re.compile(r"part-[a-z0-9_]{8}\.(pdparams|pdopt|json)")  # what `files.whole_file` has meanwhile

# Descriptors of the folders that this process trains into. A process that loads data would keep its copy, and with it
# the lock, for seconds after this one is killed.
_locks: set[int] = set()


def _release_locks() -> None:
    while _locks:
        os.close(_locks.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_locks)


@contextmanager
def reserve_folder(save_dir: str, is_first: bool) -> Iterator[None]:
    """Keep other trainings out of the folder, as long as the block or this process lasts.

    Of a training in several processes only the first does, and all of them may be in.
    """
    if os.path.lexists(save_dir) and not os.path.isdir(save_dir):
        raise InputError(f"--save_dir {save_dir} is no folder: choose another.")
    made = is_first and not os.path.isdir(save_dir)
    if is_first:
        os.makedirs(save_dir, exist_ok=True)
        _lock(save_dir)
    try:
        yield
    finally:
        _release_locks()
        if made:
            with suppress(OSError):  # there is something in it, as there should be
                os.rmdir(save_dir)


def _lock(save_dir: str) -> None:
    """The system gives the lock back, however this process ends."""
    if fcntl is None:
        return
    folder = os.open(save_dir, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(folder)
        raise InputError(
            f"another training writes into {save_dir}: wait for its end, or choose another --save_dir."
        ) from error
    except OSError:  # some network file systems have no locks
        os.close(folder)
    else:
        _locks.add(folder)


def check_outputs(
    values: dict[str, Any],
    iters: int,
    save_dir: str,
    resume_model: str | None,
    save_interval: int,
    do_eval: bool,
    use_ema: bool,
) -> None:
    """Refuse to write over what is read, outside of the folder, or over what no training made.

    Args:
        values (dict): the configuration's, some of which name files.
        iters (int): the training's last iteration.
        save_dir, resume_model, save_interval, do_eval, use_ema: of `training.train`.

    Raises:
        InputError: the training would do so.
    """
    reads = [path for path in _strings(values) if os.path.isfile(path)]
    reads += [os.path.join(resume_model, name) for name in (*CHECKPOINT, AVERAGE)] if resume_model else []
    best = {"best_model": do_eval, "ema_best_model": do_eval and use_ema}
    root, start = os.path.realpath(save_dir), (iteration(resume_model) or 0) if resume_model else 0
    for name in sorted(os.listdir(save_dir)):
        number = iteration(name) if name.startswith("iter_") else None
        is_checkpoint = (
            number is not None and start < number <= iters and (number % save_interval == 0 or number == iters)
        )
        if not (best.get(name) or is_checkpoint):
            continue
        folder = os.path.join(save_dir, name)
        if not os.path.isdir(folder):
            raise InputError(f"{folder} is no folder, and a checkpoint of this training would be: move it away.")
        there = [file for file in os.listdir(folder) if not file.startswith("part-")]
        if name not in best and not set(CHECKPOINT) <= set(there) and set(there) - _FILES:
            raise InputError(f"{folder} holds what no training wrote: move it away, or choose another --save_dir.")
        targets = [os.path.join(folder, file) for file in there if file in _FILES]
        for path in (folder, *targets):
            if os.path.commonpath([root, os.path.realpath(path)]) != root:
                raise InputError(f"{path} leads out of {save_dir}: move it away, or choose another --save_dir.")
        files.check_outputs(targets, reads, is_ours=lambda path: True)


def _strings(value: Any) -> Iterator[str]:
    """Every text in a configuration's values."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str):
        yield value


def newest(save_dir: str, tidy: bool = True) -> str | None:
    """The newest whole checkpoint of a folder; the log says which it is, and which newer ones are no good and why.

    With `tidy`, what a killed training had begun to write there is removed: nobody else may be training into this
    folder.

    Returns:
        str: the folder iter_N that was written last and whose files can be read and are finite; None if there is none.
    """
    found = [folder for folder in Path(save_dir).glob("iter_*") if iteration(folder) is not None]
    if tidy:
        for folder in (*found, *(Path(save_dir, name) for name in progress_file.BEST)):
            if folder.is_symlink():  # to where the user has moved it
                continue
            for part in folder.glob("part-*"):
                if _TEMPORARY_NAME.fullmatch(part.name) and part.is_file():
                    part.unlink()
    for checkpoint in sorted(found, key=_time_saved, reverse=True):
        why = fault(checkpoint)
        if why is None:
            logger.info(f"Going on from {checkpoint}, the newest whole checkpoint in {save_dir}.")
            return str(checkpoint)
        logger.warning(f"Passing over {checkpoint}: {why}.")
    logger.info(f"There is no whole checkpoint in {save_dir}: starting from the beginning.")
    return None


def _time_saved(folder: Path) -> tuple[float, int]:
    """When a checkpoint was written; of two at a time, the one of more iterations is the later."""
    with suppress(InputError):
        progress = progress_file.read(folder)
        if progress:
            return progress.saved, iteration(folder) or 0
    weights = folder / CHECKPOINT[0]
    return (weights if weights.exists() else folder).stat().st_mtime, iteration(folder) or 0


def refuse_broken(folder: str) -> None:
    """A checkpoint that cannot be resumed is refused before anything starts."""
    if iteration(folder) is None:
        raise InputError(f"{folder} is no checkpoint to resume from: it must be a folder called iter_N, or {LATEST}.")
    why = fault(folder)
    if why is not None:
        raise InputError(f"{folder}: {why}; resume from the checkpoint before it, or from `{LATEST}`.")


def fault(folder: str | Path) -> str | None:
    """Why a checkpoint cannot be resumed from; None if it can."""
    try:
        progress = progress_file.read(folder)
    except InputError as error:
        return str(error).rstrip(".")
    average = [AVERAGE] * bool(progress and progress.average)
    for name in (*CHECKPOINT, *average):
        path = Path(folder, name)
        if not path.is_file():
            return f"it has no {name}"
        try:
            state = paddle.load(str(path), return_numpy=True)
        except Exception as error:  # noqa: BLE001 - half a pickle raises anything
            return f"{name} cannot be read ({error}), the training may have been stopped while it was written"
        if not _is_finite(state):
            return f"{name} holds NaN or infinity"
    return None


def _is_finite(state: Any) -> bool:
    """Whether no array in a state, nested or not, holds NaN or infinity."""
    if isinstance(state, dict):
        return all(map(_is_finite, state.values()))
    return not (isinstance(state, np.ndarray) and state.dtype.kind == "f") or bool(np.isfinite(state).all())
