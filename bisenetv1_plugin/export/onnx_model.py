"""Convert Paddle programs to ONNX, optionally with the normalization inside the model."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from contextlib import contextmanager, redirect_stdout
from typing import Any, Iterator, TextIO

import numpy as np
import paddle

from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.inference.preprocess import Preprocess
from bisenetv1_plugin.libraries import optional_library

_REASON_LINES = 3  # of what a failed converter has printed
_OPSET = 13  # supports all operators of the network; ONNX Runtime and OpenVINO have read it for years


def convert(program: str, params: str) -> bytes:
    """Convert a static program to ONNX, without unused constants.

    ONNX Runtime warns about each unused constant in every session.

    Args:
        program, params: paths of Paddle's files.

    Raises:
        InputError: there is no converter for this Paddle, or it fails.
    """
    # 1.3.1 reads programs of Paddle 2.6 but not of Paddle 3. 2.1.0 reads Paddle 3's, and cannot be imported with 2.6.
    package = "paddle2onnx==1.3.1" if program.endswith(".pdmodel") else "'paddle2onnx>=2.1.0'"
    cure = f"For Paddle {paddle.__version__}: pip install {package}"
    try:
        import paddle2onnx
    except (ImportError, ValueError) as error:  # ValueError: it was built for another Paddle version
        if sys.version_info >= (3, 13):
            python = "{}.{}".format(*sys.version_info)
            cure = f"There is no wheel for Python {python}: export with Python 3.8 to 3.12; the result runs here too"
        raise InputError(f"An ONNX model needs the converter paddle2onnx ({error}). {cure}.") from error
    with _capture_stdout(os.path.dirname(program)) as printed:
        try:
            # As bytes: when it writes the file, 2.1.0 lets Polygraphy pip-install missing packages, and NumPy 2 too.
            converted = paddle2onnx.export(program, params, opset_version=_OPSET, verbose=False)
        except SystemExit:  # how it fails, after it has printed the reason
            converted = None
        reason = "" if converted else _last_lines(printed)
    if not converted:  # empty for a program that it cannot read
        raise InputError(f"paddle2onnx {paddle2onnx.__version__} cannot convert this network{reason}. {cure}.")
    model = optional_library("onnx").load_from_string(converted)
    remove_unused(model.graph)
    return model.SerializeToString()


@contextmanager
def _capture_stdout(folder: str) -> Iterator[TextIO]:
    """A block whose standard output, also from C++, goes into a temporary file, which is yielded.

    If C++ crashes in the block, as by SIGSEGV, the text is lost.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace", dir=folder) as file:
        try:
            kept = os.dup(1)
        except OSError:  # it is closed
            kept = None
        os.dup2(file.fileno(), 1)
        try:
            with redirect_stdout(file):
                yield file
        finally:
            if kept is None:
                os.close(1)
            else:
                os.dup2(kept, 1)
                os.close(kept)


def _last_lines(file: TextIO) -> str:
    """The end of an error message: the last lines of the file, without colors."""
    file.flush()
    file.seek(0)
    printed = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", file.read()).splitlines() if line.strip()]
    return f": {' '.join(map(brief, printed[-_REASON_LINES:])).rstrip('.')}" if printed else ""


def remove_unused(graph: Any) -> None:
    """Remove the nodes and initializers of an ONNX graph that no output needs."""
    used = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):  # a node comes after the nodes of its inputs
        if used.intersection(node.output):
            used.update(node.input)
        else:
            graph.node.remove(node)
    for initializer in list(graph.initializer):
        if initializer.name not in used:
            graph.initializer.remove(initializer)


def check_only_normalization(transforms: list[dict[str, Any]], channels: int) -> None:
    """Check that `embed_normalization` can put the transforms into a model.

    Raises:
        InputError: there are transforms other than `Normalize`, or the network does not take color images.
    """
    others = [transform["type"] for transform in transforms if transform["type"] != "Normalize"]
    if others or channels != 3:
        why = f"the val_dataset also has {', '.join(others)}" if others else f"the network takes {channels} channels"
        raise InputError(
            f"A model with --picture_onnx can only normalize images: {why}. "
            "Omit --picture_onnx, and transform images as in deploy.yaml."
        )


def embed_normalization(model: bytes, transforms: list[dict[str, Any]], color: str) -> bytes:
    """Return the same ONNX model with the normalization inside. Its input is `picture`, uint8 `[N, H, W, 3]`.

    The normalization is a lookup table of the 256 values of each channel. In every runtime the network gets exactly the
    same numbers as from the transforms. Arithmetic would differ: OpenVINO replaces division by a constant with
    multiplication, and has no float64, which PaddleSeg uses to subtract.

    Args:
        model: a model with an input `[N, 3, H, W]` float32.
        transforms: `Normalize` or nothing, see `check_only_normalization`.
        color: order of the input's channels, 'rgb' or 'bgr'.
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
        "picture.offsets": np.array([0, 256, 512], "int32").reshape(1, 3, 1, 1),  # start of each channel in the table
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
