"""Measure the cost of reading and writing files: python tests/benchmarks/folder.py DEPLOY_YAML IMAGES [TURNS]

Each available runtime runs in its own process. Two cases take turns: the bare runtime on preprocessed images in memory,
and `infer` on the folder, which writes masks. Prints the median images per second of both and their ratio.
"""

import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import deque

from bisenetv1_plugin.machine import cores, reuse_memory, use_amd_vectors

use_amd_vectors()  # as the commands do, before Paddle is imported
reuse_memory()

from bisenetv1_plugin.drawing.painter import Painter  # noqa: E402
from bisenetv1_plugin.errors import InputError  # noqa: E402
from bisenetv1_plugin.inference.engine import Engine, infer  # noqa: E402
from bisenetv1_plugin.inference.exported_model import Export  # noqa: E402
from bisenetv1_plugin.inference.mask_files import MaskFiles  # noqa: E402
from bisenetv1_plugin.inference.runtimes import RUNTIMES  # noqa: E402
from bisenetv1_plugin.inference.sources import Source  # noqa: E402

RUNTIME_OPTIONS = {"openvino": {}, "onnxruntime": {}, "paddle": {"enable_mkldnn": True}}


def seconds(work):
    time.sleep(0.25)  # idle threads of OpenMP spin for 200 ms
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(export, folder, name, turns):
    runtime = RUNTIMES[name](export, cpu_threads=cores(), **RUNTIME_OPTIONS[name])
    inputs = [export.preprocess(picture.pixels).image[None] for picture in Source(folder)]
    deque(runtime.stream(inputs[:4]), maxlen=0)

    rates = {"bare": [], "whole": []}
    with tempfile.TemporaryDirectory() as masks:
        writer = MaskFiles(masks, painter=Painter(export.classes, export.colors))
        kinds = {
            "bare": lambda: deque(runtime.stream(inputs), maxlen=0),
            "whole": lambda: infer(Engine(export, runtime), Source(folder), [writer]),
        }
        for turn in range(turns):
            for kind in reversed(kinds) if turn % 2 else kinds:
                rates[kind].append(len(inputs) / seconds(kinds[kind]))
        assert len(os.listdir(masks)) == len(inputs) + 1  # and the folder of colored masks
    ratios = [whole / bare for bare, whole in zip(rates["bare"], rates["whole"])]
    bare, whole = (statistics.median(values) for values in rates.values())
    print(
        f"{name}: bare {bare:.2f} images/s, folder {whole:.2f}, ratio {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f})",
        flush=True,
    )


def measure_export(deploy, images, name, turns):
    try:
        measure(Export(deploy), images, name, turns)
    except InputError as error:
        print(f"{name}: {error}")


if __name__ == "__main__":
    deploy, images, *turns = sys.argv[1:]
    for name in RUNTIME_OPTIONS:  # separate processes, so that memory of the others is freed
        arguments = (deploy, images, name, int(turns[0]) if turns else 3)
        process = multiprocessing.get_context("spawn").Process(target=measure_export, args=arguments)
        process.start()
        process.join()
