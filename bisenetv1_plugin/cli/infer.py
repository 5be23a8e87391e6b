"""Run an exported model on images, a video or a camera, with Paddle Inference or another runtime.

The flags are those of PaddleSeg's deploy/python/infer.py, and a few more.

It writes NAME.png (gray, the class numbers) and color/NAME.png into --save_dir. --overlay adds overlay/NAME.png, and
--save_confidence adds confidence/NAME.png. Instead of the masks, --save_video writes NAME_overlay.mp4, and
--save_regions writes regions/NAME.json (labelme), regions/NAME.geojson (geojson) or one regions.json (coco).
"""

from __future__ import annotations

import functools
import shlex
import signal
import sys
import time
from argparse import ArgumentParser, Namespace
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Iterator

from bisenetv1_plugin.cli import flags, infer_ray, outputs, results, terminal
from bisenetv1_plugin.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from bisenetv1_plugin.inference.engine import Engine
    from bisenetv1_plugin.inference.exported_model import Export
    from bisenetv1_plugin.inference.sources import Source
    from bisenetv1_plugin.inference.video_reader import Frames

SUMMARY = "run an exported model on images"

# Suggested for pictures that are too large. It needs as much memory as 2400x1800 pixels, and the windows overlap.
_WINDOW = ("--is_slide", "--crop_size", "1024", "1024", "--stride", "768", "768")


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--config", required=True, help="the deploy.yaml of the exported model")
    flags.add_image_arguments(parser, save_dir="./output")
    outputs.add_arguments(parser)
    flags.add_window_arguments(parser)
    parser.add_argument("--batch_size", type=flags.positive, default=1, help="images at a time (of the same size)")
    parser.add_argument(
        "--with_argmax", action="store_true", help="compute the argmax of an export that was made without it"
    )
    parser.add_argument(
        "--backend",
        default="auto",
        choices=["auto", "paddle", "onnxruntime", "openvino"],
        help="the runtime; auto, the default: the fastest one installed that runs this export correctly",
    )
    parser.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16", "fp16", "int8"],
        help="default: fp32, or int8 for a quantized export; bf16: paddle and openvino on the CPU; fp16: TensorRT; "
        "auto: bf16 if it gives the same masks of the first images",
    )
    parser.add_argument("--device", choices=["gpu", "cpu"], help="where to run; default: gpu if there is one")
    flags.add_cpu_threads_argument(parser)
    infer_ray.add_arguments(parser)
    boolean: dict[str, Any] = {"type": flags.boolean, "default": False, "metavar": "BOOL"}
    parser.add_argument(
        "--enable_mkldnn", type=flags.boolean, metavar="BOOL", help="Paddle on the CPU: use oneDNN; default: True"
    )
    parser.add_argument("--use_trt", help="run Paddle or ONNX Runtime with TensorRT, on a GPU", **boolean)
    parser.add_argument(
        "--min_subgraph_size",
        type=flags.positive,
        default=3,
        help="TensorRT: smallest number of layers in a part of the network, default 3",
    )
    parser.add_argument("--enable_auto_tune", help="TensorRT: find the shapes by running ten images", **boolean)
    parser.add_argument("--auto_tuned_shape_file", default="auto_tune_tmp.pbtxt", help="TensorRT: file of those shapes")


def run(args: Namespace) -> int:
    from bisenetv1_plugin.inference.exported_model import load_export
    from bisenetv1_plugin.inference.postprocess import check_unknown
    from bisenetv1_plugin.inference.sources import Source

    results.check_place(args.json)
    source = Source(args.image_path, skip=[args.save_dir])
    output = outputs.Outputs(args, source)
    export = load_export(args.config)
    infer_ray.check(args, source)
    output.check_files(source, export)
    output.skip_done(source)
    most = export.input_shape[0]
    if most and most != args.batch_size:
        raise InputError(
            f"--batch_size is {args.batch_size}, and this export was made for {most}: give {most}, or export again."
        )
    if export.output_op != "argmax" and not args.with_argmax:
        raise InputError(f"this model was exported with --output_op {export.output_op}: give --with_argmax.")
    if args.unknown_below is not None:
        check_unknown(len(export.classes))
    try:
        if args.ray and source.names():
            name, seconds, more = infer_ray.segment(args, source, output, export, _engine)
        elif source.names():
            name, seconds, more = *_segment(args, source, output, export), {}
        else:  # all pictures are done already
            output.open(export)
            name, seconds, more = "", 0.0, {}
    except KeyboardInterrupt:
        if not output.sinks:  # it had not started yet
            raise
        print(f"bisenetv1: stopped at {source.done}{output.stop_note()}.", file=sys.stderr)
        return 130
    output.finish(name, seconds, **more)
    if source.frames and source.done > len(source.faults):
        print(_speed(source.done, source.frames, seconds))
    output.print_places()
    return flags.report(source.faults)


