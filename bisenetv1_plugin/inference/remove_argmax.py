"""Get the logits of an export that ends in argmax, by removing the ArgMax from its ONNX model."""

from __future__ import annotations

import os
import tempfile

from bisenetv1_plugin import files
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.exported_model import Export
from bisenetv1_plugin.inference.runtimes import Runtime
from bisenetv1_plugin.inference.runtimes.select import Choice
from bisenetv1_plugin.libraries import optional_library


def with_logits(export: Export, choice: Choice) -> tuple[Export, Runtime]:
    """An export that returns logits or probabilities, and a runtime of the chosen kind for it.

    If the export ends in argmax, a model without it is written to a temporary folder and removed after use.

    Args:
        export: the export.
        choice: the runtime that runs it.

    Raises:
        InputError: this runtime cannot return logits; the message says which one can.
    """
    if export.output_op != "argmax":
        return export, choice.runtime
    if not can_give_logits(export, choice.name):
        if export.quantized:
            raise InputError(
                f"{export.path} is in int8 and ends in argmax, and {choice.name} cannot return the logits before it: "
                "take the export in fp32, or quantize with `bisenetv1 quantize --to onnx`."
            )
        other = ", or run its ONNX model in OpenVINO or ONNX Runtime" if export.onnx else ""
        raise InputError(
            f"{export.path} ends in argmax, and {choice.name} cannot return the logits before it: export with "
            f"`bisenetv1 export --output_op softmax`{other}."
        )
    twin = _WithoutArgmax(export)
    return twin, choice.make(twin)


def can_give_logits(export: Export, runtime: str) -> bool:
    """Whether a runtime, by the name of a `Choice`, can return logits of the export."""
    runs_another = runtime.startswith("paddle") or (runtime.startswith("openvino") and export.openvino)
    return export.output_op != "argmax" or bool(export.onnx and not runs_another)


class _WithoutArgmax(Export):
    """The same export without its ArgMax, in a temporary folder of this object."""

    def __init__(self, export: Export) -> None:
        vars(self).update(vars(export))
        self._written = tempfile.TemporaryDirectory()
        self.onnx = os.path.join(self._written.name, "model.onnx")
        self.output_op = "none"
        _cut_argmax(export.onnx_model(), self.onnx)


def _cut_argmax(source: str, target: str) -> None:
    """Write the ONNX model without its last ArgMax.

    Raises:
        InputError: the model has no ArgMax.
        OSError: the file cannot be written.
    """
    onnx = optional_library("onnx")
    model = onnx.load(source)
    makers = {output: node for node in model.graph.node for output in node.output}
    name = model.graph.output[0].name
    while name in makers and makers[name].op_type != "ArgMax":
        name = next(iter(makers[name].input), "")
    if name not in makers:
        raise InputError(f"{source} has no ArgMax at its end, so its logits cannot be found: export it again.")
    logits = makers[name].input[0]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, None))
    files.write(target, model.SerializeToString())  # its errors name the file
