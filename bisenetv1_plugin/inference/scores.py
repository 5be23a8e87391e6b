"""The probabilities behind an export that ends in argmax, by its ONNX model without its end."""

from __future__ import annotations

import copy
import os

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.engine import Engine
from bisenetv1_plugin.inference.exported import Export
from bisenetv1_plugin.inference.runtimes.select import Choice
from bisenetv1_plugin.libraries import optional_library


def scoring_engine(export: Export, choice: Choice, folder: str) -> Engine:
    """An engine that can tell the probabilities.

    Args:
        export (Export): what is run.
        choice (Choice): the runtime that runs it.
        folder (str): a model is written there, and must stay there as long as the engine is used.

    Raises:
        InputError: this runtime cannot; the message says what can.
    """
    if export.output_op != "argmax":
        return Engine(export, choice.runtime)
    if choice.name.startswith("paddle") or not export.onnx:
        other = ", or run its ONNX model with backend='openvino'" if export.onnx else ""
        raise InputError(
            f"{export.path} ends in argmax, and {choice.name} cannot tell the scores before it: export with "
            f"`bisenetv1 export --output_op softmax`{other}."
        )
    twin = copy.copy(export)
    twin.onnx = os.path.join(folder, "model.onnx")
    twin.output_op = "none"
    _cut_argmax(export.onnx, twin.onnx)
    return Engine(twin, choice.make(twin))


def _cut_argmax(source: str, target: str) -> None:
    """Write the ONNX model that gives what the last ArgMax of another takes."""
    onnx = optional_library("onnx")
    model = onnx.load(source)
    makers = {output: node for node in model.graph.node for output in node.output}
    name = model.graph.output[0].name
    while makers[name].op_type != "ArgMax":
        name = makers[name].input[0]
    logits = makers[name].input[0]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, None))
    onnx.save(model, target)
