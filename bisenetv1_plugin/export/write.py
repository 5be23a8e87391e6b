"""Export trained weights for Paddle Inference, as PaddleSeg's tools/export.py does, and to ONNX."""

from __future__ import annotations

import os
from typing import Any, Sequence

import numpy as np
import paddle
import yaml
from paddleseg.deploy.export import WrappedModel

from bisenetv1_plugin.datasets.classes import NamedClasses
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.export import onnx_model
from bisenetv1_plugin.export.defaults import fill_defaults
from bisenetv1_plugin.export.folder import check_written, move_files, temporary_folder
from bisenetv1_plugin.inference import probe
from bisenetv1_plugin.inference.postprocess import logit_tolerance

_PROBE_SIZE = (64, 96)


def write_export(
    model: paddle.nn.Layer,
    save_dir: str,
    transforms: list[dict[str, Any]],
    input_shape: Sequence[int | None] | None = None,
    output_op: str = "argmax",
    to: str = "auto",
    classes: NamedClasses | None = None,
    picture_onnx: str | None = None,
) -> str | None:
    """Write the model's static program, its weights and `deploy.yaml` into `save_dir`.

    Args:
        model: the network, in evaluation mode; takes `[N, C, H, W]` float32.
        save_dir: the folder. Files of an earlier export are replaced once the new ones are complete.
        transforms: the validation transforms of the configuration.
        input_shape: `[N, C, H, W]`, None for any. Default: any batch, the network's channels, any size.
        output_op: 'argmax' (int32 `[N, H, W]`), 'softmax' (`[N, classes, H, W]`) or 'none' (logits).
        to: 'onnx' to add an ONNX model, 'paddle' for Paddle's files only, or 'auto' to add an ONNX model if the
            converter is installed and supports this network.
        classes: the names and colors of the classes. `deploy.yaml` has them under keys that PaddleSeg ignores.
        picture_onnx: 'rgb' or 'bgr' to add `picture.onnx`, an ONNX model that takes uint8 images `[N, H, W, 3]` with
            this channel order. It implies `to='onnx'`.

    Returns:
        The reason if `to` is 'auto' and there is no ONNX model, else None.

    Raises:
        InputError: there is no ONNX converter for this Paddle, or it fails, or `picture_onnx` is set and the
            transforms do more than normalize. Nothing is written then.
        OSError: the folder cannot be written, or the disk is full. An earlier export remains complete.
    """
    shape: list[int | None] = list(input_shape or [None, getattr(model, "in_channels", 3), None, None])
    channels = shape[1] or 3
    if picture_onnx:
        onnx_model.check_only_normalization(transforms, channels)
        to = "onnx"
    model.eval()
    answer = _probe_answer(model, shape)  # first, because exporting modifies the model
    with temporary_folder(save_dir) as folder:
        program = _write_paddle(model, shape, output_op, folder)
        deploy: dict[str, Any] = {
            "model": program,
            "params": "model.pdiparams",
            "transforms": fill_defaults(transforms, channels),
            "input": {"dtype": "float32", "layout": "NCHW", **({"color": "RGB"} if channels == 3 else {})},
            "input_shape": shape,
            "output_op": output_op,
            "output_dtype": "int32" if output_op == "argmax" else "float32",
        }
        if classes and classes.names:
            deploy["classes"] = list(classes.names)
        if classes and classes.colors:
            deploy["colors"] = [list(color) for color in classes.colors]
        reason = None
        if to != "paddle":
            try:
                deploy.update(_write_onnx(folder, program, deploy["transforms"], picture_onnx))
            except InputError as error:
                if to == "onnx":
                    raise
                reason = str(error)
        np.savez_compressed(os.path.join(folder, probe.NAME), **answer)
        with open(os.path.join(folder, "deploy.yaml"), "w", encoding="utf-8") as file:
            yaml.safe_dump({"Deploy": deploy}, file)
        move_files(folder, save_dir)
    return reason


def _write_paddle(model: paddle.nn.Layer, shape: list[int | None], output_op: str, folder: str) -> str:
    """Write Paddle's program and weights; return the name of the program file."""
    wrapped = model if output_op == "none" else WrappedModel(model, output_op)
    wrapped.eval()
    static = paddle.jit.to_static(wrapped, input_spec=[paddle.static.InputSpec(shape=list(shape), dtype="float32")])
    paddle.jit.save(static, os.path.join(folder, "model"))
    check_written(os.path.join(folder, "model.pdiparams"))
    # Paddle 3 writes the program as JSON.
    return "model.json" if os.path.exists(os.path.join(folder, "model.json")) else "model.pdmodel"


def _write_onnx(
    folder: str, program: str, transforms: list[dict[str, Any]], picture_onnx: str | None
) -> dict[str, Any]:
    """Write the ONNX models of an export; return their entries of `deploy.yaml`."""
    converted = onnx_model.convert(os.path.join(folder, program), os.path.join(folder, "model.pdiparams"))
    with open(os.path.join(folder, "model.onnx"), "wb") as file:
        file.write(converted)
    if not picture_onnx:
        return {"onnx": "model.onnx"}
    with open(os.path.join(folder, "picture.onnx"), "wb") as file:
        file.write(onnx_model.embed_normalization(converted, transforms, picture_onnx))
    picture = {"onnx": "picture.onnx", "dtype": "uint8", "layout": "NHWC", "color": picture_onnx.upper()}
    return {"onnx": "model.onnx", "picture": picture}


def _probe_answer(model: paddle.nn.Layer, shape: Sequence[int | None]) -> dict[str, np.ndarray]:
    """Run the network in dygraph on a synthetic image, for the export's probe.

    Args:
        model: the network, in evaluation mode; takes `[N, C, H, W]` float32 and returns logits.
        shape: the export's `[N, C, H, W]`, None (or less than 1) for any.

    Returns:
        The `shape` of the image, the `mask` (uint8 `[N, H, W]`) and `clear` (bool `[N, H, W]`): pixels with a clear
        margin between the two best classes.
    """
    batch, channels, height, width = (size if size and size > 0 else None for size in shape)
    image = probe.picture((batch or 1, channels or 3, height or _PROBE_SIZE[0], width or _PROBE_SIZE[1]))
    with paddle.no_grad():
        logits = model(paddle.to_tensor(image))[0].numpy()
    best = np.sort(logits, axis=1)[:, -2:]  # one value if there is only one class
    clear = (best[:, -1] - best[:, 0] >= logit_tolerance(logits)) | (logits.shape[1] == 1)
    return {"shape": np.array(image.shape), "mask": logits.argmax(axis=1).astype("uint8"), "clear": clear}