def _segment(args: Namespace, source: Source, output: outputs.Outputs, export: Export) -> tuple[str, float]:
    """Segment all pictures with one engine; return the runtime's name, and the seconds without its start."""
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.inference.engine import infer

    engine, name = _engine(args, export, source, output.confidence)
    if not args.is_slide:
        source.exclude(functools.partial(_shortage, args, export, name))
    print(f"{name}, {args.cpu_threads} threads" if "GPU" not in name else name)
    output.open(export)
    begin = time.monotonic()
    with progress.bar(total=source.total, unit="frame" if source.frames else "image", desc="infer") as bar:

        def step() -> None:
            bar.update(source.done - bar.n)
            if source.frames and output.window and not output.window.show():
                source.frames.stop()

        with _stop_on_interrupt(source.frames), output.video or nullcontext(), output.regions or nullcontext():
            infer(engine, source, output.sinks, args.batch_size, step)
    return name, time.monotonic() - begin


@contextmanager
def _stop_on_interrupt(frames: Frames | None) -> Iterator[None]:
    """The first Ctrl-C stops a camera as q does, and keeps the results; a second one interrupts as usual."""
    if not (frames and frames.live):
        yield
        return

    def end(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        frames.stop()

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _speed(done: int, frames: Frames, wall: float) -> str:
    rate = f"{done} frames in {wall:.1f} s: {done / wall:.1f} a second"
    if frames.live:
        return rate
    shown = frames.seconds + 1 / frames.rate
    return f"{rate}, {shown / wall:.2f} times as fast as the video ({shown:.1f} s) plays"


def _engine(args: Namespace, export: Export, source: Source, confidence: bool) -> tuple[Engine, str]:
    """The engine that the flags ask for, and the runtime's name."""
    from bisenetv1_plugin.inference import memory
    from bisenetv1_plugin.inference.engine import Engine
    from bisenetv1_plugin.inference.remove_argmax import with_logits
    from bisenetv1_plugin.inference.runtimes import select

    windows = flags.windows(args)
    with terminal.quiet():  # this imports Paddle if the flags choose it
        chosen = select.select(
            *(export, args.backend, args.device, args.precision, args.cpu_threads),
            images=functools.partial(_first_images, source, export),
            enable_mkldnn=args.enable_mkldnn,
            tensorrt=functools.partial(_with_tensorrt, args, export, source) if args.use_trt else None,
        )
    if "paddleseg" in sys.modules:
        terminal.load_paddle(args.device)
    elif "paddle" in sys.modules:  # imported only to look for a GPU
        terminal.check_device(args.device)
    for sentence in chosen.skipped:
        print(f"not {sentence}")
    is_plain = windows is None and not confidence
    network = (export, chosen.runtime) if is_plain else with_logits(export, chosen)
    wanted: dict[str, Any] = {"confidence": confidence, "unknown_below": args.unknown_below}
    if windows is None:
        shortage = functools.partial(memory.shortage, export, chosen.name)
        return Engine(*network, **wanted, shortage=shortage), chosen.name
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.inference.sliding_window import SlidingEngine

    bar = functools.partial(progress.bar, delay=2, leave=False)
    return SlidingEngine(*network, windows, progress=bar, **wanted), chosen.name


def _shortage(args: Namespace, export: Export, runtime: str, width: int, height: int) -> str | None:
    """Like `memory.shortage`, with a command that needs less memory."""
    from bisenetv1_plugin.inference import memory
    from bisenetv1_plugin.inference.pyarrow_files import hide_secret
    from bisenetv1_plugin.inference.remove_argmax import can_give_logits

    reason = memory.shortage(export, runtime, width, height)
    if not reason:
        return None
    command = ["bisenetv1", *map(hide_secret, args.words), *_WINDOW]
    if can_give_logits(export, runtime):
        return f"{reason}. Slide a window over it: {shlex.join(command)}"
    first = "Export again with --output_op none, and slide a window over it"
    return f"{reason}. {first}: {shlex.join([*command, '--with_argmax'])}"


def _with_tensorrt(args: Namespace, export: Export, source: Source, make: Any, precision: str) -> Any:
    if args.backend == "onnxruntime":
        return make(tensorrt=True)
    from bisenetv1_plugin.inference.runtimes import paddle

    shapes_file = args.auto_tuned_shape_file if args.enable_auto_tune else None
    switch_on = paddle.use_tensorrt(precision, args.min_subgraph_size, shapes_file)
    if shapes_file:
        paddle.collect_shapes(make, _first_images(source, export, paddle.TUNING_IMAGES), shapes_file)
    return make(tensorrt=switch_on)


def _first_images(source: Source, export: Export, count: int = 4) -> list[np.ndarray]:
    """The network's inputs for the first pictures; the source is rewound."""
    from bisenetv1_plugin.inference import memory

    images = []
    for picture in source:
        height, width = picture.pixels.shape[:2]
        if memory.shortage(export, "onnxruntime fp32", width, height):  # the runtime that needs the least
            continue
        with suppress(InputError):  # it is reported when the picture is segmented
            image = export.preprocess(picture.pixels).image[None]
            images += [] if export.shape_error(image.shape) else [image]
        if len(images) == count:
            break
    source.rewind()
    return images
