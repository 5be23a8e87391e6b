"""Training a configuration, as PaddleSeg's tools/train.py does."""

import inspect
import os

from paddleseg import core
from paddleseg.utils import utils

from bisenetv1_plugin import project
from bisenetv1_plugin.errors import InputError


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
    use_ema=False,
    early_stop_intervals=None,
    precision="fp32",
    amp_level="O1",
    profiler_options=None,
    repeats=1,
    seed=None,
):
    """Train, and leave checkpoints and, with `do_eval`, `best_model` in `save_dir`.

    Args:
        cfg (paddleseg.cvlibs.Config): see `project.load_config`.
        save_dir (str): the folder.
        device (str): 'gpu', 'cpu', 'xpu', 'npu' or 'mlu'; the CPU where there is none.
        do_eval (bool): evaluate at every checkpoint and keep the best.
        num_workers (int): processes that load data.
        resume_model (str, optional): a checkpoint folder, iter_N, to go on from.
        save_interval (int): iterations between checkpoints.
        keep_checkpoint_max (int): checkpoints to keep.
        log_iters (int): iterations between log lines.
        use_vdl (bool): record curves.
        use_ema (bool): also keep an exponential moving average of the weights.
        early_stop_intervals (int, optional): stop after so many checkpoints without a better one.
        precision (str): 'fp32', or 'fp16' for mixed precision, of level `amp_level` 'O1' or 'O2'.
        profiler_options (str, optional): see PaddleSeg's utils/train_profiler.py.
        repeats (int): times that an epoch goes through the data.
        seed (int, optional): seed of all random numbers.

    Raises:
        InputError: a part of the configuration cannot be built, the data are fewer than one batch, the checkpoint
            cannot be resumed, or this PaddleSeg lacks what is asked.
    """
    if resume_model:
        _check_checkpoint(resume_model)
    later_options = _later_options(early_stop_intervals)

    utils.show_env_info()
    utils.show_cfg_info(cfg)
    utils.set_seed(seed)
    project.set_device(device)
    utils.set_cv2_num_threads(num_workers)

    build = project.Builder(cfg)
    train_dataset = build.train_dataset  # data first: what is wrong there shows before a network is built
    val_dataset = build.val_dataset if do_eval else None
    if repeats > 1:
        train_dataset.file_list *= repeats
    if len(train_dataset) < cfg.batch_size:
        raise InputError(
            f"train_dataset has {len(train_dataset)} images, fewer than one batch of {cfg.batch_size}: "
            "lower batch_size or give --repeats."
        )
    core.train(
        utils.convert_sync_batchnorm(build.model, device),
        train_dataset,
        val_dataset=val_dataset,
        optimizer=build.optimizer,
        losses=build.loss,
        iters=cfg.iters,
        batch_size=cfg.batch_size,
        test_config=cfg.test_config,
        to_static_training=cfg.to_static_training,
        save_dir=save_dir,
        resume_model=resume_model,
        save_interval=save_interval,
        log_iters=min(log_iters, cfg.iters),  # at least one line and one point of the curve
        num_workers=num_workers,
        use_vdl=use_vdl,
        use_ema=use_ema,
        keep_checkpoint_max=keep_checkpoint_max,
        precision=precision,
        amp_level=amp_level,
        profiler_options=profiler_options,
        **later_options,
    )


# What `train` takes beside the configuration and the folder; the command's flags have the same names.
OPTIONS = tuple(inspect.signature(train).parameters)[2:]


def _later_options(early_stop_intervals):
    """Options that came after PaddleSeg 2.8.0; one that this PaddleSeg does not have is refused, not dropped."""
    if early_stop_intervals is None:
        return {}
    if "early_stop_intervals" not in inspect.signature(core.train).parameters:
        raise InputError("early_stop_intervals needs PaddleSeg 2.9 or later.")
    return {"early_stop_intervals": early_stop_intervals}


def _check_checkpoint(folder):
    """A checkpoint that cannot be resumed is refused before anything starts."""
    import paddle

    if not os.path.basename(os.path.normpath(folder)).rpartition("_")[2].isdigit():
        raise InputError(f"{folder} is no checkpoint to resume from: it must be a folder called iter_N.")
    for name in ("model.pdparams", "model.pdopt"):
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            raise InputError(f"{folder} cannot be resumed from, it has no {name}: choose another checkpoint.")
        try:
            paddle.load(path)
        except Exception as error:
            raise InputError(
                f"{path} cannot be read ({error}). Training may have been stopped while it was written: "
                "resume from the checkpoint before it."
            ) from error
