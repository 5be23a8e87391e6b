"""PaddleSeg's `train` accepts batches that are too small.

With fewer images than one batch it waits forever. With one image per batch, a BatchNorm after a global average has one
value per channel. Paddle skips it in training and applies it in evaluation. This spoils trained weights, which have
BatchNorm statistics. From scratch the BatchNorm keeps its initial statistics, and does nothing in evaluation either.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import Iterator

import paddle
from paddle import nn

from bisenetv1_plugin.compat import core_train
from bisenetv1_plugin.errors import InputError

logger = logging.getLogger(__name__)

DEFECT = (
    "PaddleSeg's train waits forever when it has fewer images than one batch; and with batch_size 1 Paddle's "
    "BatchNorm over one value does nothing in training, and normalizes in evaluation."
)

_BATCH_NORMS = (nn.BatchNorm, nn.BatchNorm1D, nn.BatchNorm2D, nn.SyncBatchNorm)


def needed() -> bool:
    """Whether `train` still uses the sampler that drops a partial last batch."""
    return "DistributedBatchSampler" in core_train.names()


def apply() -> None:
    core_train.add_guard(_check_batches)


@contextmanager
def _check_batches(call: core_train.Call) -> Iterator[None]:
    check_images(len(call.arguments["train_dataset"]), call.arguments["batch_size"])
    check_batch_norms(*(call.arguments[name] for name in ("model", "batch_size", "resume_model")))
    yield


def check_images(images: int, batch_size: int) -> None:
    """Check that there are enough images for one batch in each process.

    Raises:
        InputError: there are not.
    """
    processes = paddle.distributed.ParallelEnv().nranks
    if -(-images // processes) >= batch_size:  # Paddle repeats images to give each process the same number
        return
    if processes == 1:
        raise InputError(
            f"train_dataset has {images} images, fewer than one batch of {batch_size}: "
            "lower batch_size or give --repeats."
        )
    raise InputError(
        f"train_dataset has {images} images, too few for a batch of {batch_size} in each of {processes} processes: "
        "lower batch_size, start fewer processes or give --repeats."
    )


def check_batch_norms(model: nn.Layer, batch_size: int, checkpoint: str | None = None) -> None:
    """Warn of BatchNorms over one value, or raise if they have trained statistics.

    Args:
        model: the network.
        batch_size: images per batch on this device.
        checkpoint: the folder with the weights to start from. Default: the weights of `model`.

    Raises:
        InputError: the training would spoil the weights.
    """
    several = paddle.distributed.ParallelEnv().nranks > 1
    # A SyncBatchNorm uses the values of all devices.
    names = [name for name, layer in over_pooled(model) if not (several and isinstance(layer, nn.SyncBatchNorm))]
    if batch_size > 1 or not names:
        return
    path = checkpoint and os.path.join(checkpoint, "model.pdparams")
    state = paddle.load(path) if path and os.path.isfile(path) else model.state_dict()
    trained = [name for name in names if _has_statistics(state, name)]
    if trained:
        raise InputError(
            f"batch_size 1 on each device would spoil the weights that this training starts with: Paddle skips a "
            f"BatchNorm over one value in training and applies it in evaluation (such as {trained[0]}). Give "
            "batch_size 2 or more, or train on several GPUs, which compute their BatchNorms together."
        )
    logger.warning(
        f"batch_size 1 on each device: Paddle skips {len(names)} BatchNorms over pooled features in this training "
        f"(such as {names[0]}). batch_size 2 or more trains them."
    )


def over_pooled(model: nn.Layer) -> list[tuple[str, nn.Layer]]:
    """The names and layers of the BatchNorms after a global average in a `Sequential`."""
    found = {}
    for prefix, sequence in model.named_sublayers():
        if not isinstance(sequence, nn.Sequential):
            continue
        is_pooled = False
        for name, child in sequence.named_children():
            is_pooled |= isinstance(child, nn.AdaptiveAvgPool2D) and child._output_size in (1, (1, 1), [1, 1])
            for inner, layer in child.named_sublayers(include_self=True) if is_pooled else ():
                if isinstance(layer, _BATCH_NORMS):
                    found[".".join(filter(None, (prefix, name, inner)))] = layer
    return list(found.items())


def _has_statistics(state: dict[str, paddle.Tensor], name: str) -> bool:
    mean, variance = state.get(f"{name}._mean"), state.get(f"{name}._variance")
    return mean is not None and variance is not None and bool((mean != 0).any() or (variance != 1).any())
