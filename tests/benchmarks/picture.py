"""Compare `picture.onnx`, which normalizes images itself, with `model.onnx` and normalization in NumPy and OpenCV.

    python tests/benchmarks/picture.py EXPORTED LIST [TURNS]

EXPORTED is from `bisenetv1 export --picture_onnx`. The first column of LIST has image paths, relative to its folder.
Prints the number of different mask pixels on all images, and the ratio of times on every tenth image, on one thread.
"""

import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import openvino
import yaml

STEP = 10  # every tenth picture is timed


def in_onnxruntime(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda array: session.run(None, {session.get_inputs()[0].name: array})[0]


def in_openvino(path):
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(str(path), "CPU", options)
    return lambda array: model(array)[0].copy()


def main(exported, images, turns=9):
    deploy = yaml.safe_load((Path(exported) / "deploy.yaml").read_text())["Deploy"]
    mean, std = (np.array(deploy["transforms"][0][key], "float32") for key in ("mean", "std"))
    lines = Path(images).read_text().splitlines()
    pictures = [cv2.imread(str(Path(images).parent / line.split()[0])) for line in lines]

    def prepared(picture):
        image = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype("float32") / 255
        image -= mean
        image /= std
        return np.ascontiguousarray(image.transpose(2, 0, 1))[np.newaxis]

    def as_it_is(picture):
        ordered = picture if deploy["picture"]["color"] == "BGR" else picture[..., ::-1]
        return np.ascontiguousarray(ordered)[np.newaxis]

    for load in (in_onnxruntime, in_openvino):
        model, with_picture = (load(Path(exported) / name) for name in ("model.onnx", "picture.onnx"))
        ways = (lambda picture: model(prepared(picture)), lambda picture: with_picture(as_it_is(picture)))  # noqa: B023
        differ = sum(int((ways[0](picture) != ways[1](picture)).sum()) for picture in pictures)
        ratios = []
        for _ in range(int(turns)):
            seconds = []
            for way in ways:
                begun = time.perf_counter()
                for picture in pictures[::STEP]:
                    way(picture)
                seconds.append(time.perf_counter() - begun)
            ratios.append(seconds[0] / seconds[1])
        print(f"{load.__name__}: {differ} pixels of {len(pictures)} pictures differ; picture.onnx is", end=" ")
        print(f"{statistics.median(ratios):.3f} times as fast, {min(ratios):.3f} to {max(ratios):.3f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
