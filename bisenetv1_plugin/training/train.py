"""Training a configuration, as PaddleSeg's tools/train.py does, and going on with one that was stopped.

Upstream's `train` does the work, with the corrections of `compat`: a sample that cannot be read, a network of NaN and a
disk that is full end it with an `InputError`, and every file of a checkpoint is whole or not there.
"""

import copy
import inspect
import traceback
from contextlib import suppress
from pathlib import Path

import numpy as np
import paddle
from paddleseg import core
from paddleseg.utils import logger, train_profiler, utils

from bisenetv1_plugin import files
from bisenetv1_plugin.compat import progress_file, small_batches
from bisenetv1_plugin.configuration import EVALUATION
from bisenetv1_plugin.datasets.check import before_training
from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.training import builder, checkpoints, watch
from bisenetv1_plugin.weights import load_state

LATEST = "latest"
_EVALUATION = set(EVALUATION) - {"auc_roc"}  # which `train` has no use for
_HEADS = 3  # outputs of BiSeNetV1 in training
_ENTRIES = 10**7  # of a data set's list, with --repeats
_TOLD = 3  # problems of the data; `bisenetv1 data check` tells all


def train(
    cfg,
    save_dir,
    device="gpu",
    do_eval=False,
    num_workers=0,
    resume_model=None,
    save_interval=1000,
    keep_checkpoint_max=5,
    log_iters=10,
    use_vdl=False,
    tensorboard=False,
    use_ema=False,
    early_stop_intervals=None,
    precision="fp32",
    amp_level="O1",
    profiler_options=None,
    repeats=1,
    seed=None,
    watcher=None,
):
    """Train, and leave checkpoints and, with `do_eval`, `best_model` in `save_dir`.

    Args:
        cfg (paddleseg.cvlibs.Config): see `builder.load_config`.
        save_dir (str): the folder.
        device (str): 'gpu', 'cpu', 'xpu', 'npu' or 'mlu'; the CPU where there is none.
        do_eval (bool): evaluate at every checkpoint and keep the best.
        num_workers (int): processes that load data.
        resume_model (str, optional): a checkpoint folder, iter_N, to go on from as if the training had not stopped;
            'latest' for the newest whole one in `save_dir`, or from the beginning where there is none.
        save_interval (int): iterations between checkpoints.
        keep_checkpoint_max (int): checkpoints to keep.
        log_iters (int): iterations between log lines.
        use_vdl, tensorboard (bool): record curves for VisualDL and for TensorBoard.
        use_ema (bool): also keep an exponential moving average of the weights.
        early_stop_intervals (int, optional): stop after so many checkpoints without a better one.
        precision (str): 'fp32', or 'fp16' for mixed precision, of level `amp_level` 'O1' or 'O2'.
        profiler_options (str, optional): see PaddleSeg's utils/train_profiler.py.
        repeats (int): times that an epoch goes through the data.
        seed (int, optional): seed of all random numbers; a training that goes on keeps its own.
        watcher (watch.Watcher, optional): is told how far the training is.

    Raises:
        InputError: another training writes into the folder, this one would write over what it reads or what no training
            made, something is wrong with the data, a part of the configuration cannot be built, the data are fewer
            than one step takes, one image a step would spoil the weights, the checkpoint cannot be resumed, or this
            PaddleSeg lacks what is asked; later, a sample cannot be read, the network becomes NaN, or the disk is full.
    """
    _check_loss(cfg)
    _check_profiler(profiler_options)
    if early_stop_intervals and not do_eval:
        raise InputError("--early_stop_intervals needs --do_eval: without it nothing says that a checkpoint is better.")
    is_first = paddle.distributed.get_rank() == 0
    with checkpoints.alone(save_dir, is_first):
        if resume_model == LATEST:
            resume_model = newest_checkpoint(save_dir, tidy=is_first)
        elif resume_model:
            _refuse_a_broken_one(resume_model)
        if resume_model and checkpoints.iteration(resume_model) >= cfg.iters:
            _check_network(builder.Builder(cfg).model, resume_model)
            logger.info(f"Nothing is left to do: {resume_model} has all of the {cfg.iters} iterations.")
            return
        progress = progress_file.read(resume_model) if resume_model else None
        if progress and early_stop_intervals and progress.stop_count >= early_stop_intervals:
            _check_network(builder.Builder(cfg).model, resume_model)
            logger.info(f"Nothing is left to do: the training was stopped early at {resume_model}.")
            return
        if is_first:
            checkpoints.check_outputs(cfg.dic, cfg.iters, save_dir, resume_model, save_interval, do_eval, use_ema)
        later_options = _later_options(early_stop_intervals)
        if tensorboard:
            watch.check_tensorboard()

        utils.show_env_info()
        utils.show_cfg_info(cfg)
        utils.set_seed(seed)
        builder.set_device(device)
        if is_first:
            _doubt_the_data(cfg, do_eval)
        utils.set_cv2_num_threads(num_workers)

        build = builder.Builder(cfg)
        train_dataset = build.train_dataset  # data first: what is wrong there shows before a network is built
        val_dataset = build.val_dataset if do_eval else None
        if len(train_dataset) * repeats > _ENTRIES:
            raise InputError(f"--repeats {repeats} makes a list of more than {_ENTRIES} images: give fewer.")
        if repeats > 1:
            train_dataset.file_list *= repeats
        small_batches.check_images(len(train_dataset), cfg.batch_size)
        model = utils.convert_sync_batchnorm(build.model, device)
        if resume_model:
            _check_network(model, resume_model)
        optimizer, losses = build.optimizer, build.loss
        if resume_model:
            _check_optimizer(optimizer, resume_model)
        if watcher:
            best = progress_file.best(save_dir, resume_model) if resume_model else None
            watcher.started(
                checkpoints.iteration(resume_model) if resume_model else 0,
                cfg.iters,
                (best.mIoU, best.iteration) if best else None,
            )
        tensorboard = tensorboard and is_first
        try:
            with watch.training(watcher, use_vdl, tensorboard) as records:
                core.train(
                    model,
                    train_dataset,
                    val_dataset=val_dataset,
                    optimizer=optimizer,
                    losses=losses,
                    iters=cfg.iters,
                    batch_size=cfg.batch_size,
                    test_config={key: value for key, value in cfg.test_config.items() if key in _EVALUATION},
                    to_static_training=cfg.to_static_training,
                    save_dir=save_dir,
                    resume_model=resume_model,
                    save_interval=save_interval,
                    log_iters=min(log_iters, cfg.iters),  # at least one line and one point of the curve
                    num_workers=num_workers,
                    use_vdl=records,
                    use_ema=use_ema,
                    keep_checkpoint_max=keep_checkpoint_max,
                    precision=precision,
                    amp_level=amp_level,
                    profiler_options=profiler_options,
                    **later_options,
                )
        except RuntimeError as error:
            if "The length of logits_list" not in str(error):
                raise
            raise InputError(f"loss.coef needs a number for each output of the network: {error}") from error
        except (AssertionError, IndexError, TypeError, ValueError) as error:
            sentence = _of_a_loss(error)
            if sentence is None or isinstance(error, InputError):
                raise
            raise InputError(sentence) from error
        except OSError as error:
            refusal = files.refusal(error)
            if refusal is None:
                raise
            raise InputError(
                f"{refusal} The checkpoints before it are whole: go on with --resume_model {LATEST}."
            ) from error


