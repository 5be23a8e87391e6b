"""Trains a configuration, like PaddleSeg's tools/train.py, and resumes stopped trainings.

PaddleSeg's `train` does the work, with the guards of `compat`. An unreadable sample, NaN in the network or a full disk
ends it with an `InputError`. Checkpoints never have partial files.
"""

from __future__ import annotations

import copy
import inspect
import logging
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Sequence

import numpy as np
import paddle
from paddleseg import core
from paddleseg.cvlibs import Config
from paddleseg.utils import train_profiler, utils

from bisenetv1_plugin import files
from bisenetv1_plugin.compat import core_train, progress_file, small_batches
from bisenetv1_plugin.configuration import EVALUATION
from bisenetv1_plugin.datasets.check import quick_check
from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.training import builder, checkpoints, watch
from bisenetv1_plugin.weights import load_state

logger = logging.getLogger(__name__)

_EVALUATION_OPTIONS = set(EVALUATION) - {"auc_roc"}  # `train` does not compute it
_HEADS = 3  # outputs of BiSeNetV1 in training
_MAX_IMAGES = 10**7  # entries of the training list, after --repeats
_SHOWN = 3  # problems in a message; `bisenetv1 data check` lists all
_TRAIN_ARGUMENTS = (
    *("save_interval", "num_workers", "use_ema", "keep_checkpoint_max", "precision", "amp_level"),
    "profiler_options",
)  # arguments of PaddleSeg's `train` with the same names


@dataclass
class Options:
    """The keyword arguments of `train`. The flags of `bisenetv1 train` have the same names.

    Attributes:
        device: 'gpu', 'cpu', 'xpu', 'npu' or 'mlu'. The CPU is used if the machine has no such device.
        do_eval: evaluate at every checkpoint, and keep the best one.
        num_workers: number of processes that load data.
        resume_model: a checkpoint folder iter_N, from which the training continues as if it had not stopped. 'latest':
            the newest complete checkpoint in the output folder, or from the beginning if there is none.
        save_interval: iterations between checkpoints.
        keep_checkpoint_max: number of checkpoints to keep.
        log_iters: iterations between log lines.
        use_vdl, tensorboard: record curves for VisualDL and for TensorBoard.
        use_ema: also keep an exponential moving average of the weights.
        early_stop_intervals: stop after this number of checkpoints without a better one.
        precision: 'fp32', or 'fp16' for mixed precision.
        amp_level: 'O1' or 'O2', the level of mixed precision.
        profiler_options: see PaddleSeg's utils/train_profiler.py.
        repeats: number of passes over the data in an epoch.
        seed: the seed of all random numbers. A resumed training keeps its own.
    """

    device: str = "gpu"
    do_eval: bool = False
    num_workers: int = 0
    resume_model: str | None = None
    save_interval: int = 1000
    keep_checkpoint_max: int = 5
    log_iters: int = 10
    use_vdl: bool = False
    tensorboard: bool = False
    use_ema: bool = False
    early_stop_intervals: int | None = None
    precision: str = "fp32"
    amp_level: str = "O1"
    profiler_options: str | None = None
    repeats: int = 1
    seed: int | None = None


