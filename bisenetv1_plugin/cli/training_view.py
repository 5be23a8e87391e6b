"""A training on the screen: its progress, and a line for each validation."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from bisenetv1_plugin.cli import progress, terminal
from bisenetv1_plugin.training.watch import Watcher

if TYPE_CHECKING:
    from paddleseg.cvlibs import Config


class TrainingView(Watcher):
    """Shows a bar on a terminal, which moves with every iteration.

    Elsewhere it prints a line after the first iteration, then a line a minute.
    """

    def __init__(self, what: str, save_dir: str) -> None:
        self._what, self._save_dir = what, save_dir
        self._bar: Any = None
        self._evaluation = EvaluationView("validate", leave=False)
        self._figures: dict[str, float] = {}
        self._best: tuple[float, int] | None = None  # mIoU and iteration

    def on_start(self, iteration: int, iters: int, best: tuple[float, int] | None = None) -> None:
        import paddle

        terminal.log_at_once()
        how = f"iterations {iteration + 1} to {iters}" if iteration else f"{iters} iterations"
        terminal.say(f"Training {self._what}: {how}, on {paddle.get_device()}")
        self._began, self._first, self._iteration = time.time(), iteration, iteration
        self._best = best
        self._bar = progress.bar(desc="train", unit="iteration", total=iters, initial=iteration, leave=False)

    def on_step(self) -> None:
        self._iteration += 1
        self._bar.update()
        if self._iteration == self._first + 1:
            self._bar.refresh()

    def on_scalar(self, tag: str, value: float, iteration: int) -> None:
        self._figures[tag] = value
        if tag == "Train/lr":  # PaddleSeg logs it after the loss
            self._bar.set_postfix(
                loss=f"{self._figures['Train/loss']:.4f}", lr=f"{value:.2e}", refresh=progress.is_live()
            )
            self._bar.update(iteration - self._bar.n)
        elif tag == "Evaluate/Acc":
            miou = self._figures["Evaluate/mIoU"]
            if self._best is None or miou > self._best[0]:
                self._best = miou, iteration
                rest = "the best so far"
            else:
                rest = f"best {self._best[0]:.4f} at {self._best[1]}"
            terminal.say(f"Validation at {iteration}: mIoU {miou:.4f}, Acc {value:.4f}; {rest}")
        elif tag == "Evaluate/Ema_Acc":
            terminal.say(f"  averaged weights: mIoU {self._figures['Evaluate/Ema_mIoU']:.4f}, Acc {value:.4f}")

    def on_evaluation_batch(self, done: int, total: int) -> None:
        self._evaluation.on_evaluation_batch(done, total)

    def close(self) -> None:
        """Remove the bars."""
        self._evaluation.close()
        if self._bar is not None:
            self._bar.close()

    def summary(self) -> None:
        """Print how the training ended, and where the weights are."""
        if self._bar is None:  # it was complete already
            return
        early = f", stopped early at {self._iteration}" if self._iteration < self._bar.total else ""
        minutes = (time.time() - self._began) / 60
        terminal.say(f"Trained {self._iteration - self._first} iterations in {minutes:.1f} minutes{early}.")
        if self._best:
            where = os.path.join(self._save_dir, "best_model", "model.pdparams")
            terminal.say(f"The best weights, mIoU {self._best[0]:.4f} at {self._best[1]}, are in {where}")
        else:
            terminal.say(f"The last weights are in {os.path.join(self._save_dir, f'iter_{self._iteration}')}")


def train(cfg: Config, save_dir: str, **options: Any) -> None:
    """Run `training.train` with a `TrainingView`."""
    from bisenetv1_plugin.training import train

    model = cfg.dic["model"]
    backbone = model.get("backbone", {}).get("type")
    what = model["type"] + f" with {backbone}" * bool(backbone) + f", batch {cfg.batch_size}"
    view = TrainingView(what, save_dir) if terminal.is_quiet() else None
    try:
        with terminal.quiet():
            train.train(cfg, save_dir, watcher=view, **options)
    finally:
        if view:
            view.close()
    if view:
        view.summary()


class EvaluationView(Watcher):
    """Shows a bar for each evaluation; `leave`: whether it stays on the screen."""

    def __init__(self, desc: str, leave: bool = True) -> None:
        self._desc, self._leave = desc, leave
        self._bar: Any = None

    def on_evaluation_batch(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = progress.bar(desc=self._desc, unit="image", total=total, leave=self._leave)
        self._bar.update(done - self._bar.n)
        if done == total:
            self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