# What `train` takes beside the configuration, the folder and the watcher; the command's flags have the same names.
OPTIONS = tuple(inspect.signature(train).parameters)[2:-1]


def _check_network(model, checkpoint):
    """Refuse to go on from the checkpoint of another network."""
    state = load_state(str(Path(checkpoint, checkpoints.CHECKPOINT[0])))
    shapes = {name: list(np.shape(value)) for name, value in state.items()}
    other = [name for name, tensor in model.state_dict().items() if shapes.get(name) != list(tensor.shape)]
    if other:
        raise InputError(
            f"{checkpoint} is of another network: {len(other)} tensors of this one are not in it or have another "
            f"shape ({', '.join(other[:_TOLD])}). Name another --save_dir, or the configuration it was trained with."
        )


def _check_optimizer(optimizer, checkpoint):
    """Refuse to go on with another kind of optimizer: Paddle would leave its state out, or fail."""
    own = {getattr(optimizer, name) for name in dir(optimizer) if name.endswith("_acc_str")}  # such as velocity
    names = load_state(str(Path(checkpoint, checkpoints.CHECKPOINT[1])))
    if own and len(names) > 1 and not any(f"_{kind}_" in name for kind in own for name in names):
        raise InputError(
            f"{checkpoint} was trained with another optimizer than {type(optimizer).__name__}: go on with that one, or "
            "name another --save_dir, and the weights as model.pretrained."
        )


def _of_a_loss(error):
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


