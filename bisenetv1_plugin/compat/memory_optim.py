"""`enable_memory_optim` in Paddle Inference 3: it needs the new executor for a .json program, and leaves it off."""

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

    # Of the class, not of the module: infer.py has bound the names of paddle.inference before it imports paddleseg.
    @functools.wraps(original)
    def enable_memory_optim(self: Config, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self.prog_file().endswith(".json"):
            self.enable_new_executor()
            logger.info(
                "bisenetv1-plugin switches the new executor on, which memory optimization of a .json program needs."
            )

    Config.enable_memory_optim = enable_memory_optim  # type: ignore[method-assign]
