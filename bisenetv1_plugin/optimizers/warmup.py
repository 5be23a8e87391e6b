"""SGD with momentum and an exponential warm-up of the learning rate.

It is an optimizer because PaddleSeg has no registry of schedules. `lr_scheduler` names a class of Paddle, and
`warmup_iters` wraps it in Paddle's `LinearWarmup`. The optimizer receives that, and replaces it.
"""

from __future__ import annotations

from typing import Any

import paddle
from paddle.optimizer.lr import LinearWarmup
from paddleseg.optimizers import Momentum

from bisenetv1_plugin.errors import InputError

__all__ = ["MomentumExpWarmup"]


class ExponentialWarmup(LinearWarmup):
    """`start_lr * (end_lr / start_lr) ** (iteration / warmup_steps)`, and the schedule after `warmup_steps`."""

    def get_lr(self) -> float:
        if self.last_epoch < self.warmup_steps:
            return self.start_lr * (self.end_lr / self.start_lr) ** (self.last_epoch / self.warmup_steps)
        return super().get_lr()


class MomentumExpWarmup(Momentum):
    """PaddleSeg's `Momentum`, with the warm-up of CoinCheung/BiSeNet and face-parsing.PyTorch.

    The rate grows by a constant factor per iteration, from `warmup_start_lr` to `learning_rate` in `warmup_iters`
    iterations. The arguments are those of `Momentum`.

    Raises:
        InputError: `lr_scheduler` has no warm-up, or one that starts at 0.
    """

    def __call__(self, model: paddle.nn.Layer, lr: Any) -> paddle.optimizer.Optimizer:
        if not isinstance(lr, LinearWarmup) or not lr.start_lr > 0:
            raise InputError(
                "optimizer.type MomentumExpWarmup warms up exponentially: give lr_scheduler warmup_iters and a "
                "warmup_start_lr above 0, or choose type: SGD, which has a linear warm-up."
            )
        return super().__call__(model, ExponentialWarmup(lr.learning_rate, lr.warmup_steps, lr.start_lr, lr.end_lr))
