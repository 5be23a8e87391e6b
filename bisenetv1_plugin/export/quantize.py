"""Export trained weights in 8 bits by post-training quantization, for OpenVINO, ONNX Runtime or Paddle.

NNCF quantizes the ONNX model for OpenVINO. ONNX Runtime's own quantizer does so for ONNX Runtime; OpenVINO runs its
result too. Both are calibrated with the minimum and maximum of every activation. NNCF's default, which clips extremes,
kept 96.9 % of the pixels of the demo's network; this keeps 98.3 %.

The attention convolutions, on globally pooled `[N, C, 1, 1]` features, stay in fp32. They weight whole channels: in
8 bits they kept only 62.6 % of the pixels. Their cost is negligible.
"""

from __future__ import annotations

import logging
import os
from typing import Any, Iterator

import numpy as np
import paddle
import yaml

from bisenetv1_plugin.datasets.classes import NamedClasses
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.export.folder import move_files, temporary_folder
from bisenetv1_plugin.export.write import write_export
from bisenetv1_plugin.libraries import optional_library

_EXTRA = "quantize"
_WRONG_PADDLE = (
    "Paddle's quantizer cannot read the programs that Paddle {} writes. Quantize with Paddle 2.6.2 or 3.0.0; "
    "the result runs with this Paddle as well."
)


def write_quantized(
    model: paddle.nn.Layer,
    save_dir: str,
    transforms: list[dict[str, Any]],
    images: paddle.io.Dataset,
    batch_nums: int,
    batch_size: int,
    to: str = "paddle",
    classes: NamedClasses | None = None,
) -> None:
    """Write the quantized model, its weights (int8) and `deploy.yaml` into `save_dir`.

    With Paddle 3.0 and `to='paddle'`, FLAGS_enable_pir_api=0 must be in the environment when Paddle is imported.
    Otherwise its quantizer cannot read the program.

    Args:
        model: the network, in evaluation mode; takes `[N, 3, H, W]` float32.
        save_dir: the folder. Files of an earlier export are replaced once the new ones are complete.
        transforms: the validation transforms of the configuration.
        images: dicts with `img` `[3, H, W]` float32.
        batch_nums, batch_size: their product is the number of calibration images, spread over the dataset.
        to: 'paddle' for Paddle's own quantizer, which works only in Paddle 2.6 and 3.0; 'openvino'; or 'onnx' for
            ONNX Runtime and OpenVINO.
        classes: see `write_export`.

    Raises:
        InputError: there are too few images, Paddle's quantizer cannot read the programs of this version, or a library
            is missing. Nothing is written then.
        OSError: the folder cannot be written, or the disk is full. An earlier export remains complete.
    """
    needed = batch_nums * batch_size
    if not 0 < needed <= len(images):
        raise InputError(
            f"batch_nums and batch_size ask for {needed} images, but the train_dataset has {len(images)}: "
            "lower one of them."
        )
    images = _CalibrationImages(images, needed)
    with temporary_folder(save_dir) as folder:
        quantized = os.path.join(folder, "int8")
        os.mkdir(quantized)
        try:
            write_export(model, folder, transforms, to="paddle" if to == "paddle" else "onnx", classes=classes)
        except TypeError as error:
            # The error of Paddle 3.2 and 3.3 for an older operator.
            if to != "paddle" or "got Variable" not in str(error):
                raise
            raise InputError(_WRONG_PADDLE.format(paddle.__version__)) from error
        if to == "paddle":
            files = _quantize_for_paddle(folder, quantized, images, batch_nums, batch_size)
        else:
            arrays = [np.asarray(images[index], "float32")[np.newaxis] for index in range(needed)]
            quantize = {"openvino": _quantize_for_openvino, "onnx": _quantize_for_onnxruntime}[to]
            files = {to: quantize(os.path.join(folder, "model.onnx"), arrays, quantized)}
        _write_deploy_yaml(folder, quantized, files)
        move_files(quantized, save_dir)


