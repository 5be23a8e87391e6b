"""Run an exported model on images, a video or a camera, with Paddle Inference or another runtime.

The flags are those of PaddleSeg's deploy/python/infer.py, and a few more.

--save_dir gets NAME.png (gray, the class numbers), color/NAME.png and, with --overlay, overlay/NAME.png; with
--save_video it gets NAME_overlay.mp4 instead; with --save_regions labelme regions/NAME.json, with geojson
regions/NAME.geojson, with coco one regions.json.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from argparse import ArgumentParser, Namespace
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Iterator

from bisenetv1_plugin.cli import flags, results, terminal
from bisenetv1_plugin.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from bisenetv1_plugin.inference.engine import Engine
    from bisenetv1_plugin.inference.exported import Export
    from bisenetv1_plugin.inference.region_files import RegionFiles
    from bisenetv1_plugin.inference.sources import Source
    from bisenetv1_plugin.inference.video import Frames
    from bisenetv1_plugin.inference.video_writer import OverlayVideo
    from bisenetv1_plugin.inference.window import Window
    from bisenetv1_plugin.inference.windows import Windows

SUMMARY = "run an exported model on images"

_MOST_PIXELS = 1 << 30  # of a picture under a sliding window: OpenCV reads no more


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--config", required=True, help="the deploy.yaml of the exported model")
    flags.add_image_arguments(parser, save_dir="./output")
    results.add_argument(parser)
    parser.add_argument(
        "--overlay", action="store_true", help="also write the image with the mask over it and a legend"
    )
    parser.add_argument(
        "--save_video", action="store_true", help="of a video or camera: write one video, NAME_overlay.mp4"
    )
    parser.add_argument("--show", action="store_true", help="show a video or camera in a window; q or Esc ends it")
    parser.add_argument(
        "--save_masks",
        type=_boolean,
        metavar="BOOL",
        help="write the masks, NAME.png; default: True; with --save_video, --show, --save_regions or a camera only "
        "with --overlay",
    )
    parser.add_argument(
        "--save_regions",
        choices=["labelme", "coco", "geojson"],
        help="write the outlines of the connected pieces: a file a picture for labelme or as GeoJSON, or one of COCO's",
    )
    parser.add_argument("--min_area", type=flags.positive, help="of --save_regions: pixels of the smallest, default 1")
    parser.add_argument(
        "--tolerance",
        type=flags.tolerance,
        help="of --save_regions: by how many pixels outlines may be simplified; 0: not at all; default 1, of coco 0",
    )
    flags.add_window_arguments(parser)
    parser.add_argument("--batch_size", type=flags.positive, default=1, help="images at a time (of the same size)")
    parser.add_argument("--with_argmax", action="store_true", help="take the argmax of an export without one")
    parser.add_argument(
        "--backend",
        default="auto",
        choices=["auto", "paddle", "onnxruntime", "openvino"],
        help="the runtime; auto, the default: the quickest at hand that runs this export rightly",
    )
    parser.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16", "fp16", "int8"],
        help="default: fp32, or int8 for a quantized export; bf16: paddle and openvino on the CPU; fp16: TensorRT; "
        "auto: bf16 where it keeps the masks of the first images",
    )
    parser.add_argument("--device", choices=["gpu", "cpu"], help="where to run; default: gpu where there is one")
    flags.add_cpu_threads_argument(parser)
    boolean: dict[str, Any] = {"type": _boolean, "default": False, "metavar": "BOOL"}
    parser.add_argument(
        "--enable_mkldnn", type=_boolean, metavar="BOOL", help="Paddle on the CPU: use oneDNN; default: True"
    )
    parser.add_argument("--use_trt", help="Paddle on the GPU: use TensorRT", **boolean)
    parser.add_argument(
        "--min_subgraph_size", type=flags.positive, default=3, help="TensorRT: smallest part of the network"
    )
    parser.add_argument("--enable_auto_tune", help="TensorRT: find the shapes by running ten images", **boolean)
    parser.add_argument("--auto_tuned_shape_file", default="auto_tune_tmp.pbtxt", help="TensorRT: file of those shapes")


def run(args: Namespace) -> int:
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.inference.engine import infer
    from bisenetv1_plugin.inference.exported import load_export
    from bisenetv1_plugin.inference.sources import Source

    results.check_place(args.json)
    source = Source(args.image_path, skip=[args.save_dir])
    _check_outputs(args, source)
    export = load_export(args.config)
    _refuse_overwriting(args, source, export)
    most = export.input_shape[0]
    if most and most != args.batch_size:
        raise InputError(
            f"--batch_size is {args.batch_size}; this export was made for {most}: give that, or export again."
        )
    if export.output_op != "argmax" and not args.with_argmax:
        raise InputError(f"this model was exported with --output_op {export.output_op}: give --with_argmax.")
    engine, name = _engine(args, export, source)
    print(f"{name}, {args.cpu_threads} threads" if "GPU" not in name else name)
    writers, clip, window = _outputs(args, source, export)
    regions = _region_files(args, source, export) if args.save_regions else None
    if regions:
        writers.append(regions)
    noted = results.Noting(args.json, regions)
    if args.json:
        writers.append(noted)
    begin = time.monotonic()
    try:
        with progress.bar(total=source.total, unit="frame" if source.frames else "image", desc="infer") as bar:

            def step() -> None:
                bar.update(source.done - bar.n)
                if source.frames and window and not window.show():
                    source.frames.stop()

            with _ending(source.frames), clip or nullcontext(), regions or nullcontext():
                infer(engine, source, writers, args.batch_size, step)
    except KeyboardInterrupt:
        kept = f"; the masks so far are in {args.save_dir}" * _saves_masks(args, source)
        print(f"bisenetv1: stopped at {source.done}{kept}{'; no video was written' * bool(clip)}.", file=sys.stderr)
        return 130
    if args.json:
        noted.write_json(name, args.cpu_threads, time.monotonic() - begin, source.faults)
    if source.frames and source.done > len(source.faults):
        print(_speed(source.done, source.frames, time.monotonic() - begin))
    if clip and clip.frames:
        print(f"The video is {_video_path(args, source)}")
    if _saves_masks(args, source) and (source.frames or source.done > len(source.faults)):
        print(f"The masks are in {args.save_dir}")
    if regions:
        print(f"The regions are in {regions.place}")
    return flags.report(source.faults)


def _saves_masks(args: Namespace, source: Source) -> bool:
    if args.save_masks is None:
        return args.overlay or not (args.save_video or args.show or args.save_regions or source.live)
    return args.save_masks


def _video_path(args: Namespace, source: Source) -> str:
    assert source.frames, "see `_check_outputs`"
    return os.path.join(args.save_dir, f"{source.frames.name}_overlay.mp4")


def _check_outputs(args: Namespace, source: Source) -> None:
    if (args.save_video or args.show) and not source.frames:
        raise InputError(f"--save_video and --show are for a video or a camera, and {args.image_path} is neither.")
    if args.save_regions and source.frames:
        raise InputError(
            f"--save_regions is for pictures, and {args.image_path} is none: save its frames as pictures first."
        )
    if not args.save_regions and (args.min_area is not None or args.tolerance is not None):
        raise InputError("--min_area and --tolerance need --save_regions.")
    if not (args.save_video or args.show or args.save_regions or _saves_masks(args, source)):
        raise InputError("nothing would come of this: give --show, --save_video or --save_masks True.")


def _refuse_overwriting(args: Namespace, source: Source, export: Export) -> None:
    from bisenetv1_plugin import files
    from bisenetv1_plugin.inference import sinks

    def is_ours(path: str) -> bool:
        if args.json and files.is_same(path, args.json):
            return results.is_ours(path, "faults")
        if files.is_same(path, args.auto_tuned_shape_file):
            with open(path, "rb") as file:
                return file.read(16) == b"shape_range_info"
        return files.made_by(sinks.MADE_BY)(path)

    targets = [args.json] if args.json else []
    if args.save_video:
        targets.append(_video_path(args, source))
    if args.use_trt and args.enable_auto_tune:
        targets.append(args.auto_tuned_shape_file)
    for folder in sinks.folders(args.save_dir, args.overlay).values() if _saves_masks(args, source) else ():
        if source.frames:
            targets += source.frames_in(folder)
        else:
            targets += [os.path.join(folder, f"{name}.png") for name in source.names()]
    if args.save_regions:
        from bisenetv1_plugin.inference import region_files

        targets += {region_files.path_of(args.save_dir, args.save_regions, name) for name in source.names()}
    files.check_outputs(targets, [*source.paths, *export.files], is_ours)


def _outputs(args: Namespace, source: Source, export: Export) -> tuple[list[Any], OverlayVideo | None, Window | None]:
    """All that masks go to; and the video and the window among them, or None."""
    from bisenetv1_plugin.drawing.painter import Painter
    from bisenetv1_plugin.inference.sinks import MaskFiles

    painter = Painter(export.classes, export.colors)
    writers: list[Any] = []
    clip = window = None
    frames = source.frames  # there are some with --show and --save_video, see `_check_outputs`
    if frames and args.show:
        from bisenetv1_plugin.inference.window import Window

        window = Window(f"bisenetv1: {frames.name}", painter)
        writers.append(window)
    if frames and args.save_video:
        from bisenetv1_plugin.inference.video_writer import OverlayVideo

        clip = OverlayVideo(_video_path(args, source), frames.rate, painter)
        writers.append(clip)
    if _saves_masks(args, source):
        writers.append(MaskFiles(args.save_dir, args.overlay, painter))
    return writers, clip, window


def _region_files(args: Namespace, source: Source, export: Export) -> RegionFiles:
    from bisenetv1_plugin.inference import region_files, regions

    root = args.image_path if os.path.isdir(args.image_path) else os.path.dirname(args.image_path)
    min_area = 1 if args.min_area is None else args.min_area
    tolerance = args.tolerance
    if tolerance is None:  # COCO's readers count other pixels along slanted lines
        tolerance = 0.0 if args.save_regions == "coco" else regions.TOLERANCE
    classes = export.classes or tuple(map(str, range(256)))
    return region_files.RegionFiles(
        args.save_dir, args.save_regions, classes, source.pictures(), root, min_area, tolerance
    )


@contextmanager
def _ending(frames: Frames | None) -> Iterator[None]:
    """Ctrl-C ends a camera as q does, with all that was taken; a second one is as any other."""
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


def _engine(args: Namespace, export: Export, source: Source) -> tuple[Engine, str]:
    """What the flags ask for, and the runtime's name."""
    from bisenetv1_plugin.inference.engine import Engine
    from bisenetv1_plugin.inference.runtimes import select

    windows = _windows(args)
    with terminal.quiet():  # Paddle, if it is asked for, is imported here
        chosen = select.select(
            *(export, args.backend, args.device, args.precision, args.cpu_threads),
            images=functools.partial(_first_images, source, export),
            enable_mkldnn=args.enable_mkldnn,
            tensorrt=functools.partial(_with_tensorrt, args, export, source) if args.use_trt else None,
        )
    if "paddleseg" in sys.modules:
        terminal.load_paddle(args.device)
    elif "paddle" in sys.modules:  # which was only asked for a GPU
        terminal.check_device(args.device)
    for sentence in chosen.passed_over:
        print(f"not {sentence}")
    if windows is None:
        return Engine(export, chosen.runtime), chosen.name
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.inference.scores import with_logits
    from bisenetv1_plugin.inference.windows import SlidingEngine

    bar = functools.partial(progress.bar, delay=2, leave=False)
    return SlidingEngine(*with_logits(export, chosen), windows, progress=bar), chosen.name


def _windows(args: Namespace) -> Windows | None:
    flags.check_window(args)
    if not args.is_slide:
        return None
    from PIL import Image

    from bisenetv1_plugin.inference.windows import windows_of

    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS // 2  # Pillow refuses twice as many
    return windows_of(args.crop_size, args.stride)


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
    """What the network takes of the first pictures; the source stands at its beginning again."""
    images = []
    for picture in source:
        with suppress(InputError):  # which is said when it is its turn
            image = export.preprocess(picture.pixels).image[None]
            images += [] if export.misfit(image.shape) else [image]
        if len(images) == count:
            break
    source.rewind()
    return images


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


_boolean.__name__ = "True or False"  # argparse's words for what it refuses
