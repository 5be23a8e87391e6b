"""Measure how fast exported models run here: every runtime and precision at hand, in turns.

Without EXPORT, fresh networks of 19 classes are exported for it: the authors' ResNet-18 and, beside it, PaddleSeg's own
BiseNetV1. `bisenetv1 benchmark loss` measures the loss, and a training step with it, beside plain cross-entropy.
"""

import os
import tempfile

from bisenetv1_plugin.cli import flags, results, terminal
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.machine import cores

SUMMARY = "measure runtimes and precisions, or the loss"

_OURS, _UPSTREAM = "torchseg, ResNet18_v1b", "PaddleSeg's BiseNetV1"
_CLASSES = 19

# A column each: the runtime and what it is made with.
_RUNTIMES = {
    "paddle": ("paddle", {"enable_mkldnn": False}),
    "paddle oneDNN": ("paddle", {"enable_mkldnn": True}),
    "paddle bf16": ("paddle", {"precision": "bf16"}),
    "onnxruntime": ("onnxruntime", {}),
    "openvino": ("openvino", {}),
    "openvino bf16": ("openvino", {"precision": "bf16"}),
}
_INT8 = {"onnxruntime int8": "onnx", "openvino int8": "openvino"}
_GIVEN_INT8 = ("paddle int8", *_INT8)


def add_arguments(parser):
    parser.add_argument("export", nargs="?", help="an exported folder, or `loss`; default: fresh networks")
    size = {"nargs": "+", "metavar": "WxH", "type": _size}
    parser.add_argument("--sizes", default=[(1024, 512)], help="sizes of the image, default 1024x512", **size)
    parser.add_argument(
        "--batch_sizes", nargs="+", type=flags.positive, default=[1], help="images at a time, default 1"
    )
    parser.add_argument(
        "--cpu_threads", nargs="+", type=flags.threads, default=[cores()], help="threads, default all cores"
    )
    parser.add_argument("--turns", type=flags.positive, default=3, help="how often each one's turn comes")
    parser.add_argument("--int8", action="store_true", help="also in 8 bits, calibrated on noise: for the speed alone")
    parser.add_argument("--json", metavar="FILE", help="also write the figures here")
    parser.add_argument("--picture", metavar="FILE", help="also draw them as a PNG")


def run(args):
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
            exports = _given(args.export) if args.export else _fresh(folder, args.int8)
        for width, height in args.sizes:
            for batch in args.batch_sizes:
                for threads in args.cpu_threads:
                    measured += _measure(exports, (batch, 3, height, width), threads, args.turns)
    print(_table(measured))
    if args.json:
        results.write(args.json, [_figures(one) for one in measured])
    if args.picture:
        bars = [(_label(one), one.median) for one in measured if not one.fault]
        plots.bars(args.picture, bars, "milliseconds a run, median")
    return 0


def _files(exported):
    from bisenetv1_plugin.inference.exported import Export

    if exported in (None, "loss"):
        return []
    return Export(os.path.join(exported, "deploy.yaml") if os.path.isdir(exported) else exported).files


def _given(exported):
    from bisenetv1_plugin.inference.exported import Export

    path = os.path.join(exported, "deploy.yaml") if os.path.isdir(exported) else exported
    return {(exported, column): path for column in (_GIVEN_INT8 if Export(path).quantised else _RUNTIMES)}


def _fresh(folder, int8):
    """`deploy.yaml` for every network and column; says what cannot be had."""
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
            path = _quantised(build(), os.path.join(folder, f"{number}-{to}"), to, f"{name}, {column}")
            if path:
                exports[name, column] = path
    return exports


def _export(model, folder, name):
    from bisenetv1_plugin.export.write import write_export

    reason = write_export(model, folder, [{"type": "Normalize"}])
    if reason:
        terminal.warn(f"{name}: {reason}")
    return os.path.join(folder, "deploy.yaml")


def _quantised(model, folder, to, name):
    import numpy as np

    from bisenetv1_plugin.export.quantize import write_quantized

    model.eval()
    noise = np.random.RandomState(1).uniform(-1, 1, (4, 3, 256, 512)).astype("float32")
    try:
        write_quantized(model, folder, [{"type": "Normalize"}], [{"img": image} for image in noise], 4, 1, to)
    except InputError as error:
        terminal.warn(f"{name}: {error}")
        return None
    return os.path.join(folder, "deploy.yaml")


def _measure(exports, shape, threads, turns):
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.evaluation.benchmark import Case, measure

    cases = []
    for (name, column), path in exports.items():
        backend, options = _RUNTIMES.get(column) or (column.split()[0], {"precision": "int8"})
        cases.append(Case(f"{name}, {column}", path, backend, shape, {"cpu_threads": threads, **options}))
    what = f"{shape[3]}x{shape[2]}, batch {shape[0]}, {threads} threads"
    found = measure(cases, turns, progress=lambda turns, **_: progress.bar(turns, desc=what, unit="turn"))
    for one in found:
        if one.fault:
            terminal.warn(f"{one.case.name} is not measured: {one.fault}")
    return found


def _label(one):
    batch, _, height, width = one.case.shape
    threads = one.case.options["cpu_threads"]
    return f"{one.case.name}, {width}x{height}" + f", batch {batch}" * (batch > 1) + f", {threads} threads"


def _table(measured):
    """A row each, as Markdown; the ratio is to the slowest of the same size and batch.

    ms is for one run at a time; images/s for many at a time, as `infer` runs a folder.
    """
    lines = ["| what | ms | spread | images/s | times the slowest | start, s | memory, MB |", "|" + "---|" * 7]
    for one in measured:
        if not one.fault:
            slowest = max(other.median for other in measured if not other.fault and other.case.shape == one.case.shape)
            cells = [_label(one), f"{one.median:.1f}", f"{one.spread:.0%}"]
            cells += [f"{one.throughput:.2f}", f"{slowest / one.median:.2f}"]
            cells += [f"{one.start:.1f}", f"{one.memory / 2**20:.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _figures(one):
    return {
        "name": one.case.name,
        "shape": one.case.shape,
        "options": one.case.options,
        "milliseconds": one.milliseconds,
        "images_per_second": one.streamed,
        "start_seconds": one.start,
        "memory_bytes": one.memory,
        "fault": one.fault,
    }


def _loss(args):
    from bisenetv1_plugin.cli import progress
    from bisenetv1_plugin.evaluation.training_benchmark import LOSSES, compare

    if args.picture:
        raise InputError("--picture draws runtimes; of the loss there are a table and --json.")
    found = compare(args.turns, progress=progress.bar)
    lines = ["| what | s | MB | time, of plain | memory, of plain |", "|" + "---|" * 5]
    for (case, loss), (seconds, memory) in found.items():
        plain_seconds, plain_memory = found[case, LOSSES[0]]
        cells = [f"{case}: {loss}", f"{seconds:.3f}", f"{memory / 2**20:.0f}"]
        cells += [f"{seconds / plain_seconds:.2f}", f"{memory / plain_memory:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    print("\n".join(lines))
    if args.json:
        rows = [{"what": what, "loss": loss, "seconds": s, "bytes": b} for (what, loss), (s, b) in found.items()]
        results.write(args.json, rows)
    return 0


def _size(text):
    width, _, height = text.lower().partition("x")
    return flags.side(width), flags.side(height)


_size.__name__ = "WxH"  # argparse's words for what it refuses
