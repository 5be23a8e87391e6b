"""Convert a PyTorch checkpoint of a published BiSeNetV1 (.pth, .safetensors) to .pdparams and a configuration, or back.

SRC may also be the ImageNet weights of a ResNet. Then use DST as `model.backbone.pretrained`.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace

from bisenetv1_plugin import files
from bisenetv1_plugin.cli import flags, terminal
from bisenetv1_plugin.convert.families import NAMES
from bisenetv1_plugin.errors import InputError

SUMMARY = "convert a PyTorch checkpoint of a published BiSeNetV1, or back"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("src", metavar="SRC", help="the checkpoint; with --to torch, a .pdparams file")
    parser.add_argument("dst", metavar="DST", help="the .pdparams to write; with --to torch, a .pth or .safetensors")
    parser.add_argument(
        "--from",
        dest="family",
        choices=NAMES,
        help="family of the checkpoint; default: recognized by the tensors' names",
    )
    parser.add_argument("--to", choices=["paddle", "torch"], default="paddle", help="direction, default paddle")
    flags.add_trust_argument(parser)


def run(args: Namespace) -> None:
    suffixes = (".pdparams",) if args.to == "paddle" else (".pth", ".safetensors")
    if not args.dst.endswith(suffixes):
        raise InputError(f"DST is {args.dst}; it must end with {' or '.join(suffixes)}.")
    written = [args.dst, _config_path(args.dst)] if args.to == "paddle" else [args.dst]
    for path in written:
        if os.path.exists(path):
            raise InputError(f"{path} exists: choose another name, or remove it.")
    try:
        (_to_paddle if args.to == "paddle" else _to_torch)(args)
    except InputError:
        raise
    except (ImportError, OSError, ValueError) as error:
        if isinstance(error, OSError) and files.refusal(error):  # the disk is full, ...
            raise
        raise InputError(f"{args.src} was not converted. {error}") from error


def _to_paddle(args: Namespace) -> None:
    from bisenetv1_plugin.convert import checkpoint  # PyTorch before Paddle

    if args.src.endswith(".pdparams"):
        raise InputError(f"{args.src} is a Paddle file already; to convert it to PyTorch, give --to torch.")
    tensors = checkpoint.read(args.src)
    terminal.load_paddle()
    import paddle
    import yaml
    from paddleseg.utils.utils import NoAliasDumper

    from bisenetv1_plugin import zoo
    from bisenetv1_plugin.convert import conversion
    from bisenetv1_plugin.convert.training_setup import configuration

    converted = conversion.to_paddle(tensors, args.family)
    print(f"{args.src}: {converted.family}, {converted.backbone}, {len(converted.state)} tensors.")
    if converted.dropped:
        print(f"{len(converted.dropped)} tensors are not needed ({', '.join(converted.dropped[:3])}, ...).")
    config = None
    if converted.variant:
        config, notes = configuration(converted, zoo.folder())
        print(f"variant {converted.variant}, {converted.num_classes} classes.", *notes, sep="\n")
    state = {name: paddle.to_tensor(values) for name, values in converted.state.items()}
    if config is None:
        with files.whole_file(args.dst) as temporary:
            paddle.save(state, temporary)
        print(f"The weights are in {args.dst}")
        print(f"Use them as `pretrained` of a `model.backbone` of type {converted.backbone}.")
        return
    with files.whole_file(_config_path(args.dst)) as temporary_config:
        with open(temporary_config, "w", encoding="utf-8") as file:
            name = os.path.basename(args.dst)
            file.write(f"# {name}, converted from {os.path.basename(args.src)} ({converted.family}).\n")
            file.write(f"# To evaluate: --model_path {name}. To fine-tune, add `pretrained: {name}` to model.\n")
            yaml.dump(config, file, Dumper=NoAliasDumper, sort_keys=False)
        with files.whole_file(args.dst) as temporary:  # inside the block: both files are written, or neither
            paddle.save(state, temporary)
    print(f"The weights are in {args.dst}")
    print(f"Its configuration is {_config_path(args.dst)}: adapt the paths in train_dataset and val_dataset.")


def _to_torch(args: Namespace) -> None:
    import numpy as np

    terminal.load_paddle()
    from bisenetv1_plugin.convert import checkpoint, conversion
    from bisenetv1_plugin.weights import load_state

    state = {name: value for name, value in load_state(args.src).items() if isinstance(value, np.ndarray)}
    tensors = conversion.to_torch(state, args.family)
    checkpoint.write(tensors, args.dst)
    print(f"{len(tensors)} tensors are in {args.dst}")


def _config_path(dst: str) -> str:
    return os.path.splitext(dst)[0] + ".yml"
