"""What happens inside PaddleSeg's `train` and `evaluate`, for somebody who watches.

Neither has hooks. But every round asks a few names of their modules, and `train` its writer of curves for all figures;
other objects stand there while a call lasts. The same in PaddleSeg 2.8, 2.9 and develop.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Callable, Iterator, Sequence

import numpy as np
import paddle
from paddleseg.core import val

from bisenetv1_plugin import files
from bisenetv1_plugin.compat import core_train
from bisenetv1_plugin.compat.core_train import patch
from bisenetv1_plugin.errors import InputError, brief

logger = logging.getLogger(__name__)


class Watcher:
    """Is told what happens; all of it does nothing here."""

    def on_start(self, iteration: int, iters: int, best: tuple[float, int] | None = None) -> None:
        """A training goes on from `iteration`, up to `iters`; `best` is the best mIoU until then and its iteration."""

    def on_step(self) -> None:
        """An iteration was done."""

    def on_scalar(self, tag: str, value: Any, iteration: int) -> None:
        """A figure, under its name among the curves: Train/loss, Train/lr, Evaluate/mIoU, Evaluate/Acc, ..."""

    def on_evaluation_batch(self, done: int, total: int) -> None:
        """So many batches of an evaluation are done."""


@contextmanager
def training(watcher: Watcher | None, use_vdl: bool, tensorboard: bool) -> Iterator[bool]:
    """One call of `train`; yields its `use_vdl`.

    Args:
        watcher (Watcher, optional): who watches.
        use_vdl, tensorboard (bool): whether they are recorded by VisualDL and by TensorBoard.
    """
    if watcher is None and not tensorboard:
        yield use_vdl
        return
    on_step = (watcher or Watcher()).on_step
    if use_vdl:
        from visualdl import LogWriter  # before another stands under its name

    def add_profiler_step(options: Any) -> None:
        profiler.add_profiler_step(options)
        on_step()

    def log_writer(folder: str) -> _Writers:
        writers = [LogWriter(folder)] if use_vdl else []
        return _Writers(watcher, [*writers, _TensorBoard(folder)] if tensorboard else writers)

    module = core_train.module()
    profiler = module.train_profiler
    with patch(vars(module), "train_profiler", SimpleNamespace(add_profiler_step=add_profiler_step)), patch(
        sys.modules, "visualdl", SimpleNamespace(LogWriter=log_writer)
    ), _progress(watcher):
        yield True


def check_tensorboard() -> None:
    """
    Raises:
        InputError: TensorBoard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("--tensorboard needs the package tensorboard: pip install tensorboard.")


class _Writers:
    """In place of VisualDL's LogWriter."""

    def __init__(self, watcher: Watcher | None, writers: Sequence[Any]) -> None:
        self._watcher, self._writers = watcher, writers

    def add_scalar(self, tag: str, value: Any, step: int) -> None:
        for writer in self._writers:
            writer.add_scalar(tag, value, step)
        if self._watcher:
            self._watcher.on_scalar(tag, float(value), step)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


class _TensorBoard:
    """Every figure is in the file when the call returns: a training that is killed keeps its curves."""

    def __init__(self, folder: str) -> None:
        from tensorboard.summary import Writer

        self._folder = folder
        with files.name_in_errors(folder, folder):
            self._writer = Writer(folder)

    def add_scalar(self, tag: str, value: Any, step: int) -> None:
        with files.name_in_errors(self._folder, self._folder):
            self._writer.add_scalar(tag, float(value), step)
            self._writer.flush()

    def close(self) -> None:
        with files.name_in_errors(self._folder, self._folder):
            self._writer.close()


@dataclass
class Evaluation:
    """PaddleSeg's figures, 0..1 each.

    Attributes:
        images: how many were evaluated.
        miou, acc, kappa, dice: over all classes.
        class_iou, class_precision, class_recall: of each class.
        auc_roc: the area under the ROC curve, where it was asked for; NaN where the labels lack a class.
    """

    images: int
    miou: float
    acc: float
    kappa: float
    dice: float
    class_iou: list[float] = field(default_factory=list)
    class_precision: list[float] = field(default_factory=list)
    class_recall: list[float] = field(default_factory=list)
    auc_roc: float | None = None


