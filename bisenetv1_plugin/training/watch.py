"""Callbacks for PaddleSeg's `train` and `evaluate`.

Neither function has hooks. But both look up a few names in their modules at every iteration, and `train` sends all
metrics to a `LogWriter`. These names are replaced for the duration of a call. PaddleSeg 2.8, 2.9 and develop use the
same names.
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
    """Callbacks during a training or an evaluation. The base class ignores all of them."""

    def on_start(self, iteration: int, iters: int, best: tuple[float, int] | None = None) -> None:
        """A training starts after `iteration`, up to `iters`. `best` is the best mIoU so far and its iteration."""

    def on_step(self) -> None:
        """An iteration is done."""

    def on_scalar(self, tag: str, value: Any, iteration: int) -> None:
        """A metric was logged. `tag` is its name: Train/loss, Train/lr, Evaluate/mIoU, Evaluate/Acc, ..."""

    def on_evaluation_batch(self, done: int, total: int) -> None:
        """`done` of the `total` batches of an evaluation are done."""


@contextmanager
def training(watcher: Watcher | None, use_vdl: bool, tensorboard: bool) -> Iterator[bool]:
    """Call the watcher during one call of `train`. Yields the value to pass to `train` as `use_vdl`.

    Args:
        watcher: its `on_step`, `on_scalar` and `on_evaluation_batch` are called.
        use_vdl: record curves for VisualDL.
        tensorboard: record curves for TensorBoard.
    """
    if watcher is None and not tensorboard:
        yield use_vdl
        return
    on_step = (watcher or Watcher()).on_step
    if use_vdl:
        from visualdl import LogWriter  # before the name is replaced below

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
    """Check that TensorBoard is installed.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("--tensorboard needs the package tensorboard: pip install tensorboard.")


class _Writers:
    """Replaces VisualDL's `LogWriter`, and passes each metric on to several writers and the watcher."""

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
    """Flushes after every metric, so that a killed training keeps its curves."""

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
    """PaddleSeg's metrics, 0..1 each.

    Attributes:
        images: the number of evaluated images.
        miou, acc, kappa, dice: over all classes.
        class_iou, class_precision, class_recall: one value per class.
        auc_roc: the area under the ROC curve, NaN if the labels lack a class. None if it was not requested.
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
    """Run PaddleSeg's `evaluate` and return the metrics that it only logs.

    Args:
        model: the network.
        dataset: images and labels.
        watcher: its `on_evaluation_batch` is called.
        on_mask: called with each scored mask and its label, in the order of the data. Both are integers, `[1, H, W]`
            or `[1, 1, H, W]`.
        **options: arguments of PaddleSeg's `evaluate`.

    Raises:
        InputError: `auc_roc` was requested, and the labels differ in size.
    """
    metrics = _Metrics(val.metrics, dataset.ignore_index, on_mask)
    with patch(vars(val), "metrics", metrics), _progress(watcher):
        try:
            val.evaluate(model, dataset, **options)
        except ValueError as error:
            if not options.get("auc_roc") or "array dimensions" not in str(error):
                raise
            raise InputError("the area under the ROC curve needs labels of one size: omit --auc_roc.") from error
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
        """PaddleSeg's `auc_roc`, without the ignored pixels. It would raise for them, or count them as a class."""
        kept = label[:, 0] != self._ignore_index
        logits, label = logits.transpose(0, 2, 3, 1)[kept].T[None, :, None], label[:, 0][kept][None, None, None]
        why = "the labels have pixels of a single class"
        try:
            area = self._metrics.auc_roc(logits, label, **keywords)
        except (RuntimeError, ValueError) as error:  # scikit-learn needs pixels of every class
            area, why = float("nan"), brief(error)
        if np.isnan(area):
            logger.warning(f"the area under the ROC curve is undefined: {why}")
        self.results["auc_roc"] = area
        return area


@contextmanager
def _progress(watcher: Watcher | None) -> Iterator[None]:
    """Call the watcher instead of PaddleSeg's progress bar during evaluations."""
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
