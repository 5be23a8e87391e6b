"""Training a configuration, as PaddleSeg's tools/train.py does, and going on with one that was stopped.

Upstream's `train` does the work, with the guards of `compat`: a sample that cannot be read, a network of NaN and a
disk that is full end it with an `InputError`, and every file of a checkpoint is whole or not there.
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
from bisenetv1_plugin.datasets.check import before_training
from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.training import builder, checkpoints, watch
from bisenetv1_plugin.weights import load_state

logger = logging.getLogger(__name__)

_EVALUATION_OPTIONS = set(EVALUATION) - {"auc_roc"}  # which `train` has no use for
_HEADS = 3  # outputs of BiSeNetV1 in training
_MAX_IMAGES = 10**7  # of a data set's list, with --repeats
_SHOWN = 3  # problems of the data; `bisenetv1 data check` tells all
_TRAIN_ARGUMENTS = (
    *("save_interval", "num_workers", "use_ema", "keep_checkpoint_max", "precision", "amp_level"),
    "profiler_options",
)  # to PaddleSeg's `train`, under the same names


@dataclass
class Options:
    """What `train` takes beside the configuration and the folder; the command's flags have the same names.

    Attributes:
        device: 'gpu', 'cpu', 'xpu', 'npu' or 'mlu'; the CPU where there is none.
        do_eval: evaluate at every checkpoint and keep the best.
        num_workers: processes that load data.
        resume_model: a checkpoint folder, iter_N, to go on from as if the training had not stopped; 'latest' for the
            newest whole one in the folder, or from the beginning where there is none.
        save_interval: iterations between checkpoints.
        keep_checkpoint_max: checkpoints to keep.
        log_iters: iterations between log lines.
        use_vdl, tensorboard: record curves for VisualDL and for TensorBoard.
        use_ema: also keep an exponential moving average of the weights.
        early_stop_intervals: stop after so many checkpoints without a better one.
        precision: 'fp32', or 'fp16' for mixed precision, of level `amp_level` 'O1' or 'O2'.
        profiler_options: see PaddleSeg's utils/train_profiler.py.
        repeats: times that an epoch goes through the data.
        seed: of all random numbers; a training that goes on keeps its own.
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
    """Train, and leave checkpoints and, with `do_eval`, `best_model` in `save_dir`.

    Args:
        cfg (paddleseg.cvlibs.Config): see `builder.load_config`.
        save_dir (str): the folder.
        watcher (watch.Watcher, optional): is told how far the training is.
        **options: see `Options`.

    Raises:
        InputError: another training writes into the folder, this one would write over what it reads or what no training
            made, something is wrong with the data, a part of the configuration cannot be built, the data are fewer
            than one step takes, one image a step would spoil the weights, the checkpoint cannot be resumed, or this
            PaddleSeg lacks what is asked; later, a sample cannot be read, the network becomes NaN, or the disk is full.
    """
    settings = Options(**options)
    _check_loss(cfg)
    _check_profiler(settings.profiler_options)
    if settings.early_stop_intervals and not settings.do_eval:
        raise InputError("--early_stop_intervals needs --do_eval: without it nothing says that a checkpoint is better.")
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
        later_options = _later_options(settings.early_stop_intervals)
        if settings.tensorboard:
            watch.check_tensorboard()

        utils.show_env_info()
        utils.show_cfg_info(cfg)
        utils.set_seed(settings.seed)
        builder.set_device(settings.device)
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
            core_train.train_with_guards(  # whatever network it is
                **parts,
                **later_options,
                **{name: getattr(settings, name) for name in _TRAIN_ARGUMENTS},
                iters=cfg.iters,
                batch_size=cfg.batch_size,
                test_config={key: value for key, value in cfg.test_config.items() if key in _EVALUATION_OPTIONS},
                to_static_training=cfg.to_static_training,
                save_dir=save_dir,
                resume_model=checkpoint,
                log_iters=min(settings.log_iters, cfg.iters),  # at least one line and one point of the curve
                use_vdl=records,
            )


def _why_finished(cfg: Config, checkpoint: str, early_stop_intervals: int | None) -> str | None:
    """Why a checkpoint leaves nothing to train, a sentence; None if it leaves something."""
    if (checkpoints.iteration(checkpoint) or 0) >= cfg.iters:
        return f"{checkpoint} has all of the {cfg.iters} iterations."
    progress = progress_file.read(checkpoint)
    if progress and early_stop_intervals and progress.stop_count >= early_stop_intervals:
        return f"the training was stopped early at {checkpoint}."
    return None


