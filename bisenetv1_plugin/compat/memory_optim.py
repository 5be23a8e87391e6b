"""Paddle Inference 3: `enable_memory_optim` needs the new executor for a .json program, but does not enable it."""

from __future__ import annotations

import functools
import logging
from typing import Any

import paddle
from paddle.inference import Config

logger = logging.getLogger(__name__)

DEFECT = (
    "Paddle Inference 3 cannot load a .json program after enable_memory_optim(), which PaddleSeg's infer.py calls "
    "(Not find predictor_id 0 and pass_name memory_optimize_pass)."
)


def needed() -> bool:
    return paddle.framework.use_pir_api()


def apply() -> None:
    original = Config.enable_memory_optim

    # Replace it in the class, not in the module: infer.py imports the class before it imports paddleseg.
    @functools.wraps(original)
    def enable_memory_optim(self: Config, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self.prog_file().endswith(".json"):
            self.enable_new_executor()
            logger.info(
                "bisenetv1-plugin enables the new executor, which memory optimization of a .json program needs."
            )

    Config.enable_memory_optim = enable_memory_optim  # type: ignore[method-assign]
