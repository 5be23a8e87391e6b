"""Flags that several commands share, named as in PaddleSeg's tools, and the report of skipped files."""

from __future__ import annotations

import ipaddress
import math
import os
import re
import sys
from argparse import ArgumentParser, Namespace
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator

from bisenetv1_plugin.errors import InputError, line
from bisenetv1_plugin.machine import cores

if TYPE_CHECKING:
    from paddleseg.cvlibs import Config

    from bisenetv1_plugin.datasets.classes import NamedClasses
    from bisenetv1_plugin.inference.sliding_window import SlidingWindows

_MOST = 2**31 - 1  # libraries in C++ count in 32 bits: larger numbers wrap around in some and crash others


def _whole_number(least: int, most: int = _MOST) -> Callable[[str], int]:
    """The type of a flag: whole numbers from `least` to `most`."""

    def number(text: str) -> int:
        if not least <= int(text) <= most:
            raise ValueError(text)
        return int(text)

    # argparse shows this name in its message.
    number.__name__ = f"whole number of at least {least}" if most == _MOST else f"whole number from {least} to {most}"
    return number


positive, not_negative = _whole_number(1), _whole_number(0)
threads, processes = _whole_number(1, 1024), _whole_number(0, 1024)
dimension = _whole_number(-1, 1 << 16)  # of an input; -1 for any
side = _whole_number(1, 1 << 16)  # of a picture
channel = _whole_number(0, 255)  # red, green or blue
images = _whole_number(1, 100)  # shown in one picture
seed = _whole_number(0, 2**32 - 1)  # of NumPy
queue = _whole_number(1, 400)  # requests in a server that accepts 512 connections


def _number(name: str, is_valid: Callable[[float], bool]) -> Callable[[str], float]:
    """The type of a flag: valid numbers, which may have a fraction. argparse shows the name in its message."""

    def number(text: str) -> float:
        if not is_valid(float(text)):
            raise ValueError(text)
        return float(text)

    number.__name__ = name
    return number


rate = _number("number above 0", lambda value: 0 < value < math.inf)
scale = _number("number above 0, 16 at most", lambda value: 0 < value <= 16)
tolerance = _number("number of pixels of at least 0", lambda value: 0 <= value <= 1 << 16)
probability = _number("number from 0 to 1", lambda value: 0 <= value <= 1)


def boolean(text: str) -> bool:
    """The type of a flag: True or False, as PaddleSeg's tools write it."""
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


boolean.__name__ = "True or False"


def add_cpu_threads_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--cpu_threads", type=threads, default=cores(), help="CPU threads, default all cores")


def add_config_arguments(parser: ArgumentParser, model_path: bool = True) -> None:
    parser.add_argument("--config", required=True, help="the YAML configuration")
    if model_path:
        parser.add_argument("--model_path", required=True, help="the trained weights, a .pdparams file")
    add_trust_argument(parser)
    add_device_argument(parser)


def add_classes_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="a file of class names, one a line (`name` or `name r g b`), or the word cityscapes; default: from the "
        "dataset's classes.txt and colors.txt, or from PaddleSeg's Cityscapes",
    )


def classes_of(args: Namespace, cfg: Config) -> NamedClasses:
    """The class names and colors for an export, from --classes or the configuration's dataset.

    Raises:
        InputError: the file of --classes does not exist, or its number of classes is not the network's.
    """
    from bisenetv1_plugin.datasets import classes

    known = classes.named_classes(cfg)
    if not args.classes:
        return known
    named = classes.CITYSCAPES if args.classes == "cityscapes" else classes.read_classes(args.classes)
    if len(named.names) != len(known.names):
        raise InputError(
            f"--classes {args.classes} names {len(named.names)} classes, but {args.config} has {len(known.names)}: "
            "name as many."
        )
    return named


def add_server_arguments(parser: ArgumentParser, port: int) -> None:
    """Add the flags of a server: its export, address and limits. `port` is the first port that it tries."""
    parser.add_argument("exported", help="the exported folder, or its deploy.yaml")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on, default 127.0.0.1; 0.0.0.0 for all")
    parser.add_argument("--port", type=int, help=f"default: the first free one from {port} to {port + 99}")
    add_window_arguments(parser)
    parser.add_argument("--max_megabytes", type=int, help="largest upload in megabytes, default 16, with --is_slide 32")
    parser.add_argument(
        "--max_megapixels", type=int, help="largest picture in million pixels, default 16, with --is_slide 64"
    )
    parser.add_argument(
        "--allowed_hosts",
        nargs="+",
        default=[],
        metavar="NAME",
        help="further host names of this server, such as that of a proxy in front of it",
    )


