"""Paddle's program to ONNX; and to an ONNX model that takes pictures as they are, the normalization inside."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import paddle

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.preprocess import Preprocess
from bisenetv1_plugin.libraries import optional_library

_OPSET = 13  # has all that the network needs; every ONNX Runtime and OpenVINO of the last years reads it


def convert(program: str, params: str) -> bytes:
    """The ONNX model of a static program, without the constants that nothing uses.

    ONNX Runtime warns of each of them, in every session.

    Args:
        program, params (str): the paths of Paddle's files.

    Raises:
        InputError: there is no converter for this Paddle, or it fails.
    """
    # 1.3.1 reads Paddle 2.6's programs and none of Paddle 3, which 2.1.0 reads; 2.1.0 does not start with Paddle 2.6.
    package = "paddle2onnx==1.3.1" if program.endswith(".pdmodel") else "'paddle2onnx>=2.1.0'"
    cure = f"For Paddle {paddle.__version__}: pip install {package}"
    try:
        import paddle2onnx
    except (ImportError, ValueError) as error:  # ValueError: it was built for another Paddle
        if sys.version_info >= (3, 13):
            python = "{}.{}".format(*sys.version_info)
            cure = f"Python {python} has no wheel of it: run this with Python 3.8 to 3.12; what it writes runs here"
        raise InputError(f"An ONNX model needs the converter paddle2onnx ({error}). {cure}.") from error
    try:
        # As bytes: to write the file itself, 2.1.0 lets Polygraphy pip-install what it lacks, and NumPy 2 with it.
        converted = paddle2onnx.export(program, params, opset_version=_OPSET, verbose=False)
    except SystemExit:  # its way to say no, after logging why
        converted = None
    if not converted:  # nothing is what it gives for a program it cannot read
        version = paddle2onnx.__version__
        raise InputError(f"paddle2onnx {version} cannot convert this network, it says why above. {cure}.")
    model = optional_library("onnx").load_from_string(converted)
    remove_unused(model.graph)
    return model.SerializeToString()


def remove_unused(graph: Any) -> None:
    """Remove the nodes and initializers of an ONNX graph that none of its outputs needs."""
    used = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):  # a node comes after those whose results it takes
        if used.intersection(node.output):
            used.update(node.input)
        else:
            graph.node.remove(node)
    for initializer in list(graph.initializer):
        if initializer.name not in used:
            graph.initializer.remove(initializer)


def check_only_normalization(transforms: list[dict[str, Any]], channels: int) -> None:
    """Refuse what `embed_normalization` cannot put into a model.

    Raises:
        InputError: the transforms are not `Normalize` alone, or the network takes no pictures in color.
    """
    others = [transform["type"] for transform in transforms if transform["type"] != "Normalize"]
    if others or channels != 3:
        why = f"the val_dataset has {', '.join(others)} as well" if others else f"the network takes {channels} channels"
        raise InputError(
            f"A model that takes pictures as they are normalizes them itself, and does nothing else: {why}. "
            "Leave --picture_onnx out, and prepare pictures as deploy.yaml says."
        )


def embed_normalization(model: bytes, transforms: list[dict[str, Any]], color: str) -> bytes:
    """The same ONNX model for pictures as they are: an input `picture`, uint8 `[N, H, W, 3]`.

    Each of a channel's 256 values becomes one number, which is looked up among what the transforms make of all 256: the
    network gets the same numbers, to the last bit, in every runtime. (OpenVINO multiplies where a model divides by a
    constant, and has no float64, in which PaddleSeg subtracts.)

    Args:
        model (bytes): of an input `[N, 3, H, W]` float32.
        transforms (list[dict]): `Normalize`, or nothing, see `check_only_normalization`.
        color (str): the order of the picture's channels, 'rgb' or 'bgr'.
    """
    onnx = optional_library("onnx")
    from onnx import TensorProto, helper, numpy_helper

    ramp = np.arange(256, dtype="uint8").reshape(256, 1, 1).repeat(3, axis=2)
    table = Preprocess(transforms)(ramp).image  # [3, 256, 1], of red, green and blue
    changed = onnx.load_from_string(model)
    graph = changed.graph
    (prepared,) = graph.input
    batch, _, height, width = (size.dim_param or size.dim_value or None for size in prepared.type.tensor_type.shape.dim)
    constants = {
        "picture.offsets": np.array([0, 256, 512], "int32").reshape(1, 3, 1, 1),  # of each channel's part of the table
        "picture.table": table.ravel(),
    }
    nodes = [helper.make_node("Transpose", ["picture"], ["picture.planes"], perm=[0, 3, 1, 2])]
    if color == "bgr":
        constants["picture.order"] = np.array([2, 1, 0], "int32")
        nodes.append(helper.make_node("Gather", ["picture.planes", "picture.order"], ["picture.rgb"], axis=1))
    nodes += [
        helper.make_node("Cast", nodes[-1].output, ["picture.values"], to=TensorProto.INT32),
        helper.make_node("Add", ["picture.values", "picture.offsets"], ["picture.places"]),
        helper.make_node("Gather", ["picture.table", "picture.places"], [prepared.name], axis=0),
    ]
    rest = list(graph.node)
    del graph.node[:], graph.input[:]
    graph.node.extend([*nodes, *rest])
    graph.input.append(helper.make_tensor_value_info("picture", TensorProto.UINT8, [batch, height, width, 3]))
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    helper.set_model_props(changed, {"picture": f"uint8 [N, H, W, 3], {color.upper()}"})
    return changed.SerializeToString()
