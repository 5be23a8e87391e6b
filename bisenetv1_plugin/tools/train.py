"""Train a configuration, as PaddleSeg's tools/train.py does."""

import inspect
import os

from bisenetv1_plugin.tools import flags
from bisenetv1_plugin.tools.errors import UserError

SUMMARY = "train a configuration"


def add_arguments(parser):
    flags.add_config_arguments(parser, model_path=False)
    parser.add_argument("--save_dir", default="./output", help="folder of the checkpoints, default ./output")
    parser.add_argument("--do_eval", action="store_true", help="evaluate at every checkpoint and keep the best")
    parser.add_argument("--iters", type=int, help="iterations, over the configuration's")
    parser.add_argument("--batch_size", type=int, help="images per device, over the configuration's")
    parser.add_argument("--learning_rate", type=float, help="over the configuration's")
    parser.add_argument("--opts", nargs="+", help="other values of the configuration, as key.key=value")
    parser.add_argument("--num_workers", type=int, default=0, help="processes that load data")
    parser.add_argument("--resume_model", help="a checkpoint folder, iter_N, to go on from")
    parser.add_argument("--save_interval", type=int, default=1000, help="iterations between checkpoints")
    parser.add_argument("--keep_checkpoint_max", type=int, default=5, help="checkpoints to keep")
    parser.add_argument("--log_iters", type=int, default=10, help="iterations between log lines")
    parser.add_argument("--use_vdl", action="store_true", help="record curves (VisualDL) and draw them as curves.png")
    parser.add_argument("--use_ema", action="store_true", help="also keep an exponential moving average of the weights")
    parser.add_argument("--early_stop_intervals", type=int, help="stop after so many checkpoints without a better one")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "fp16"], help="fp16: mixed precision")
    parser.add_argument("--amp_level", default="O1", choices=["O1", "O2"], help="level of mixed precision")
    parser.add_argument("--to_static_training", action="store_true", default=None, help="train the static graph")
    parser.add_argument("--profiler_options", help="see PaddleSeg's utils/train_profiler.py")
    parser.add_argument("--repeats", type=int, default=1, help="times that an epoch goes through the data")
    parser.add_argument("--seed", type=int, help="seed of all random numbers")


def run(args):
    from paddleseg.core import train
    from paddleseg.utils import utils

    from bisenetv1_plugin.tools import curves, project

    cfg = project.load_config(
        args.config, args.opts, learning_rate=args.learning_rate, iters=args.iters, batch_size=args.batch_size
    )
    if args.to_static_training:
        cfg.dic["to_static_training"] = True
    if args.resume_model:
        _check_checkpoint(args.resume_model)
    later_options = _later_options(args, train)

    utils.show_env_info()
    utils.show_cfg_info(cfg)
    utils.set_seed(args.seed)
    project.set_device(args.device)
    utils.set_cv2_num_threads(args.num_workers)

    build = project.Builder(cfg)
    train_dataset = build.train_dataset  # data first: what is wrong there shows before a network is built
    val_dataset = build.val_dataset if args.do_eval else None
    if args.repeats > 1:
        train_dataset.file_list *= args.repeats
    if len(train_dataset) < cfg.batch_size:
        raise UserError(
            f"train_dataset has {len(train_dataset)} images, fewer than one batch of {cfg.batch_size}: "
            "lower batch_size or give --repeats."
        )
    model = utils.convert_sync_batchnorm(build.model, args.device)
    train(
        model,
        train_dataset,
        val_dataset=val_dataset,
        optimizer=build.optimizer,
        losses=build.loss,
        iters=cfg.iters,
        batch_size=cfg.batch_size,
        test_config=cfg.test_config,
        to_static_training=cfg.to_static_training,
        save_dir=args.save_dir,
        resume_model=args.resume_model,
        save_interval=args.save_interval,
        log_iters=min(args.log_iters, cfg.iters),  # at least one line and one point of the curve
        num_workers=args.num_workers,
        use_vdl=args.use_vdl,
        use_ema=args.use_ema,
        keep_checkpoint_max=args.keep_checkpoint_max,
        precision=args.precision,
        amp_level=args.amp_level,
        profiler_options=args.profiler_options,
        **later_options,
    )
    if args.use_vdl:
        curves.draw(args.save_dir)


def _later_options(args, train):
    """Flags that came after PaddleSeg 2.8.0; one that this PaddleSeg does not have is refused, not dropped."""
    if args.early_stop_intervals is None:
        return {}
    if "early_stop_intervals" not in inspect.signature(train).parameters:
        raise UserError("--early_stop_intervals needs PaddleSeg 2.9 or later.")
    return {"early_stop_intervals": args.early_stop_intervals}


def _check_checkpoint(folder):
    """A checkpoint that cannot be resumed is refused before anything starts."""
    import paddle

    if not os.path.basename(os.path.normpath(folder)).rpartition("_")[2].isdigit():
        raise UserError(f"--resume_model names {folder}; it must be a checkpoint folder called iter_N.")
    for name in ("model.pdparams", "model.pdopt"):
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            raise UserError(f"--resume_model names {folder}, which has no {name}: choose another checkpoint.")
        try:
            paddle.load(path)
        except Exception as error:
            raise UserError(
                f"{path} cannot be read ({error}). Training may have been stopped while it was written: "
                "resume from the checkpoint before it."
            ) from error