def server_windows(args: Namespace) -> SlidingWindows | None:
    """The sliding window, or None without --is_slide. Also sets the default limits in `args`.

    Raises:
        InputError: a limit is below 1, --allowed_hosts has something else than names, or see `windows`.
    """
    found = windows(args)
    if args.max_megabytes is None:
        args.max_megabytes = 32 if found else 16
    if args.max_megapixels is None:  # windows need a tenth of the memory
        args.max_megapixels = 64 if found else 16
    for name in ("max_megabytes", "max_megapixels", "max_seconds"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} is {getattr(args, name)}; it must be 1 or more.")
    for name in args.allowed_hosts:
        if not (re.fullmatch(r"[\w.-]+", name) or _is_address(name)):
            raise InputError(
                f"--allowed_hosts {name}: give only a host name, such as seg.example.com, without https:// and port."
            )
    return found


def threads_and_windows(args: Namespace, found: SlidingWindows | None) -> str:
    """The settings that a server prints when it starts."""
    window = "; window {} x {}, stride {} x {}".format(*found.crop_size, *found.stride) if found else ""
    return f"{args.cpu_threads} threads{window}"


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def add_trust_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--trust_weights",
        action="store_true",
        help="let .pdparams files run the code that they name, as Paddle does; only for files from a source you trust",
    )


@contextmanager
def trust_weights(args: Namespace) -> Iterator[None]:
    """Pass --trust_weights to `weights.load_state` in the environment: PaddleSeg reads `pretrained` deep inside."""
    name = "BISENETV1_PLUGIN_TRUST_WEIGHTS"
    before = os.environ.get(name)
    if getattr(args, "trust_weights", False):
        os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def add_device_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=["gpu", "cpu", "xpu", "npu", "mlu"],
        help="where to run, default gpu, or cpu if there is no GPU",
    )


def add_image_arguments(parser: ArgumentParser, save_dir: str) -> None:
    parser.add_argument("--image_path", required=True, help="an image, a list of images, a folder of images or a video")
    parser.add_argument("--save_dir", default=save_dir, help=f"folder of the results, default {save_dir}")


def add_test_arguments(parser: ArgumentParser, augmented: str) -> None:
    """Multi-scale, flipped and sliding-window evaluation; `augmented` is the name of the flag that enables scales."""
    parser.add_argument(f"--{augmented}", action="store_true", help="average over scales and flips")
    parser.add_argument("--scales", nargs="+", type=scale, default=1.0, help="scales to average over")
    parser.add_argument("--flip_horizontal", action="store_true", help="average with the mirrored image")
    parser.add_argument("--flip_vertical", action="store_true", help="average with the upside-down image")
    add_window_arguments(parser)


def add_window_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--is_slide", action="store_true", help="slide a window over the image instead of taking it whole"
    )
    parser.add_argument("--crop_size", nargs=2, type=side, metavar=("W", "H"), help="size of the window")
    parser.add_argument("--stride", nargs=2, type=side, metavar=("W", "H"), help="step of the window")


def check_window(args: Namespace) -> None:
    """
    Raises:
        InputError: --is_slide without a window, or a window without it.
    """
    if args.is_slide and not (args.crop_size and args.stride):
        raise InputError("--is_slide needs --crop_size W H and --stride W H.")
    if not args.is_slide and (args.crop_size or args.stride):
        raise InputError("--crop_size and --stride need --is_slide.")


def windows(args: Namespace) -> SlidingWindows | None:
    """The sliding window, or None without --is_slide. With a window, Pillow may read larger pictures.

    Raises:
        InputError: see `check_window`, or a stride is longer than the window.
    """
    check_window(args)
    if not args.is_slide:
        return None
    from PIL import Image

    from bisenetv1_plugin.image_files import MOST_PIXELS
    from bisenetv1_plugin.inference.sliding_window import parse_windows

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Pillow refuses images of more than twice as many pixels
    return parse_windows(args.crop_size, args.stride)


def test_config(cfg: Config, args: Namespace, augmented: str) -> dict[str, Any]:
    """The configuration's `test_config`, overridden by the flags of `add_test_arguments`.

    Raises:
        InputError: see `check_window`; or augmentation flags are given without --aug_eval or --aug_pred.
    """
    others = ("aug_pred", "custom_color") if augmented == "aug_eval" else ("aug_eval", "print_detail", "auc_roc")
    merged = {key: value for key, value in cfg.test_config.items() if key not in others}
    if getattr(args, augmented):
        merged.update({augmented: True, "scales": args.scales})
        merged.update(flip_horizontal=args.flip_horizontal, flip_vertical=args.flip_vertical)
    elif args.scales != 1.0 or args.flip_horizontal or args.flip_vertical:
        raise InputError(f"--scales and --flip_* need --{augmented}.")
    check_window(args)
    return with_window(merged, args)


def with_window(test_config: dict[str, Any], args: Namespace) -> dict[str, Any]:
    """A `test_config`, overridden by the flags of `add_window_arguments`."""
    if not args.is_slide:
        return test_config
    return {**test_config, "is_slide": True, "crop_size": args.crop_size, "stride": args.stride}


def report(faults: Iterable[str]) -> int:
    """Print one sentence for each skipped file; return the exit code."""
    faults = list(faults)
    for fault in faults:
        print(f"bisenetv1: {line(fault)}", file=sys.stderr)
    return 1 if faults else 0
