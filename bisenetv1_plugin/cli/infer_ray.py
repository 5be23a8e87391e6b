"""`infer --ray`: distribute the pictures among engines on this machine or several."""

from __future__ import annotations

import functools
import os
import time
from argparse import ArgumentParser, Namespace
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Callable

from bisenetv1_plugin.cli import flags, terminal
from bisenetv1_plugin.cli.outputs import Outputs
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.machine import cores

if TYPE_CHECKING:
    from bisenetv1_plugin.inference.engine import Engine
    from bisenetv1_plugin.inference.exported_model import Export
    from bisenetv1_plugin.inference.sources import Pictures, Source

    MakeEngine = Callable[[Namespace, Export, Any, bool], tuple[Engine, str]]


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="distribute the pictures among engines with Ray: on this machine, or in the cluster at HOST:PORT",
    )
    parser.add_argument(
        "--actors",
        type=flags.positive,
        metavar="N",
        help="with --ray: number of engines; default: as many as there is room for",
    )
    # None: `check` sets it. With --ray, each engine gets one CPU thread.
    parser.set_defaults(cpu_threads=None)


def check(args: Namespace, source: Source) -> None:
    """Check the flags, and set `args.cpu_threads` if it was not given.

    Raises:
        InputError: flags contradict each other.
    """
    if args.cpu_threads is None:
        args.cpu_threads = 1 if args.ray else cores()
    if args.actors and not args.ray:
        raise InputError("--actors needs --ray.")
    if not args.ray:
        return
    if source.frames:
        raise InputError(f"--ray is for pictures, and {args.image_path} is not a picture or a folder: omit it.")
    if args.precision == "auto":
        raise InputError("--ray: with --precision auto, each engine could choose another precision; name one.")
    if args.enable_auto_tune:
        raise InputError("--ray: with --enable_auto_tune, all engines would write the same file; omit it.")
    if "://" in args.save_dir:
        raise InputError(
            f"--save_dir {args.save_dir}: it must be a folder that all machines share; mount it on each of them."
        )


def segment(
    args: Namespace, source: Source, output: Outputs, export: Export, make_engine: MakeEngine
) -> tuple[str, float, dict[str, int]]:
    """Segment all pictures in Ray actors.

    Returns:
        The runtime's name, the seconds without Ray's start, and the number of actors for --json.

    Raises:
        InputError: see `ray_pool.Pool`.
    """
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.inference.ray_pool import Pool, absolute_path

    os.makedirs(args.save_dir, exist_ok=True)
    paths = {"config": absolute_path(args.config), "save_dir": absolute_path(args.save_dir)}
    make = functools.partial(make_segment, Namespace(**{**vars(args), **paths}), make_engine, output.confidence)
    address = os.environ.get("RAY_ADDRESS", "local") if args.ray == "local" else args.ray
    name, talks = "", not terminal.is_quiet()
    with terminal.quiet(), Pool(address, args.cpu_threads, args.device == "gpu", args.actors, talks) as pool:
        output.open(export)
        begin = time.monotonic()
        with progress.bar(total=source.total, unit="image", desc="infer") as bar, output.regions or nullcontext():
            for notes in pool.segment(source, make):
                if notes and not name:
                    name = notes["name"]
                    terminal.say(f"{name}, {pool.size} actors, {args.cpu_threads} threads each")
                if notes:
                    output.add_notes(notes)
                bar.update(source.done - bar.n)
    return name, time.monotonic() - begin, {"actors": pool.size}


def make_segment(args: Namespace, make_engine: MakeEngine, confidence: bool) -> Callable[[Pictures], dict[str, Any]]:
    """In an actor: a function that segments a part of the pictures and returns its notes, see `Outputs.notes`."""
    from bisenetv1_plugin.inference.engine import infer
    from bisenetv1_plugin.inference.exported_model import load_export
    from bisenetv1_plugin.inference.sources import Pictures

    if not os.path.isdir(args.save_dir):
        raise InputError(f"{args.save_dir} does not exist on this machine: name a folder that all machines share.")
    export = load_export(args.config)
    engine, name = make_engine(args, export, Pictures({}), confidence)

    def segment(pictures: Pictures) -> dict[str, Any]:
        output = Outputs(args, pictures)
        output.open(export)
        infer(engine, pictures, output.sinks, args.batch_size)
        return {"name": name, **output.notes()}

    return segment
