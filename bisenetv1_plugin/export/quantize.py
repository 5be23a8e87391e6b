"""Trained weights to an export in 8 bits, by post-training quantisation: for OpenVINO, ONNX Runtime or Paddle."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import paddle
import yaml

from bisenetv1_plugin.datasets.classes import NamedClasses
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.export import int8
from bisenetv1_plugin.export import save as export


def save(
    model: paddle.nn.Layer,
    save_dir: str,
    transforms: list[dict[str, Any]],
    images: paddle.io.Dataset,
    batch_nums: int,
    batch_size: int,
    to: str = "paddle",
    classes: NamedClasses | None = None,
) -> None:
    """Write the quantised model, its weights (int8) and `deploy.yaml` into `save_dir`.

    For Paddle: 3.0 writes the kind of program that its quantiser reads only with FLAGS_enable_pir_api=0 in the
    environment when Paddle is imported.

    Args:
        model (paddle.nn.Layer): in evaluation mode; takes `[N, 3, H, W]` float32.
        save_dir (str): the folder; files of an earlier export there are replaced, once the new ones are complete.
        transforms (list[dict]): the validation transforms of the configuration.
        images (paddle.io.Dataset): dicts with `img` `[3, H, W]` float32.
        batch_nums, batch_size (int): how many of them to calibrate with, from the whole length of the list.
        to (str): 'paddle', by Paddle's own quantiser, which only Paddle 2.6 and 3.0 have; 'openvino' or 'onnx', see
            `int8`. ONNX Runtime and OpenVINO run the last.
        classes (NamedClasses, optional): see `export.save`.

    Raises:
        InputError: there are fewer images than that, this Paddle writes no program that its quantiser can read, or
            a library that does it is missing; nothing is written then.
        OSError: the folder cannot be written, or the disk is full; an earlier export there stays whole.
    """
    needed = batch_nums * batch_size
    if not 0 < needed <= len(images):
        raise InputError(f"batch_nums and batch_size ask for {needed} images; the train_dataset has {len(images)}.")
    images = _Spread(images, needed)
    with export.beside(save_dir) as beside:
        quantised = os.path.join(beside, "int8")
        if to != "paddle":
            export.save(model, beside, transforms, to="onnx", classes=classes)
            os.mkdir(quantised)
            quantise = {"openvino": int8.to_openvino, "onnx": int8.to_onnx}[to]
            arrays = [np.asarray(images[index], "float32")[np.newaxis] for index in range(needed)]
            _describe(beside, quantised, {to: quantise(os.path.join(beside, "model.onnx"), arrays, quantised)})
            export.move(quantised, save_dir)
            return
        try:
            export.save(model, beside, transforms, to="paddle", classes=classes)
        except TypeError as error:
            if "got Variable" not in str(error):  # Paddle 3.2's and 3.3's words for an operator of the older kind
                raise
            raise InputError(_WRONG_PADDLE.format(paddle.__version__)) from error
        if not os.path.isfile(os.path.join(beside, "model.pdmodel")):
            raise InputError(_WRONG_PADDLE.format(paddle.__version__))
        paddle.enable_static()
        try:
            _quantise(beside, quantised, images, batch_nums, batch_size)
        finally:
            paddle.disable_static()
        _describe(beside, quantised, {"model": "model.pdmodel", "params": "model.pdiparams"})
        export.move(quantised, save_dir)


class _Spread(paddle.io.Dataset):
    """The `img` of so many samples, from the whole length of a dataset."""

    def __init__(self, images: paddle.io.Dataset, count: int) -> None:
        self._images, self._count = images, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        return self._images[index * (len(self._images) // self._count)]["img"]


def _describe(exported: str, quantised: str, files: dict[str, str]) -> None:
    """Write the `deploy.yaml` of what was quantised, after that of the export in fp32."""
    with open(os.path.join(exported, "deploy.yaml"), encoding="utf-8") as file:
        deploy = yaml.safe_load(file)["Deploy"]
    rest = {key: value for key, value in deploy.items() if key not in ("model", "params", "onnx")}
    with open(os.path.join(quantised, "deploy.yaml"), "w", encoding="utf-8") as file:
        yaml.safe_dump({"Deploy": {**rest, **files, "precision": "int8"}}, file)


_WRONG_PADDLE = (
    "Paddle {} writes no program of the kind that its quantiser reads. Quantise with Paddle 2.6.2 or 3.0.0; "
    "what they make runs with this Paddle as well."
)


def _quantise(source: str, target: str, images: paddle.io.Dataset, batch_nums: int, batch_size: int) -> None:
    """From one folder to another."""
    from paddle.static.quantization import PostTrainingQuantization

    place = paddle.CPUPlace()
    with paddle.static.program_guard(paddle.static.Program()):
        x = paddle.static.data("x", [None, 3, None, None], "float32")
    loader = paddle.io.DataLoader(images, feed_list=[x], places=[place], batch_size=batch_size, return_list=False)
    files = {"model_filename": "model.pdmodel", "params_filename": "model.pdiparams"}
    quantisation = PostTrainingQuantization(
        executor=paddle.static.Executor(place),
        model_dir=source,
        data_loader=loader,
        batch_size=batch_size,
        batch_nums=batch_nums,
        algo="hist",
        quantizable_op_type=["conv2d"],
        onnx_format=True,  # weights in int8, a quarter of the space
        **files,
    )
    quantisation.quantize()
    quantisation.save_quantized_model(target, **files)
