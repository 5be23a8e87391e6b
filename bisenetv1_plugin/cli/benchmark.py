"""Measure how fast exported models run on this machine, in every runtime and precision that is installed.

Without EXPORT, two untrained networks of 19 classes are exported and measured: BiSeNetV1 with the authors' ResNet-18,
and PaddleSeg's own BiseNetV1. `bisenetv1 benchmark loss` compares the loss, and a training step with it, with plain
cross-entropy.
"""

from __future__ import annotations

import os
import tempfile
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from bisenetv1_plugin.cli import flags, results, terminal
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.evaluation import text_table
from bisenetv1_plugin.machine import cores

if TYPE_CHECKING:
    from bisenetv1_plugin.evaluation.benchmark import Measurement

SUMMARY = "measure runtimes and precisions, or the loss"

_OURS, _UPSTREAM = "torchseg, ResNet18_v1b", "PaddleSeg's BiseNetV1"
_CLASSES = 19

# Name -> the runtime and its options.
_RUNTIMES: dict[str, tuple[str, dict[str, Any]]] = {
    "paddle": ("paddle", {"enable_mkldnn": False}),
    "paddle oneDNN": ("paddle", {"enable_mkldnn": True}),
    "paddle bf16": ("paddle", {"precision": "bf16"}),
    "onnxruntime": ("onnxruntime", {}),
    "openvino": ("openvino", {}),
    "openvino bf16": ("openvino", {"precision": "bf16"}),
}
_INT8 = {"onnxruntime int8": "onnx", "openvino int8": "openvino"}
_QUANTIZED_RUNTIMES = ("paddle int8", *_INT8)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("export", nargs="?", help="an exported folder, or `loss`; default: two untrained networks")
    size: dict[str, Any] = {"nargs": "+", "metavar": "WxH", "type": _size}
    parser.add_argument("--sizes", default=[(1024, 512)], help="sizes of the image, default 1024x512", **size)
    parser.add_argument(
        "--batch_sizes", nargs="+", type=flags.positive, default=[1], help="images at a time, default 1"
    )
    parser.add_argument(
        "--cpu_threads", nargs="+", type=flags.threads, default=[cores()], help="threads, default all cores"
    )
    parser.add_argument("--turns", type=flags.positive, default=3, help="how often each case is measured, default 3")
    parser.add_argument(
        "--int8", action="store_true", help="also measure 8 bits, calibrated on noise: only the speed means something"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures here")
    parser.add_argument("--picture", metavar="FILE", help="also draw them as a PNG")


def run(args: Namespace) -> int:
    if args.export in (None, "loss"):  # an export can be measured without Paddle
        terminal.load_paddle()
    reads = _files(args.export)
    results.check(args.json, "what" if args.export == "loss" else "milliseconds", reads)
    results.check_picture(args.picture, reads)
    if args.export == "loss":
        return _loss(args)
    from bisenetv1_plugin.drawing import plots

    measured = []
    with tempfile.TemporaryDirectory() as folder:
        with terminal.quiet():
            exports = _columns_of_export(args.export) if args.export else _export_networks(folder, args.int8)
        for width, height in args.sizes:
            for batch in args.batch_sizes:
                for threads in args.cpu_threads:
                    measured += _measure(exports, (batch, 3, height, width), threads, args.turns)
    if args.json:
        results.write(args.json, [_figures(one) for one in measured])
    bars = [(_label(one), one.median) for one in measured if not one.fault]
    if not bars:  # the reasons are on the screen already
        return 1
    print(_table(measured))
    if args.picture:
        plots.draw_bars(args.picture, bars, "milliseconds a run, median")
    return 0


def _files(exported: str | None) -> list[str]:
    from bisenetv1_plugin.inference.exported_model import load_export

    return [] if exported in (None, "loss") else load_export(exported).files


def _columns_of_export(exported: str) -> dict[tuple[str, str], str]:
    from bisenetv1_plugin.inference.exported_model import load_export

    export = load_export(exported)
    return {(exported, column): export.path for column in (_QUANTIZED_RUNTIMES if export.quantized else _RUNTIMES)}


def _export_networks(folder: str, int8: bool) -> dict[tuple[str, str], str]:
    """Export both networks; the path of `deploy.yaml` by network and column. Warns of exports that fail."""
    from paddleseg.models import BiseNetV1
    from paddleseg.models.backbones import ResNet18_vd

    from bisenetv1_plugin.backbones.resnet import ResNet18_v1b
    from bisenetv1_plugin.models.bisenetv1 import BiSeNetV1

    networks = {
        _OURS: lambda: BiSeNetV1(_CLASSES, ResNet18_v1b()),
        _UPSTREAM: lambda: BiseNetV1(_CLASSES, ResNet18_vd(output_stride=8)),
    }
    exports = {}
    for number, (name, build) in enumerate(networks.items()):
        path = _export(build(), os.path.join(folder, str(number)), name)
        exports.update({(name, column): path for column in _RUNTIMES})
        for column, to in _INT8.items() if int8 else ():
            quantized = _quantize(build(), os.path.join(folder, f"{number}-{to}"), to, f"{name}, {column}")
            if quantized:
                exports[name, column] = quantized
    return exports


def _export(model: Any, folder: str, name: str) -> str:
    from bisenetv1_plugin.export.write import write_export

    reason = write_export(model, folder, [{"type": "Normalize"}])
    if reason:
        terminal.warn(f"{name}: {reason}")
    return os.path.join(folder, "deploy.yaml")


def _quantize(model: Any, folder: str, to: str, name: str) -> str | None:
    import numpy as np

    from bisenetv1_plugin.export.quantize import write_quantized

    model.eval()
    noise = np.random.RandomState(1).uniform(-1, 1, (4, 3, 256, 512)).astype("float32")
    images: Any = [{"img": image} for image in noise]
    try:
        write_quantized(model, folder, [{"type": "Normalize"}], images, 4, 1, to)
    except InputError as error:
        terminal.warn(f"{name}: {error}")
        return None
    return os.path.join(folder, "deploy.yaml")


def _measure(
    exports: Mapping[tuple[str, str], str], shape: tuple[int, int, int, int], threads: int, turns: int
) -> list[Measurement]:
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.evaluation.benchmark import RuntimeCase, measure

    cases = []
    for (name, column), path in exports.items():
        backend, options = _RUNTIMES.get(column) or (column.split()[0], {"precision": "int8"})
        cases.append(RuntimeCase(f"{name}, {column}", path, backend, shape, {"cpu_threads": threads, **options}))
    what = f"{shape[3]}x{shape[2]}, batch {shape[0]}, {threads} threads"
    found = measure(cases, turns, progress=progress.bar, desc=what)
    for one in found:
        if one.fault:
            terminal.warn(f"{one.case.name} is not measured: {one.fault}")
    return found


def _label(one: Measurement) -> str:
    batch, _, height, width = one.case.shape
    threads = one.case.options["cpu_threads"]
    return f"{one.case.name}, {width}x{height}" + f", batch {batch}" * (batch > 1) + f", {threads} threads"


def _table(measured: Sequence[Measurement]) -> str:
    """The figures in Markdown; the ratio is to the slowest case of the same size and batch.

    ms is for one run at a time; images/s for many at a time, as in `infer` on a folder.
    """
    rows = []
    for one in measured:
        if not one.fault:
            slowest = max(other.median for other in measured if not other.fault and other.case.shape == one.case.shape)
            cells = [_label(one), f"{one.median:.1f}", f"{one.spread:.0%}"]
            cells += [f"{one.throughput:.2f}", f"{slowest / one.median:.2f}"]
            rows.append([*cells, f"{one.start:.1f}", f"{one.memory / 2**20:.0f}"])
    titles = ["what", "ms", "spread", "images/s", "times the slowest", "start, s", "memory, MB"]
    return text_table.markdown(titles, rows)


def _figures(one: Measurement) -> dict[str, Any]:
    return {
        "name": one.case.name,
        "shape": one.case.shape,
        "options": one.case.options,
        "milliseconds": one.milliseconds,
        "images_per_second": one.stream_rates,
        "start_seconds": one.start,
        "memory_bytes": one.memory,
        "fault": one.fault,
    }


def _loss(args: Namespace) -> int:
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.evaluation.benchmark import LOSS_CASES, LOSSES, LossCase, measure

    if args.picture:
        raise InputError("--picture draws runtimes, not the loss: omit it, or use --json.")
    rows, found = [], []
    for what in LOSS_CASES:
        measured = measure(
            [LossCase(what, loss) for loss in LOSSES], args.turns, runs=1, progress=progress.bar, desc="loss"
        )
        plain = measured[0]
        for one in measured:
            seconds = one.median / 1000
            cells = [f"{what}: {one.case.loss}", f"{seconds:.3f}", f"{one.memory / 2**20:.0f}"]
            rows.append([*cells, f"{one.median / plain.median:.2f}", f"{one.memory / plain.memory:.2f}"])
            found.append({"what": what, "loss": one.case.loss, "seconds": seconds, "bytes": one.memory})
    print(text_table.markdown(["what", "s", "MB", "time, of plain", "memory, of plain"], rows))
    if args.json:
        results.write(args.json, found)
    return 0


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    return flags.side(width), flags.side(height)


_size.__name__ = "WxH"  # argparse shows it in its message