MaskCallback = Callable[[np.ndarray, np.ndarray], None]


def evaluate(
    model: paddle.nn.Layer,
    dataset: Any,
    watcher: Watcher | None = None,
    on_mask: MaskCallback | None = None,
    **options: Any,
) -> Evaluation:
    """PaddleSeg's `evaluate`, with all that it computes and only logs.

    Args:
        model (paddle.nn.Layer): the network.
        dataset (paddle.io.Dataset): gives images and labels.
        watcher (Watcher, optional): who watches.
        on_mask (callable, optional): is called with each mask that is scored and its label, in the order of the data,
            integers `[1, H, W]` or `[1, 1, H, W]`.
        **options: of PaddleSeg's.

    Returns:
        Evaluation: the figures.

    Raises:
        InputError: `auc_roc` was asked for, and the labels have several sizes.
    """
    metrics = _Metrics(val.metrics, dataset.ignore_index, on_mask)
    with patch(vars(val), "metrics", metrics), _progress(watcher):
        try:
            val.evaluate(model, dataset, **options)
        except ValueError as error:
            if not options.get("auc_roc") or "array dimensions" not in str(error):
                raise
            raise InputError("the area under the ROC curve needs labels of one size: leave --auc_roc out.") from error
    results = metrics.results
    acc, class_precision, class_recall = results["class_measurement"]
    return Evaluation(
        len(dataset),
        float(results["mean_iou"][1]),
        float(acc),
        float(results["kappa"]),
        float(results["dice"][1]),
        [float(value) for value in results["mean_iou"][0]],
        [float(value) for value in class_precision],
        [float(value) for value in class_recall],
        auc_roc=float(results["auc_roc"]) if "auc_roc" in results else None,
    )


class _Metrics:
    """PaddleSeg's metrics, which also keep the last result of each function in `results`, by name."""

    def __init__(self, metrics: Any, ignore_index: int, on_mask: MaskCallback | None) -> None:
        self._metrics, self._ignore_index, self._on_mask = metrics, ignore_index, on_mask
        self.results: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._metrics, name)

        def recorded(*arguments: Any, **keywords: Any) -> Any:
            self.results[name] = function(*arguments, **keywords)
            return self.results[name]

        return recorded

    def calculate_area(self, pred: paddle.Tensor, label: paddle.Tensor, *arguments: Any, **keywords: Any) -> Any:
        areas = self._metrics.calculate_area(pred, label, *arguments, **keywords)
        if self._on_mask:
            self._on_mask(pred.numpy(), label.numpy())
        return areas

    def auc_roc(self, logits: np.ndarray, label: np.ndarray, **keywords: Any) -> float:
        """Without the ignored pixels, which PaddleSeg's refuses, or takes for a class where another is absent."""
        kept = label[:, 0] != self._ignore_index
        logits, label = logits.transpose(0, 2, 3, 1)[kept].T[None, :, None], label[:, 0][kept][None, None, None]
        why = "the labels have pixels of one class alone"
        try:
            area = self._metrics.auc_roc(logits, label, **keywords)
        except (RuntimeError, ValueError) as error:  # of scikit-learn, which needs pixels of every class
            area, why = float("nan"), brief(error)
        if np.isnan(area):
            logger.warning(f"there is no area under the ROC curve: {why}")
        self.results["auc_roc"] = area
        return area


@contextmanager
def _progress(watcher: Watcher | None) -> Iterator[None]:
    """A watcher in place of PaddleSeg's bar of an evaluation."""
    if watcher is None:
        yield
        return
    on_batch = watcher.on_evaluation_batch

    class Progbar:
        def __init__(self, target: int, **_: Any) -> None:
            self._total = target

        def update(self, current: int, *_: Any) -> None:
            on_batch(current, self._total)

    with patch(vars(val), "progbar", SimpleNamespace(Progbar=Progbar)):
        yield
