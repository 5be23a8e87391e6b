"""Trained weights to files for Paddle Inference, as PaddleSeg's tools/export.py does, and on request to ONNX."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any, Sequence

import paddle
import yaml
from paddleseg.deploy.export import WrappedModel

from bisenetv1_plugin.errors import InputError

_OPSET = 13  # has all that the network needs; every ONNX Runtime and OpenVINO of the last years reads it


def save(
    model: paddle.nn.Layer,
    save_dir: str,
    transforms: list[dict[str, Any]],
    input_shape: Sequence[int | None] | None = None,
    output_op: str = "argmax",
    to: str = "paddle",
) -> None:
    """Write the model's static program, its weights and `deploy.yaml` into `save_dir`.

    Args:
        model (paddle.nn.Layer): in evaluation mode; takes `[N, C, H, W]` float32.
        save_dir (str): the folder; files of an earlier export there are replaced, once the new ones are complete.
        transforms (list[dict]): the validation transforms of the configuration.
        input_shape (sequence[int], optional): `[N, C, H, W]`, None for any. Default: any batch, 3 channels, any size.
        output_op (str): 'argmax' (int32 `[N, H, W]`), 'softmax' (`[N, classes, H, W]`) or 'none' (logits).
        to (str): 'paddle', or 'onnx' for an ONNX model beside Paddle's files, which `deploy.yaml` then names as well.

    Raises:
        InputError: there is no converter to ONNX for this Paddle, or it fails; nothing is written then.
    """
    shape: list[int | None] = list(input_shape or [None, 3, None, None])  # InputSpec writes -1 into it
    wrapped = model if output_op == "none" else WrappedModel(model, output_op)
    wrapped.eval()
    static = paddle.jit.to_static(wrapped, input_spec=[paddle.static.InputSpec(shape=shape, dtype="float32")])
    os.makedirs(save_dir, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=save_dir, prefix=".export-") as beside:
        paddle.jit.save(static, os.path.join(beside, "model"))
        # Paddle 3 writes the program as JSON; a deploy.yaml that names .pdmodel would not be found.
        program = "model.json" if os.path.exists(os.path.join(beside, "model.json")) else "model.pdmodel"
        deploy: dict[str, Any] = {
            "model": program,
            "params": "model.pdiparams",
            "transforms": transforms,
            "input_shape": shape,
            "output_op": output_op,
            "output_dtype": "int32" if output_op == "argmax" else "float32",
        }
        if to == "onnx":
            deploy["onnx"] = "model.onnx"
            with open(os.path.join(beside, "model.onnx"), "wb") as file:
                file.write(_onnx(os.path.join(beside, program), os.path.join(beside, "model.pdiparams")))
        with open(os.path.join(beside, "deploy.yaml"), "w", encoding="utf-8") as yaml_file:
            yaml.safe_dump({"Deploy": deploy}, yaml_file)
        move(beside, save_dir)


def move(beside: str, save_dir: str) -> None:
    """Put a complete export in its place; what names the other files goes last."""
    for name in sorted(os.listdir(beside), key=lambda name: name == "deploy.yaml"):
        shutil.move(os.path.join(beside, name), os.path.join(save_dir, name))


def _onnx(program: str, params: str) -> bytes:
    """The ONNX model of a static program."""
    # 1.3.1 reads Paddle 2.6's programs and none of Paddle 3, which 2.1.0 reads; 2.1.0 does not start with Paddle 2.6.
    package = "paddle2onnx==1.3.1" if program.endswith(".pdmodel") else "'paddle2onnx>=2.1.0'"
    cure = f"For Paddle {paddle.__version__}: pip install {package}"
    try:
        import paddle2onnx
    except (ImportError, ValueError) as error:  # ValueError: it was built for another Paddle
        raise InputError(f"An ONNX model needs the converter paddle2onnx ({error}). {cure}.") from error
    try:
        # As bytes: to write the file itself, 2.1.0 lets Polygraphy pip-install what it lacks, and NumPy 2 with it.
        model = paddle2onnx.export(program, params, opset_version=_OPSET, verbose=False)
    except SystemExit:  # its way to say no, after logging why
        model = None
    if not model:  # nothing is what it gives for a program it cannot read
        version = paddle2onnx.__version__
        raise InputError(f"paddle2onnx {version} cannot convert this network, it says why above. {cure}.")
    return model