class _CalibrationImages(paddle.io.Dataset):
    """The `img` of `count` samples, spread over a dataset."""

    def __init__(self, images: paddle.io.Dataset, count: int) -> None:
        self._images, self._count = images, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        return self._images[index * (len(self._images) // self._count)]["img"]


def _write_deploy_yaml(exported: str, quantized: str, files: dict[str, str]) -> None:
    """Write the `deploy.yaml` of the quantized model, based on that of the fp32 export."""
    with open(os.path.join(exported, "deploy.yaml"), encoding="utf-8") as file:
        deploy = yaml.safe_load(file)["Deploy"]
    rest = {key: value for key, value in deploy.items() if key not in ("model", "params", "onnx")}
    with open(os.path.join(quantized, "deploy.yaml"), "w", encoding="utf-8") as file:
        yaml.safe_dump({"Deploy": {**rest, **files, "precision": "int8"}}, file)


def _quantize_for_paddle(
    source: str, target: str, images: paddle.io.Dataset, batch_nums: int, batch_size: int
) -> dict[str, str]:
    """Quantize the program in `source` and write it to `target`; return its entries of `deploy.yaml`.

    Raises:
        InputError: the quantizer cannot read the program.
    """
    from paddle.static.quantization import PostTrainingQuantization

    if not os.path.isfile(os.path.join(source, "model.pdmodel")):
        raise InputError(_WRONG_PADDLE.format(paddle.__version__))
    names = {"model_filename": "model.pdmodel", "params_filename": "model.pdiparams"}
    place = paddle.CPUPlace()
    paddle.enable_static()
    try:
        with paddle.static.program_guard(paddle.static.Program()):
            x = paddle.static.data("x", [None, 3, None, None], "float32")
        loader = paddle.io.DataLoader(images, feed_list=[x], places=[place], batch_size=batch_size, return_list=False)
        quantization = PostTrainingQuantization(
            executor=paddle.static.Executor(place),
            model_dir=source,
            data_loader=loader,
            batch_size=batch_size,
            batch_nums=batch_nums,
            algo="hist",
            quantizable_op_type=["conv2d"],
            onnx_format=True,  # weights in int8, a quarter of the size
            **names,
        )
        quantization.quantize()
        quantization.save_quantized_model(target, **names)
    finally:
        paddle.disable_static()
    return {"model": names["model_filename"], "params": names["params_filename"]}


def _quantize_for_openvino(onnx_model: str, images: list[np.ndarray], folder: str) -> str:
    """Write `model.xml` and `model.bin` into a folder; return the name of the first.

    Args:
        onnx_model: path of the fp32 model.
        images: transformed calibration images, `[1, C, H, W]` float32.
        folder: the output folder.

    Raises:
        InputError: NNCF or OpenVINO is not installed.
    """
    nncf, openvino = optional_library("nncf", _EXTRA), optional_library("openvino", _EXTRA)
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    logging.getLogger("nncf").setLevel(logging.ERROR)  # it logs every ignored node
    quantized = nncf.quantize(
        openvino.Core().read_model(onnx_model),
        nncf.Dataset(images),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(images),
        ignored_scope=nncf.IgnoredScope(names=_attention_convolutions(onnx_model)),
        advanced_parameters=AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
        ),
    )
    openvino.save_model(quantized, os.path.join(folder, "model.xml"), compress_to_fp16=False)
    return "model.xml"


def _quantize_for_onnxruntime(onnx_model: str, images: list[np.ndarray], folder: str) -> str:
    """Write `model.onnx` with pairs of QuantizeLinear and DequantizeLinear; return its name. Same arguments as above.

    Raises:
        InputError: ONNX Runtime's quantizer or OpenVINO is not installed.
    """
    optional_library("ml_dtypes", _EXTRA)  # an undeclared dependency of the quantizer
    quantization = optional_library("onnxruntime.quantization", _EXTRA)
    fused = os.path.join(folder, "fused.onnx")
    quantization.quant_pre_process(onnx_model, fused, skip_symbolic_shape=True)
    name = optional_library("onnx", _EXTRA).load(fused).graph.input[0].name
    feeds: Iterator[dict[str, np.ndarray]] = ({name: image} for image in images)
    reader = type("Images", (quantization.CalibrationDataReader,), {"get_next": lambda self: next(feeds, None)})
    quantization.quantize_static(
        fused,
        os.path.join(folder, "model.onnx"),
        reader(),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        nodes_to_exclude=_attention_convolutions(onnx_model),
        calibrate_method=quantization.CalibrationMethod.MinMax,
    )
    os.remove(fused)
    return "model.onnx"


def _attention_convolutions(onnx_model: str) -> list[str]:
    """Return the names of the convolutions with an output of one pixel; OpenVINO keeps the names of ONNX."""
    model: Any = optional_library("openvino", _EXTRA).Core().read_model(onnx_model)
    return [
        operation.get_friendly_name()
        for operation in model.get_ordered_ops()
        if operation.get_type_name() == "Convolution" and _is_one_pixel(operation.output(0).get_partial_shape())
    ]


def _is_one_pixel(shape: Any) -> bool:
    return all(shape[axis].is_static and shape[axis].get_length() == 1 for axis in (2, 3))
