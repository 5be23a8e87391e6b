"""How long one image takes: python tests/benchmarks/latency.py [--threads N] [--repeats N] [--clock cpu]

Our networks and PaddleSeg's own BiseNetV1, exported at a fixed size and run in every runtime at hand, batch 1. All are
timed in turns in one process, so that whatever else slows the machine slows all of them; the table has medians after a
warm-up, in milliseconds, and in brackets how many times faster than PaddleSeg's BiseNetV1 in the same runtime.
Weights are random: the time does not depend on them.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time

import numpy as np
import paddleseg  # noqa: F401 - registers the plugin
from paddleseg.models import BiseNetV1
from paddleseg.models.backbones import ResNet18_vd
from tqdm import tqdm

from bisenetv1_plugin.backbones.resnet import ResNet18_v1b
from bisenetv1_plugin.deploy import export, quantize, runtimes
from bisenetv1_plugin.deploy.exported import Export
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.machine import cores
from bisenetv1_plugin.models.bisenetv1 import BiSeNetV1

CLASSES = 19
UPSTREAM = "PaddleSeg's BiseNetV1, os8"
NETWORKS = {
    "torchseg, ResNet18_v1b, os32": lambda: BiSeNetV1(CLASSES, ResNet18_v1b()),
    "paddleseg, ResNet18_vd, os8": lambda: BiSeNetV1(CLASSES, ResNet18_vd(output_stride=8), variant="paddleseg"),
    UPSTREAM: lambda: BiseNetV1(CLASSES, ResNet18_vd(output_stride=8)),
}
RUNTIMES = {
    "paddle fp32": ("paddle", {}),
    "paddle oneDNN fp32": ("paddle", {"enable_mkldnn": True}),
    "paddle oneDNN bf16": ("paddle", {"precision": "bf16"}),
    "onnxruntime fp32": ("onnxruntime", {}),
    "openvino fp32": ("openvino", {}),
    "openvino bf16": ("openvino", {"precision": "bf16"}),
    "paddle oneDNN int8": ("paddle", {"precision": "int8"}),  # a model of its own, after all that share one
}


def predictors(folder, height, width, threads):
    """{(network, runtime): predictor} of all that can be had; says what cannot."""
    found = {}
    for network, build in NETWORKS.items():
        deploy = os.path.join(folder, str(len(found)))
        arguments = (deploy, [{"type": "Normalize"}], [1, 3, height, width])
        try:
            export.save(build(), *arguments, to="onnx")
        except InputError as error:
            print(f"{network}: {error}", file=sys.stderr)
            export.save(build(), *arguments)
        for runtime, (backend, options) in RUNTIMES.items():
            try:
                if options.get("precision") == "int8":
                    deploy += "_int8"
                    quantise(build(), deploy, height, width)
                made = runtimes.RUNTIMES[backend](Export(f"{deploy}/deploy.yaml"), cpu_threads=threads, **options)
                found[network, runtime] = made
            except InputError as error:
                print(f"{network}, {runtime}: {error}", file=sys.stderr)
    return found


def quantise(model, folder, height, width):
    """Export it in 8 bits, calibrated on noise."""
    model.eval()
    noise = np.random.RandomState(1).uniform(-1, 1, (2, 3, height, width)).astype("float32")
    quantize.save(model, folder, [{"type": "Normalize"}], [{"img": image} for image in noise], 2, 1)


def measure(found, image, repeats, clock):
    """{(network, runtime): median milliseconds}."""
    times = {key: [] for key in found}
    for turn in tqdm(range(repeats + 1), unit="turn"):
        for key, predictor in found.items():
            started = clock()
            predictor.run(image)
            if turn:  # the first is the warm-up
                times[key].append((clock() - started) * 1000)
    return {key: statistics.median(values) for key, values in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs=2, type=int, default=[1024, 512], metavar=("W", "H"))
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: of this process, on a busy machine"
    )
    args = parser.parse_args()
    width, height = args.size
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[args.clock]
    image = np.random.RandomState(0).uniform(-1, 1, (1, 3, height, width)).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        found = predictors(folder, height, width, args.threads)
        medians = measure(found, image, args.repeats, clock)

    print(f"{width}x{height}, batch 1, {args.threads} threads, median of {args.repeats}, {args.clock} time, ms")
    print(f"{'':<30}" + "".join(f"{runtime:>22}" for runtime in RUNTIMES))
    for network in NETWORKS:
        cells = []
        for runtime in RUNTIMES:
            time_, theirs = medians.get((network, runtime)), medians.get((UPSTREAM, runtime))
            ratio = f" ({theirs / time_:.2f}x)" if time_ and theirs else ""
            cells.append(f"{time_:.0f}{ratio}" if time_ else "-")
        print(f"{network:<30}" + "".join(f"{cell:>22}" for cell in cells))
    for network in NETWORKS:
        for rounded in ("paddle oneDNN bf16", "paddle oneDNN int8", "openvino bf16"):
            exact = f"{rounded[:-4]}fp32"
            if (network, exact) in medians and (network, rounded) in medians:
                ratio = medians[network, exact] / medians[network, rounded]
                print(f"{network}: {rounded} is {ratio:.2f} times as fast as {exact}")


main()