def train(cfg: Config, save_dir: str, watcher: watch.Watcher | None = None, **options: Any) -> None:
    """Train, and write checkpoints and, with `do_eval`, `best_model` to `save_dir`.

    Args:
        cfg: the configuration, see `builder.load_config`.
        save_dir: the output folder.
        watcher: callbacks for progress and metrics.
        **options: see `Options`.

    Raises:
        InputError: before the training: another training writes into the folder; this one would overwrite its inputs
            or the user's files; the data or a component cannot be used; a batch has too few images; the checkpoint
            cannot be resumed; or PaddleSeg lacks an option. During the training: a sample cannot be read, the network
            has NaN, or the disk is full.
    """
    settings = Options(**options)
    _check_loss(cfg)
    _check_profiler(settings.profiler_options)
    if settings.early_stop_intervals and not settings.do_eval:
        raise InputError("--early_stop_intervals needs --do_eval: only an evaluation tells which checkpoint is better.")
    is_first = paddle.distributed.get_rank() == 0
    with checkpoints.reserve_folder(save_dir, is_first):
        checkpoint = settings.resume_model
        if checkpoint == checkpoints.LATEST:
            checkpoint = checkpoints.newest(save_dir, tidy=is_first)
        elif checkpoint:
            checkpoints.refuse_broken(checkpoint)
        done = checkpoint and _why_finished(cfg, checkpoint, settings.early_stop_intervals)
        if checkpoint and done:
            _check_network(builder.Builder(cfg).model, checkpoint)
            logger.info(f"Nothing is left to do: {done}")
            return
        if is_first:
            interval = settings.save_interval
            checkpoints.check_outputs(
                cfg.dic, cfg.iters, save_dir, checkpoint, interval, settings.do_eval, settings.use_ema
            )
        newer_options = _newer_options(settings.early_stop_intervals)
        if settings.tensorboard:
            watch.check_tensorboard()

        utils.show_env_info()
        utils.show_cfg_info(cfg)
        utils.set_seed(settings.seed)
        utils.set_device(settings.device)
        if is_first:
            _check_data(cfg, settings.do_eval)
        utils.set_cv2_num_threads(settings.num_workers)
        parts = _build(cfg, checkpoint, settings)
        if watcher:
            best = progress_file.best(save_dir, checkpoint) if checkpoint else None
            start = (checkpoints.iteration(checkpoint) or 0) if checkpoint else 0
            watcher.on_start(start, cfg.iters, (best.mIoU, best.iteration) if best else None)
        recording = watch.training(watcher, settings.use_vdl, settings.tensorboard and is_first)
        with _as_input_errors(), recording as records:
            core_train.train_with_guards(  # for other networks too
                **parts,
                **newer_options,
                **{name: getattr(settings, name) for name in _TRAIN_ARGUMENTS},
                iters=cfg.iters,
                batch_size=cfg.batch_size,
                test_config={key: value for key, value in cfg.test_config.items() if key in _EVALUATION_OPTIONS},
                to_static_training=cfg.to_static_training,
                save_dir=save_dir,
                resume_model=checkpoint,
                log_iters=min(settings.log_iters, cfg.iters),  # at least one log line and one point of the curve
                use_vdl=records,
            )


def _why_finished(cfg: Config, checkpoint: str, early_stop_intervals: int | None) -> str | None:
    """A sentence on why the training at this checkpoint is finished, or None if it is not."""
    if (checkpoints.iteration(checkpoint) or 0) >= cfg.iters:
        return f"{checkpoint} has all of the {cfg.iters} iterations."
    progress = progress_file.read(checkpoint)
    if progress and early_stop_intervals and progress.stop_count >= early_stop_intervals:
        return f"the training was stopped early at {checkpoint}."
    return None


def _build(cfg: Config, checkpoint: str | None, settings: Options) -> dict[str, Any]:
    """The network, datasets, optimizer and losses, as arguments of PaddleSeg's `train`."""
    build = builder.Builder(cfg)
    train_dataset = build.train_dataset  # first: errors in the data show before the network is built
    val_dataset = build.val_dataset if settings.do_eval else None
    if len(train_dataset) * settings.repeats > _MAX_IMAGES:
        raise InputError(f"--repeats {settings.repeats} makes a list of more than {_MAX_IMAGES} images: give fewer.")
    if settings.repeats > 1:
        train_dataset.file_list *= settings.repeats
    small_batches.check_images(len(train_dataset), cfg.batch_size)
    model = utils.convert_sync_batchnorm(build.model, settings.device)
    if checkpoint:
        _check_network(model, checkpoint)
    optimizer, losses = build.optimizer, build.loss
    if checkpoint:
        _check_optimizer(optimizer, checkpoint)
    return {
        "model": model,
        "train_dataset": train_dataset,
        "val_dataset": val_dataset,
        "optimizer": optimizer,
        "losses": losses,
    }


@contextmanager
def _as_input_errors() -> Iterator[None]:
    """Turn errors of PaddleSeg's `train` from the configuration or a full disk into `InputError`."""
    try:
        yield
    except RuntimeError as error:
        if "The length of logits_list" not in str(error):
            raise
        raise InputError(f"loss.coef needs a number for each output of the network: {error}") from error
    except (AssertionError, IndexError, TypeError, ValueError) as error:
        sentence = _explain_loss_error(error)
        if sentence is None or isinstance(error, InputError):
            raise
        raise InputError(sentence) from error
    except OSError as error:
        refusal = files.refusal(error)
        if refusal is None:
            raise
        raise InputError(
            f"{refusal} The earlier checkpoints are complete: continue with --resume_model {checkpoints.LATEST}."
        ) from error


