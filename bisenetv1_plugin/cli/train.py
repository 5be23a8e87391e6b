"""Train a configuration, as PaddleSeg's tools/train.py does."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import fields

from bisenetv1_plugin.cli import flags, terminal
from bisenetv1_plugin.errors import InputError

SUMMARY = "train a configuration"


def add_arguments(parser: ArgumentParser) -> None:
    flags.add_config_arguments(parser, model_path=False)
    parser.add_argument("--save_dir", default="./output", help="folder of the checkpoints, default ./output")
    parser.add_argument("--do_eval", action="store_true", help="evaluate at every checkpoint and keep the best")
    parser.add_argument("--iters", type=flags.positive, help="iterations; default: the configuration's")
    parser.add_argument("--batch_size", type=flags.positive, help="images per device; default: the configuration's")
    parser.add_argument("--learning_rate", type=flags.rate, help="default: the configuration's")
    parser.add_argument("--opts", nargs="+", help="further values of the configuration to override, as key.key=value")
    parser.add_argument("--num_workers", type=flags.processes, default=0, help="processes that load data")
    parser.add_argument(
        "--resume_model",
        help="continue from this checkpoint folder, iter_N; latest: the newest complete one in --save_dir, if any",
    )
    parser.add_argument(
        "--save_interval", type=flags.positive, default=1000, help="iterations between checkpoints, default 1000"
    )
    parser.add_argument("--keep_checkpoint_max", type=flags.positive, default=5, help="checkpoints to keep, default 5")
    parser.add_argument("--log_iters", type=flags.positive, default=10, help="iterations between log lines, default 10")
    parser.add_argument("--use_vdl", action="store_true", help="record curves (VisualDL) and draw them as curves.png")
    parser.add_argument("--tensorboard", action="store_true", help="record curves for TensorBoard")
    parser.add_argument("--use_ema", action="store_true", help="also keep an exponential moving average of the weights")
    parser.add_argument(
        "--early_stop_intervals", type=flags.positive, help="stop after this many checkpoints without a better one"
    )
    parser.add_argument(
        "--precision", default="fp32", choices=["fp32", "fp16"], help="default fp32; fp16: mixed precision"
    )
    parser.add_argument("--amp_level", default="O1", choices=["O1", "O2"], help="level of mixed precision")
    parser.add_argument("--to_static_training", action="store_true", default=None, help="train the static graph")
    parser.add_argument("--profiler_options", help="see PaddleSeg's utils/train_profiler.py")
    parser.add_argument("--repeats", type=flags.positive, default=1, help="passes over the data per epoch, default 1")
    parser.add_argument(
        "--seed", type=flags.seed, help="seed of all random numbers; a resumed training ignores it and keeps its own"
    )


@terminal.until_sigterm()
def run(args: Namespace) -> None:
    args.device = terminal.load_paddle(args.device)
    from bisenetv1_plugin.cli.training_view import train
    from bisenetv1_plugin.drawing import plots
    from bisenetv1_plugin.training import builder
    from bisenetv1_plugin.training.train import Options

    cfg = builder.load_config(
        args.config,
        args.opts,
        needs=["train_dataset", *(["val_dataset"] * args.do_eval)],
        learning_rate=args.learning_rate,
        iters=args.iters,
        batch_size=args.batch_size,
    )
    if args.to_static_training:
        cfg.dic["to_static_training"] = True
    options = {option.name: getattr(args, option.name) for option in fields(Options)}
    train(cfg, args.save_dir, **options)
    if args.use_vdl and terminal.is_first():
        try:
            terminal.say(f"The curves are in {plots.draw_curves(args.save_dir)}")
        except InputError as error:  # the training was complete already, and had recorded no curves
            terminal.warn(error)
