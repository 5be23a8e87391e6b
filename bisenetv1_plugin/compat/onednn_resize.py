"""Paddle Inference 3 on the CPU resizes wrongly with oneDNN, which is on by default, or raises.

Measured: Paddle 3.0 and 3.2 ignore `align_corners` (1.6 % of a CamVid mask differ), 3.3 raises
`ConvertPirAttribute2RuntimeAttribute not support [pir::ArrayAttribute<pir::DoubleAttribute>]` (Paddle#77340). For
programs with such an operator, the pass that moves single operators to oneDNN is deleted. Convolutions reach oneDNN
through other passes, so most of its speed stays.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import os
import tempfile
from typing import Any, Callable, Iterator

import numpy as np
import paddle
from paddle.inference import Config, create_predictor

logger = logging.getLogger(__name__)

DEFECT = "Paddle Inference 3 on the CPU resizes wrongly, or raises, if oneDNN is on (Paddle#77340)."

_PASS = "onednn_placement_pass"
_METHODS = {"1.bilinear_interp": "bilinear", "1.nearest_interp": "nearest"}


def needed() -> bool:
    """Whether this is Paddle 3; 2.6 resizes correctly. Each kind of resizing is tested when a program is read."""
    return paddle.framework.use_pir_api()


def apply() -> None:
    for name in ("__init__", "set_model"):
        setattr(Config, name, _wrap(getattr(Config, name)))


def _wrap(method: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(method)
    def corrected(self: Config, *args: Any, **kwargs: Any) -> None:
        method(self, *args, **kwargs)
        if any(not is_right(*kind) for kind in kinds(self.prog_file())):
            self.delete_pass(_PASS)
            logger.info(f"bisenetv1-plugin deletes {_PASS}: with it, oneDNN resizes wrongly or fails here.")

    return corrected


def kinds(program: str) -> set[tuple[str, bool, int]]:
    """The kinds of resizing in a Paddle 3 program, each (mode, align_corners, align_mode)."""
    if not (program.endswith(".json") and os.path.isfile(program)):
        return set()
    with open(program, encoding="utf-8") as file:
        text = file.read()
    if not any(name in text for name in _METHODS):
        return set()
    return {
        (_METHODS[operator["#"]], *(attributes[name] for name in ("align_corners", "align_mode")))
        for operator in _operators(json.loads(text))
        for attributes in [{a["N"]: a["AT"].get("D") for a in operator["A"]}]
    }


def _operators(node: object) -> Iterator[dict[str, Any]]:
    """Every resizing operator, wherever the program nests it."""
    if isinstance(node, list):
        return itertools.chain.from_iterable(map(_operators, node))
    if isinstance(node, dict):
        if node.get("#") in _METHODS:
            return iter([node])
        return itertools.chain.from_iterable(map(_operators, node.values()))
    return iter(())


class _Resize(paddle.nn.Layer):
    """A resize, and a multiplication by one, because Paddle 3.0 cannot read a program without parameters."""

    def __init__(self, **kind: Any) -> None:
        super().__init__()
        self.kind = kind
        self.one = self.create_parameter([1], default_initializer=paddle.nn.initializer.Constant(1.0))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return paddle.nn.functional.interpolate(x * self.one, size=[5, 7], **self.kind)


@functools.lru_cache(maxsize=None)
def is_right(mode: str, align_corners: bool, align_mode: int) -> bool:
    """Whether oneDNN resizes a few pixels in the same way as Paddle."""
    image = np.arange(12, dtype="float32").reshape(1, 1, 3, 4)
    dynamic = paddle.in_dynamic_mode()
    paddle.disable_static()
    try:
        resize = _Resize(mode=mode, align_corners=align_corners, align_mode=align_mode)
        expected = resize(paddle.to_tensor(image)).numpy()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "resize")
            paddle.jit.save(resize, path, input_spec=[paddle.static.InputSpec(image.shape, "float32")])
            return np.allclose(_with_onednn(path, image), expected, atol=1e-4)
    except NotImplementedError:
        return False
    finally:
        if not dynamic:
            paddle.enable_static()


def _with_onednn(path: str, image: np.ndarray) -> np.ndarray:
    config = Config()
    config.set_prog_file(path + ".json")
    config.set_params_file(path + ".pdiparams")
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_mkldnn()
    predictor = create_predictor(config)
    predictor.get_input_handle(predictor.get_input_names()[0]).copy_from_cpu(image)
    predictor.run()
    return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
