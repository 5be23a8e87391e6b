"""ONNX models in 8 bits: for OpenVINO by NNCF, for ONNX Runtime (and OpenVINO as well) by ONNX Runtime's quantiser.

Post-training, calibrated by the least and greatest value of every activation: NNCF's default, which cuts the extremes
off, kept 96.9 % of the pixels of the demo's network where this keeps 98.3 %. The convolutions of the attention, on
globally pooled `[N, C, 1, 1]` features, stay in fp32: they weight whole channels, and with them in 8 bits 62.6 % of the
pixels were left. They cost nothing.
"""

from __future__ import annotations

import logging
import os
from typing import Any, Iterator

import numpy as np

from bisenetv1_plugin.libraries import optional_library

_EXTRA = "quantize"


def to_openvino(onnx_model: str, images: list[np.ndarray], folder: str) -> str:
    """Write `model.xml` and `model.bin` into a folder; returns the name of the first.

    Args:
        onnx_model (str): the path of the fp32 model.
        images (list[numpy.ndarray]): `[1, C, H, W]` float32, transformed, to calibrate with.
        folder (str): where to write.

    Raises:
        InputError: NNCF or OpenVINO is not installed.
    """
    nncf, openvino = optional_library("nncf", _EXTRA), optional_library("openvino", _EXTRA)
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    logging.getLogger("nncf").setLevel(logging.ERROR)  # it tells every node that it leaves alone
    quantised = nncf.quantize(
        openvino.Core().read_model(onnx_model),
        nncf.Dataset(images),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(images),
        ignored_scope=nncf.IgnoredScope(names=_attention(onnx_model)),
        advanced_parameters=AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
        ),
    )
    openvino.save_model(quantised, os.path.join(folder, "model.xml"), compress_to_fp16=False)
    return "model.xml"


def to_onnx(onnx_model: str, images: list[np.ndarray], folder: str) -> str:
    """Write `model.onnx`, with pairs of QuantizeLinear and DequantizeLinear; returns its name. Arguments as above.

    Raises:
        InputError: ONNX Runtime's quantiser or OpenVINO is not installed.
    """
    optional_library("ml_dtypes", _EXTRA)  # which the quantiser imports and does not declare
    quantization = optional_library("onnxruntime.quantization", _EXTRA)
    # Errors only: the converter leaves constants nobody uses, a warning each.
    optional_library("onnxruntime").set_default_logger_severity(3)
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
        nodes_to_exclude=_attention(onnx_model),
        calibrate_method=quantization.CalibrationMethod.MinMax,
    )
    os.remove(fused)
    return "model.onnx"


def _attention(onnx_model: str) -> list[str]:
    """The names of the convolutions whose result is one pixel; OpenVINO calls them as ONNX does."""
    model: Any = optional_library("openvino", _EXTRA).Core().read_model(onnx_model)
    return [
        operation.get_friendly_name()
        for operation in model.get_ordered_ops()
        if operation.get_type_name() == "Convolution" and _is_one_pixel(operation.output(0).get_partial_shape())
    ]


def _is_one_pixel(shape: Any) -> bool:
    return all(shape[axis].is_static and shape[axis].get_length() == 1 for axis in (2, 3))