def _check_network(model: paddle.nn.Layer, checkpoint: str) -> None:
    """Refuse to resume from a checkpoint of a different network."""
    state = load_state(str(Path(checkpoint, checkpoints.CHECKPOINT[0])))
    shapes = {name: list(np.shape(value)) for name, value in state.items()}
    other = [name for name, tensor in model.state_dict().items() if shapes.get(name) != list(tensor.shape)]
    if other:
        raise InputError(
            f"{checkpoint} is of a different network: it lacks {len(other)} tensors of this one or has them in another "
            f"shape ({', '.join(other[:_SHOWN])}). Give another --save_dir, or the configuration of that checkpoint."
        )


def _check_optimizer(optimizer: paddle.optimizer.Optimizer, checkpoint: str) -> None:
    """Refuse to resume with a different optimizer: Paddle would ignore the saved state, or fail."""
    own = {getattr(optimizer, name) for name in dir(optimizer) if name.endswith("_acc_str")}  # such as "velocity"
    names = load_state(str(Path(checkpoint, checkpoints.CHECKPOINT[1])))
    if own and len(names) > 1 and not any(f"_{kind}_" in name for kind in own for name in names):
        raise InputError(
            f"{checkpoint} was not trained with the optimizer {type(optimizer).__name__}: use its own optimizer, or "
            "start a new training with another --save_dir and the weights as model.pretrained."
        )


def _explain_loss_error(error: Exception) -> str | None:
    """The message for an error that a loss raised. None for other errors."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [frame.f_globals.get("__name__", "") for frame in frames]
    if any(name.startswith("bisenetv1_plugin.losses") for name in names):
        return f"the loss cannot be computed: {brief(error)}"
    # PaddleSeg 2.8's `train` indexes the loss, which fails if it is 0-D.
    is_indexing = isinstance(error, IndexError) and names[-1] == "paddleseg.core.train"
    if is_indexing or any(name.startswith("paddleseg.models.losses") for name in names):
        return (
            f"a loss of this configuration cannot be computed ({brief(error)}). BiSeNetV1Loss works with every "
            "PaddleSeg; PaddleSeg's own losses need PaddleSeg 2.9 or later."
        )
    return None


def _check_loss(cfg: Config) -> None:
    number = len(cfg.loss_cfg.get("coef", ()))
    if cfg.model_cfg.get("type") == "BiSeNetV1" and number != _HEADS:
        raise InputError(
            f"loss.coef has {number} numbers, but BiSeNetV1 has {_HEADS} outputs in training: give {_HEADS} numbers, "
            "for the auxiliary heads at 1/16 and 1/8 and the principal head."
        )


def _check_profiler(options: str | None) -> None:
    if options is None:  # PaddleSeg does not parse None either
        return
    try:
        train_profiler.ProfilerOptions(options)
    except Exception as error:  # PaddleSeg's parser may raise anything
        raise InputError(
            f"--profiler_options {options!r}: {error}; see PaddleSeg's utils/train_profiler.py."
        ) from error


def _check_data(cfg: Config, do_eval: bool) -> None:
    """Check the datasets that the training uses.

    Raises:
        InputError: they would stop or spoil the training.
    """
    used = copy.copy(cfg)
    used.dic = {key: value for key, value in cfg.dic.items() if key != "val_dataset" or do_eval}
    report = quick_check(used)
    # Validating on training images is allowed: it is a quick way to try something out.
    leaks = [problem.message for problem in report.problems if problem.kind == "leak"]
    problems = [problem.message for problem in report.problems if problem.kind != "leak"]
    if leaks:
        logger.warning(f"The scores will be too good: {_summary(leaks)}")
    for warning in report.warnings:
        logger.warning(warning)
    if problems:
        raise InputError(_summary(problems))


def _summary(sentences: Sequence[str]) -> str:
    more = f" And {len(sentences) - _SHOWN} more: `bisenetv1 data check CONFIG` lists all." * (len(sentences) > _SHOWN)
    return " ".join(sentences[:_SHOWN]) + more


def _newer_options(early_stop_intervals: int | None) -> dict[str, Any]:
    """Arguments of `train` that PaddleSeg 2.8.0 lacks.

    Raises:
        InputError: one is given, and this PaddleSeg does not have it.
    """
    if early_stop_intervals is None:
        return {}
    if "early_stop_intervals" not in inspect.signature(core.train).parameters:
        raise InputError("early_stop_intervals needs PaddleSeg 2.9 or later.")
    return {"early_stop_intervals": early_stop_intervals}
