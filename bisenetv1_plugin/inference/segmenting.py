"""Pictures to masks and probabilities, one after the other: by an export in a runtime, or by a network in dygraph."""

from __future__ import annotations

import copy
import functools
import os
import shutil
import tempfile
import threading
import weakref
from collections import deque
from typing import Any, Callable, Iterable, Iterator, NamedTuple

import numpy as np
import paddle

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.engine import naming_memory
from bisenetv1_plugin.inference.exported import Export
from bisenetv1_plugin.inference.postprocess import logits_of, of_output, restore_logits
from bisenetv1_plugin.inference.preprocess import Preparation
from bisenetv1_plugin.inference.runtimes.select import select
from bisenetv1_plugin.inference.runtimes.table import RUNTIMES, Runtime
from bisenetv1_plugin.libraries import optional_library
from bisenetv1_plugin.training import dygraph


class Segmented(NamedTuple):
    """What became of one picture, all in its own size.

    Attributes:
        pixels: uint8 BGR `[H, W, 3]`.
        mask: uint8 `[H, W]`.
        scores: float32 `[classes, H, W]`, the probabilities; None where they were not asked for.
    """

    pixels: np.ndarray
    mask: np.ndarray
    scores: np.ndarray | None


class Exported:
    """An export in a runtime, for several threads.

    Args:
        export (Export): the exported model.
        backend, device, precision, cpu_threads: see `choice.select`.

    Attributes:
        name (str): of the runtime and its precision.

    Raises:
        InputError: no runtime can run it here.
    """

    def __init__(
        self, export: Export, backend: str, device: str | None, precision: str | None, cpu_threads: int
    ) -> None:
        chosen = select(export, backend, device, precision, cpu_threads)
        self.name = chosen.name
        self._export, self._runtime = export, chosen.runtime
        self._kind: Callable[..., Any] = type(chosen.runtime)
        self._options = {
            "device": device or "cpu",
            "cpu_threads": cpu_threads,
            "precision": precision or export.precision,
        }
        self._lock = threading.Lock()
        self._scoring: Runtime | None = None if export.output_op == "argmax" else chosen.runtime

    def segment(
        self, pictures: Iterable[tuple[str, np.ndarray]], scores: bool = False, many: bool = False
    ) -> Iterator[Segmented]:
        """The pictures in their order, as `infer` has them.

        Args:
            pictures (iterable): pairs (name, uint8 BGR `[H, W, 3]`).
            scores (bool): with the probabilities.
            many (bool): more than a few: a runtime that can works on several at a time.

        Raises:
            InputError: one does not fit the export, the memory does not suffice, or the scores cannot be had.
        """
        runtime = self._with_scores() if scores else self._runtime
        run: Callable[..., Iterable[np.ndarray]] = runtime.stream if many else functools.partial(map, runtime.run)
        begun: deque[tuple[np.ndarray, list[Any]]] = deque()

        def inputs() -> Iterator[np.ndarray]:
            for name, pixels in pictures:
                prepared = self._export.prepare(pixels)
                batch = prepared.image[np.newaxis].repeat(self._export.input_shape[0] or 1, axis=0)
                misfit = self._export.misfit(batch.shape)
                if misfit:
                    raise InputError(f"{name} does not fit: {misfit}.")
                begun.append((pixels, prepared.trans_info))
                yield batch

        with naming_memory():
            for output in run(inputs()):
                yield self._result(output[0], *begun.popleft(), scores)

    def _result(self, output: np.ndarray, pixels: np.ndarray, trans_info: list[Any], scores: bool) -> Segmented:
        output = logits_of(output, self._export.output_op)
        mask = of_output(output, trans_info)
        return Segmented(pixels, mask, _softmax(restore_logits(output, trans_info)) if scores else None)

    def _with_scores(self) -> Runtime:
        """The runtime that tells the probabilities; of an export with argmax, on its ONNX model cut before it."""
        with self._lock:
            if self._scoring is None:
                if self._kind is RUNTIMES["paddle"] or not self._export.onnx:
                    other = ", or run its ONNX model with backend='openvino'" if self._export.onnx else ""
                    raise InputError(
                        f"{self._export.path} ends in argmax, and {self.name} cannot tell the scores before it: export "
                        f"with `bisenetv1 export --output_op softmax`{other}."
                    )
                folder = tempfile.mkdtemp()
                weakref.finalize(self, shutil.rmtree, folder)  # OpenVINO reads the model again for many pictures
                twin = copy.copy(self._export)
                twin.onnx = os.path.join(folder, "model.onnx")
                twin.output_op = "none"
                _cut_argmax(self._export.onnx, twin.onnx)
                self._scoring = self._kind(twin, **self._options)
            return self._scoring


class Trained:
    """A network in dygraph, for several threads.

    Args:
        model (paddle.nn.Layer): in evaluation mode.
        prepare (Preparation): pixels to what the network takes.
        options (dict): of `prediction.segment`, such as a sliding window.
        cpu_threads (int): threads on the CPU.

    Attributes:
        name (str): 'dygraph fp32'.
    """

    name = "dygraph fp32"

    def __init__(
        self,
        model: paddle.nn.Layer,
        prepare: Preparation,
        options: dict[str, Any],
        cpu_threads: int,
    ) -> None:
        self._segment = lambda pixels: dygraph.segment(model, prepare, pixels, **options)
        self._cpu_threads = cpu_threads
        self._lock = threading.Lock()  # whether gradients are kept is one setting for all threads

    def segment(
        self, pictures: Iterable[tuple[str, np.ndarray]], scores: bool = False, many: bool = False
    ) -> Iterator[Segmented]:
        """The pictures in order, as `predict` has them. Arguments: see `Exported.segment`; `many` changes nothing.

        Raises:
            InputError: the network cannot take one, or the memory does not suffice.
        """
        for name, pixels in pictures:
            with self._lock:
                paddle.base.core.set_num_threads(self._cpu_threads)
                try:
                    mask, logits = self._segment(pixels)
                except InputError as error:
                    raise InputError(f"{name} does not fit: {error}") from error
                shares = _softmax(logits.numpy()[0]) if scores else None
            yield Segmented(pixels, mask, shares)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Of `[classes, H, W]`."""
    powers = np.exp(logits - logits.max(axis=0))
    return powers / powers.sum(axis=0)


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