def _build(cfg: Config, checkpoint: str | None, settings: Options) -> dict[str, Any]:
    """Network, data, optimizer and losses, under the names that PaddleSeg's `train` has for them."""
    build = builder.Builder(cfg)
    train_dataset = build.train_dataset  # data first: what is wrong there shows before a network is built
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
    """What PaddleSeg's `train` raises of a configuration or of a full disk becomes an `InputError`."""
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
            f"{refusal} The checkpoints before it are whole: go on with --resume_model {checkpoints.LATEST}."
        ) from error


def _check_network(model: paddle.nn.Layer, checkpoint: str) -> None:
    """Refuse to go on from the checkpoint of another network."""
    state = load_state(str(Path(checkpoint, checkpoints.CHECKPOINT[0])))
    shapes = {name: list(np.shape(value)) for name, value in state.items()}
    other = [name for name, tensor in model.state_dict().items() if shapes.get(name) != list(tensor.shape)]
    if other:
        raise InputError(
            f"{checkpoint} is of another network: {len(other)} tensors of this one are not in it or have another "
            f"shape ({', '.join(other[:_SHOWN])}). Name another --save_dir, or the configuration it was trained with."
        )


def _check_optimizer(optimizer: paddle.optimizer.Optimizer, checkpoint: str) -> None:
    """Refuse to go on with another kind of optimizer: Paddle would leave its state out, or fail."""
    own = {getattr(optimizer, name) for name in dir(optimizer) if name.endswith("_acc_str")}  # such as velocity
    names = load_state(str(Path(checkpoint, checkpoints.CHECKPOINT[1])))
    if own and len(names) > 1 and not any(f"_{kind}_" in name for kind in own for name in names):
        raise InputError(
            f"{checkpoint} was trained with another optimizer than {type(optimizer).__name__}: go on with that one, or "
            "name another --save_dir, and the weights as model.pretrained."
        )


def _explain_loss_error(error: Exception) -> str | None:
    """What to say where it was raised in a loss; None elsewhere."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [frame.f_globals.get("__name__", "") for frame in frames]
    if any(name.startswith("bisenetv1_plugin.losses") for name in names):
        return f"the loss cannot be computed: {brief(error)}"
    # PaddleSeg 2.8's `train` takes a loss apart that is 0-D.
    taken_apart = isinstance(error, IndexError) and names[-1] == "paddleseg.core.train"
    if taken_apart or any(name.startswith("paddleseg.models.losses") for name in names):
        return (
            f"a loss of this configuration cannot be computed ({brief(error)}). BiSeNetV1Loss works with every "
            "PaddleSeg, PaddleSeg's own losses need PaddleSeg 2.9 or later."
        )
    return None


def _check_loss(cfg: Config) -> None:
    given = len(cfg.loss_cfg.get("coef", ()))
    if cfg.model_cfg.get("type") == "BiSeNetV1" and given != _HEADS:
        raise InputError(
            f"loss.coef has {given} numbers, and BiSeNetV1 has {_HEADS} outputs in training: give it {_HEADS}, for the "
            "auxiliary ones at 1/16 and 1/8 and the principal one."
        )


def _check_profiler(options: str | None) -> None:
    if options is None:  # which PaddleSeg does not parse either; 2.9 could not
        return
    try:
        train_profiler.ProfilerOptions(options)
    except Exception as error:  # upstream parses as it goes
        raise InputError(
            f"--profiler_options {options!r}: {error}; see PaddleSeg's utils/train_profiler.py."
        ) from error


def _check_data(cfg: Config, do_eval: bool) -> None:
    """Refuse data that would stop or spoil the training, of the splits that it uses."""
    used = copy.copy(cfg)
    used.dic = {key: value for key, value in cfg.dic.items() if key != "val_dataset" or do_eval}
    report = before_training(used)
    # To validate on images of the training is a way to try something out.
    leaks = [problem.message for problem in report.problems if problem.kind == "leak"]
    problems = [problem.message for problem in report.problems if problem.kind != "leak"]
    if leaks:
        logger.warning(f"The scores will be too good: {_summary(leaks)}")
    for warning in report.warnings:
        logger.warning(warning)
    if problems:
        raise InputError(_summary(problems))


def _summary(sentences: Sequence[str]) -> str:
    more = f" And {len(sentences) - _SHOWN} more: `bisenetv1 data check CONFIG` tells all." * (len(sentences) > _SHOWN)
    return " ".join(sentences[:_SHOWN]) + more


def _later_options(early_stop_intervals: int | None) -> dict[str, Any]:
    """Options that came after PaddleSeg 2.8.0; one that this PaddleSeg does not have is refused, not dropped."""
    if early_stop_intervals is None:
        return {}
    if "early_stop_intervals" not in inspect.signature(core.train).parameters:
        raise InputError("early_stop_intervals needs PaddleSeg 2.9 or later.")
    return {"early_stop_intervals": early_stop_intervals}
