"""The output folder of a training: it is locked, the user's files in it are kept, and its checkpoints are checked."""

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
except ImportError:  # Windows, where two trainings in one folder are not detected
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LATEST = "latest"  # accepted instead of a checkpoint folder
CHECKPOINT = ("model.pdparams", "model.pdopt")
AVERAGE = "ema_model.pdparams"
# The files in iter_N, best_model and ema_best_model. PaddleSeg 2.9 and later write the .pdstates.
_FILES = {*CHECKPOINT, AVERAGE, "model.pdstates", "ema_model.pdstates", progress_file.NAME}
_TEMPORARY_NAME = re.compile(r"part-[a-z0-9_]{8}\.(pdparams|pdopt|json)")  # of `files.whole_file`

# Descriptors of the locked folders. A data-loading process must close its copies: it outlives a killed training by
# seconds, and would hold the lock.
_locks: set[int] = set()


def _release_locks() -> None:
    while _locks:
        os.close(_locks.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_locks)


@contextmanager
def reserve_folder(save_dir: str, is_first: bool) -> Iterator[None]:
    """Create and lock the folder for the duration of the block. Folders that are still empty afterwards are removed.

    These are the folder itself and those of the best models: a training that is ended while it writes the first best
    model leaves an empty folder.

    If a training has several processes, only the first one does this.

    Raises:
        InputError: the path is not a folder, or another training writes into it.
    """
    if os.path.lexists(save_dir) and not os.path.isdir(save_dir):
        raise InputError(f"--save_dir {save_dir} is not a folder: choose another.")
    made = is_first and not os.path.isdir(save_dir)
    if is_first:
        os.makedirs(save_dir, exist_ok=True)
        _lock(save_dir)
    best = [os.path.join(save_dir, name) for name in progress_file.BEST] if is_first else []
    ours = [folder for folder in best if not os.path.lexists(folder)] + [save_dir] * made
    try:
        yield
    finally:
        _release_locks()
        for folder in ours:
            with suppress(OSError):  # usually it is not empty
                os.rmdir(folder)


def _lock(save_dir: str) -> None:
    """Lock the folder. The system releases the lock even if this process is killed."""
    if fcntl is None:
        return
    folder = os.open(save_dir, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(folder)
        raise InputError(
            f"another training is writing into {save_dir}: wait until it ends, or choose another --save_dir."
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
    """Refuse a training that would overwrite its own inputs or the user's files, or write outside the folder.

    Args:
        values: the values of the configuration, some of which are file names.
        iters: the last iteration of the training.
        save_dir, resume_model, save_interval, do_eval, use_ema: see `training.train`.

    Raises:
        InputError: the training would overwrite its inputs or the user's files, or write outside `save_dir`.
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
            raise InputError(
                f"{folder} is not a folder, and the training would write a checkpoint there: move it away."
            )
        names = [file for file in os.listdir(folder) if not file.startswith("part-")]
        if name not in best and not set(CHECKPOINT) <= set(names) and set(names) - _FILES:
            raise InputError(f"{folder} has files that no training wrote: move it away, or choose another --save_dir.")
        targets = [os.path.join(folder, file) for file in names if file in _FILES]
        for path in (folder, *targets):
            if os.path.commonpath([root, os.path.realpath(path)]) != root:
                raise InputError(f"{path} points outside {save_dir}: move it away, or choose another --save_dir.")
        files.check_outputs(targets, reads, is_ours=lambda path: True)


def _strings(value: Any) -> Iterator[str]:
    """Every string in a configuration's values."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str):
        yield value


def newest(save_dir: str, tidy: bool = True) -> str | None:
    """Find the newest complete checkpoint in a folder. The log names it, and the newer ones that were skipped.

    Args:
        save_dir: the folder of the iter_N folders.
        tidy: also remove partial files of a killed training. No other training may be writing into the folder.

    Returns:
        The folder iter_N that was written last, with readable files and only finite values. None if no folder has.
    """
    found = [folder for folder in Path(save_dir).glob("iter_*") if iteration(folder) is not None]
    if tidy:
        for folder in (*found, *(Path(save_dir, name) for name in progress_file.BEST)):
            if folder.is_symlink():  # the user has moved it
                continue
            for part in folder.glob("part-*"):
                if _TEMPORARY_NAME.fullmatch(part.name) and part.is_file():
                    part.unlink()
    for checkpoint in sorted(found, key=_time_saved, reverse=True):
        why = fault(checkpoint)
        if why is None:
            logger.info(f"Resuming from {checkpoint}, the newest complete checkpoint in {save_dir}.")
            return str(checkpoint)
        logger.warning(f"Skipping {checkpoint}: {why}.")
    logger.info(f"There is no complete checkpoint in {save_dir}: starting from the beginning.")
    return None


def _time_saved(folder: Path) -> tuple[float, int]:
    """The time at which a checkpoint was written, and its iteration, which decides between equal times."""
    with suppress(InputError):
        progress = progress_file.read(folder)
        if progress:
            return progress.saved, iteration(folder) or 0
    weights = folder / CHECKPOINT[0]
    return (weights if weights.exists() else folder).stat().st_mtime, iteration(folder) or 0


def refuse_broken(folder: str) -> None:
    """Check that a checkpoint can be resumed from.

    Raises:
        InputError: it cannot.
    """
    if iteration(folder) is None:
        raise InputError(f"{folder} is not a checkpoint to resume from: give a folder named iter_N, or `{LATEST}`.")
    why = fault(folder)
    if why is not None:
        raise InputError(f"{folder}: {why}; resume from the checkpoint before it, or from `{LATEST}`.")


def fault(folder: str | Path) -> str | None:
    """The reason why a checkpoint cannot be resumed from, or None if it can."""
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
        except Exception as error:  # noqa: BLE001 - a truncated pickle may raise anything
            return f"{name} cannot be read ({error}); the training may have been killed while writing it"
        if not _is_finite(state):
            return f"{name} holds NaN or infinity"
    return None


def _is_finite(state: Any) -> bool:
    """Whether all arrays in a state, nested or not, are free of NaN and infinity."""
    if isinstance(state, dict):
        return all(map(_is_finite, state.values()))
    return not (isinstance(state, np.ndarray) and state.dtype.kind == "f") or bool(np.isfinite(state).all())