def _check_loss(cfg):
    given = len(cfg.loss_cfg.get("coef", ()))
    if cfg.model_cfg.get("type") == "BiSeNetV1" and given != _HEADS:
        raise InputError(
            f"loss.coef has {given} numbers, and BiSeNetV1 has {_HEADS} outputs in training: give it {_HEADS}, for the "
            "auxiliary ones at 1/16 and 1/8 and the principal one."
        )


def _check_profiler(options):
    if options is None:  # which PaddleSeg does not parse either; 2.9 could not
        return
    try:
        train_profiler.ProfilerOptions(options)
    except Exception as error:  # upstream parses as it goes
        raise InputError(
            f"--profiler_options {options!r}: {error}; see PaddleSeg's utils/train_profiler.py."
        ) from error


def _doubt_the_data(cfg, do_eval):
    """Refuse data that would stop or spoil the training, of the splits that it uses."""
    used = copy.copy(cfg)
    used.dic = {key: value for key, value in cfg.dic.items() if key != "val_dataset" or do_eval}
    report = before_training(used)
    # To validate on images of the training is a way to try something out.
    leaks = [problem.message for problem in report.problems if problem.kind == "leak"]
    problems = [problem.message for problem in report.problems if problem.kind != "leak"]
    if leaks:
        logger.warning(f"The scores will be too good: {_some(leaks)}")
    for doubt in report.doubts:
        logger.warning(doubt)
    if problems:
        raise InputError(_some(problems))


def _some(sentences):
    more = f" And {len(sentences) - _TOLD} more: `bisenetv1 data check CONFIG` tells all." * (len(sentences) > _TOLD)
    return " ".join(sentences[:_TOLD]) + more


def _later_options(early_stop_intervals):
    """Options that came after PaddleSeg 2.8.0; one that this PaddleSeg does not have is refused, not dropped."""
    if early_stop_intervals is None:
        return {}
    if "early_stop_intervals" not in inspect.signature(core.train).parameters:
        raise InputError("early_stop_intervals needs PaddleSeg 2.9 or later.")
    return {"early_stop_intervals": early_stop_intervals}


def newest_checkpoint(save_dir, tidy=True):
    """The newest whole checkpoint of a folder; the log says which it is, and which newer ones are no good and why.

    With `tidy`, what a killed training had begun to write there is removed: nobody else may be training into this
    folder.

    Returns:
        str: the folder iter_N that was written last and whose files can be read and are finite; None if there is none.
    """
    if tidy:
        for folder in ("iter_*", "best_model", "ema_best_model"):
            for part in Path(save_dir).glob(f"{folder}/part-*"):
                if part.suffix in (".pdparams", ".pdopt", ".json") and part.is_file():
                    part.unlink()
    found = [folder for folder in Path(save_dir).glob("iter_*") if checkpoints.iteration(folder) is not None]
    for folder in sorted(found, key=_written, reverse=True):
        fault = _fault(folder)
        if fault is None:
            logger.info(f"Going on from {folder}, the newest whole checkpoint in {save_dir}.")
            return str(folder)
        logger.warning(f"Passing over {folder}: {fault}.")
    logger.info(f"There is no whole checkpoint in {save_dir}: starting from the beginning.")
    return None


def _written(folder):
    """When a checkpoint was written; of two at a time, the one of more iterations is the later."""
    with suppress(InputError):
        progress = progress_file.read(folder)
        if progress:
            return progress.saved, checkpoints.iteration(folder)
    weights = folder / checkpoints.CHECKPOINT[0]
    return (weights if weights.exists() else folder).stat().st_mtime, checkpoints.iteration(folder)


def _refuse_a_broken_one(folder):
    """A checkpoint that cannot be resumed is refused before anything starts."""
    if checkpoints.iteration(folder) is None:
        raise InputError(f"{folder} is no checkpoint to resume from: it must be a folder called iter_N, or {LATEST}.")
    fault = _fault(folder)
    if fault is not None:
        raise InputError(f"{folder}: {fault}; resume from the checkpoint before it, or from `{LATEST}`.")


def _fault(folder):
    """Why a checkpoint cannot be resumed from; None if it can."""
    try:
        progress = progress_file.read(folder)
    except InputError as error:
        return str(error).rstrip(".")
    average = [checkpoints.AVERAGE] * bool(progress and progress.average)
    for name in (*checkpoints.CHECKPOINT, *average):
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


def _is_finite(state):
    """Whether no array in a state, nested or not, holds NaN or infinity."""
    if isinstance(state, dict):
        return all(map(_is_finite, state.values()))
    return not (isinstance(state, np.ndarray) and state.dtype.kind == "f") or bool(np.isfinite(state).all())
