"""PaddleSeg's `train` restores only the weights, the optimizer and the learning rate from a checkpoint.

This guard restores the rest: the mIoU of the best models, the average of --use_ema, the order of the data, the random
numbers, the early-stop count, the loss scaling and the list of checkpoints to keep. Most of it is in `progress.json`,
see `progress_file`. The order of the data follows from the iteration.

Random numbers are drawn from the seed and the position at which they are used. A single random stream could not be
restored, because processes that load data run ahead.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import random
import shutil
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Callable, Iterable, Iterator

import numpy as np
import paddle

from bisenetv1_plugin import files
from bisenetv1_plugin.compat import core_train, progress_file
from bisenetv1_plugin.compat.core_train import ModuleView

logger = logging.getLogger(__name__)

DEFECT = (
    "PaddleSeg's train, resumed from a checkpoint, overwrites the best model with a worse one, and restarts the "
    "average of --use_ema, the order of the data and the early-stop count."
)

_VARIABLES = {  # in `train`: the best mIoU and its iteration
    "best_model": ("best_mean_iou", "best_model_iter"),
    "ema_best_model": ("best_ema_mean_iou", "best_ema_model_iter"),
}
_USED = {"paddle", "save", "DistributedBatchSampler", "evaluate", "init_ema_params", "train_profiler", "shutil"}


def needed() -> bool:
    """Whether `train` keeps the mIoU of its best model in a variable."""
    variables = set(core_train.function().__code__.co_varnames)
    return core_train.names() >= _USED and variables >= {"best_mean_iou", "best_model_iter", "save_models"}


def apply() -> None:
    core_train.add_guard(_resume)


@contextmanager
def _resume(call: core_train.Call) -> Iterator[None]:
    names = ("save_dir", "resume_model", "val_dataset", "use_ema", "keep_checkpoint_max")
    training = _Training(*(call.arguments[name] for name in names))
    call.arguments["train_dataset"] = _SeededDataset(call.arguments["train_dataset"], training.seed)
    call.first_statements += training.first_statements()
    with training.patches():
        yield


class _Training:
    """One call of `train`: its state at the start, and the progress that it writes."""

    def __init__(
        self, save_dir: str, checkpoint: str | None, val_dataset: object, use_ema: bool, keep_checkpoint_max: int
    ) -> None:
        self._save_dir, self._checkpoint, self._evaluates = save_dir, checkpoint, val_dataset is not None
        self._use_ema, self._keep_checkpoint_max = use_ema, keep_checkpoint_max
        self._rank = paddle.distributed.ParallelEnv().local_rank
        self._iteration = (progress_file.iteration(checkpoint) or 0) if checkpoint else 0
        self._progress = before = progress_file.read(checkpoint) if checkpoint else None
        self._begun = before.begun if before else time.time()
        self.seed = before.seed if before else int(np.random.randint(1 << 31))
        self._stop_count = before.stop_count if before else 0
        self._best_scores: dict[str, float] = {}
        self._scores: dict[str, float | None] = {}  # of the evaluations since the last checkpoint
        self._average: paddle.nn.Layer | None = None
        self._scaler: Any = None
        if checkpoint and before is None and os.path.isdir(checkpoint):
            logger.warning(
                f"{checkpoint} has no {progress_file.NAME}, because PaddleSeg alone or an older version wrote it: "
                "the search for the best model starts again."
            )

    @contextmanager
    def patches(self) -> Iterator[None]:
        """Replace names that `train` looks up, for the duration of the block."""
        module = core_train.module()
        paddle_, evaluate = module.paddle, module.evaluate
        init_ema_params, add_profiler_step = module.init_ema_params, module.train_profiler.add_profiler_step

        def evaluate_and_record(network: paddle.nn.Layer, *args: Any, **kwargs: Any) -> Any:
            results = evaluate(network, *args, **kwargs)
            kind = "ema_best_model" if network is self._average else "best_model"
            self._scores[kind] = float(results[0]) if math.isfinite(results[0]) else None
            return results

        def init_average(network: paddle.nn.Layer, *args: Any, **kwargs: Any) -> None:
            init_ema_params(network, *args, **kwargs)
            self._average = network
            self._restore_average(network)

        def count_step(*args: Any, **kwargs: Any) -> None:
            add_profiler_step(*args, **kwargs)
            self._iteration += 1
            self._seed_network()

        def make_scaler(*args: Any, **kwargs: Any) -> Any:
            self._scaler = paddle_.amp.GradScaler(*args, **kwargs)
            if self._progress and self._progress.loss_scaling:
                self._scaler.load_state_dict(self._progress.loss_scaling)
            return self._scaler

        sampler = functools.partial(_Sampler, done=self._iteration)
        others = {
            "paddle": ModuleView(
                paddle_,
                save=self._wrap_save(paddle_.save),
                io=ModuleView(paddle_.io, DistributedBatchSampler=sampler),
                amp=ModuleView(paddle_.amp, GradScaler=make_scaler),
            ),
            "evaluate": evaluate_and_record,
            "init_ema_params": init_average,
            "train_profiler": ModuleView(module.train_profiler, add_profiler_step=count_step),
            "shutil": ModuleView(module.shutil, rmtree=_remove_checkpoint),
        }
        self._seed_network()
        with ExitStack() as stack:
            for name, value in others.items():
                stack.enter_context(core_train.patch(vars(module), name, value))
            yield

    def first_statements(self) -> list[str]:
        """Python statements that restore the local variables of `train`."""
        if self._progress is None or self._rank != 0:  # only rank 0 writes checkpoints and stops early
            return []
        lines = [f"stop_count = {self._stop_count}"]
        for kind, variables in _VARIABLES.items():
            best = self._checkpoint and progress_file.best(self._save_dir, self._checkpoint, kind)
            if not best:
                continue
            if best.iteration == self._iteration and self._evaluates:
                self._keep_checkpoint_as(kind, best)
            self._best_scores[kind] = best.mIoU
            lines += [f"{variables[0]} = {best.mIoU!r}", f"{variables[1]} = {best.iteration}"]
        return [*lines, f"save_models.extend({self._checkpoints()!r})"]

    def _checkpoints(self) -> list[str]:
        """The checkpoints of this training that count toward keep_checkpoint_max."""
        names = progress_file.checkpoints(self._save_dir, self._begun)
        names = [name for name in names if (progress_file.iteration(name) or 0) <= self._iteration]
        found = [os.path.join(self._save_dir, name) for name in names]
        kept = self._keep_checkpoint_max
        if 0 < kept == len(found) - 1:  # killed before it deleted the oldest; more were kept on purpose
            _remove_checkpoint(found[0])
        return found[-kept:] if kept > 0 else found

    def _keep_checkpoint_as(self, kind: str, best: progress_file.BestModel) -> None:
        """Write the checkpoint as the best model, in case the training was killed before it did."""
        name = progress_file.BEST[kind][0]
        source, folder = os.path.join(self._checkpoint or "", name), os.path.join(self._save_dir, kind)
        if os.path.isfile(source):
            with files.whole_file(os.path.join(folder, name)) as temporary:
                shutil.copyfile(source, temporary)
            progress_file.write(folder, **vars(best))

    def _restore_average(self, network: paddle.nn.Layer) -> None:
        path = os.path.join(self._checkpoint or "", progress_file.BEST["ema_best_model"][0])
        if self._checkpoint and os.path.isfile(path):
            network.set_state_dict(paddle.load(path))
        elif self._checkpoint:
            logger.warning(f"The average of --use_ema starts at {self._checkpoint}, which has no average.")

    def _seed_network(self) -> None:
        paddle.seed(int(_random_seeds(self.seed, self._iteration, self._rank)[0]))

    def _wrap_save(self, save: Callable[..., Any]) -> Callable[..., None]:
        """`save`, which also writes the progress.json of the weights."""

        @functools.wraps(save)
        def save_with_progress(obj: object, path: str, *args: Any, **kwargs: Any) -> None:
            folder, name = os.path.split(path)
            kind = os.path.basename(folder)
            if name == progress_file.BEST.get(kind, [None])[0]:
                _remove(folder, [progress_file.NAME])  # it is of the previous weights
                save(obj, path, *args, **kwargs)
                progress_file.write(folder, begun=self._begun, mIoU=self._best_scores[kind], iteration=self._iteration)
                return
            if name == "model.pdparams":
                self._write_progress(folder)
            save(obj, path, *args, **kwargs)

        return save_with_progress

    def _write_progress(self, folder: str) -> None:
        scores, self._scores = self._scores, {}
        for kind, score in scores.items():
            before = self._best_scores.get(kind, -1.0)
            if score is not None and score > before:
                self._best_scores[kind] = score
            if kind == "best_model" and score is not None and score != before:
                self._stop_count = self._stop_count + 1 if score < before else 0
        # Files of another training that is overwritten must not complete the new weights.
        _remove(folder, ["model.pdopt", "ema_model.pdparams", "model.pdstates", "ema_model.pdstates"])
        scaling: dict[str, Any] = self._scaler.state_dict() if self._scaler else {}
        progress_file.write(
            folder,
            begun=self._begun,
            saved=time.time(),
            seed=self.seed,
            average=bool(self._use_ema),
            mIoU=scores.get("best_model"),
            ema_mIoU=scores.get("ema_best_model"),
            stop_count=self._stop_count,
            loss_scaling={key: np.asarray(value).tolist() for key, value in scaling.items()} or None,
        )


def _remove_checkpoint(folder: str) -> None:
    """Delete a checkpoint, and its progress.json last, which identifies the training if a kill interrupts this."""
    if not os.path.isdir(folder) or os.path.islink(folder):  # the user deleted it, or moved it and left a link
        return
    for entry in list(os.scandir(folder)):
        if entry.is_file() and entry.name != progress_file.NAME:
            os.unlink(entry.path)
    shutil.rmtree(folder)


def _remove(folder: str, names: Iterable[str]) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))


class _Index(int):
    """An index of a dataset, with the epoch in which it is read."""

    epoch: int


class _Sampler(paddle.io.DistributedBatchSampler):
    """Skips the first `done` batches without reading them."""

    def __init__(self, *args: Any, done: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._skipped = 0
        if len(self):
            self.epoch, self._skipped = divmod(done, len(self))

    def __iter__(self) -> Iterator[list[_Index]]:  # type: ignore[override]
        skipped, self._skipped, epoch = self._skipped, 0, self.epoch
        for number, batch in enumerate(super().__iter__()):
            if number >= skipped:
                indices = [_Index(index) for index in batch]
                for index in indices:
                    index.epoch = epoch
                yield indices


class _SeededDataset(paddle.io.Dataset):
    """A dataset with random numbers that depend only on the seed, the epoch and the index."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self._dataset, self._seed = dataset, seed

    def __getitem__(self, index: _Index) -> Any:  # type: ignore[override]
        python, numpy = _random_seeds(self._seed, index.epoch, int(index))
        random.seed(int(python))
        np.random.seed(numpy)
        return self._dataset[int(index)]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> Any:
        if name == "_dataset":  # not set yet during unpickling
            raise AttributeError(name)
        return getattr(self._dataset, name)


def _random_seeds(*numbers: int) -> np.ndarray:
    """Two random seeds of 32 bits for these numbers."""
    return np.random.SeedSequence(numbers).generate_state(2)
