"""Batches that a training cannot be right with, and PaddleSeg's `train` runs all the same.

With fewer images than one step takes it waits for ever. With one image a step the BatchNorms behind a global average
have one value for each channel. Paddle leaves them out in training and applies them in evaluation. Trained weights,
whose BatchNorms have statistics, so become something else; from the beginning on such a BatchNorm keeps its first
statistics, and does nothing in evaluation either.
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
    "PaddleSeg's train waits for ever when it has fewer images than one step takes; and with batch_size 1 Paddle's "
    "BatchNorm over one value does nothing in training, and normalizes in evaluation."
)

_BATCH_NORMS = (nn.BatchNorm, nn.BatchNorm1D, nn.BatchNorm2D, nn.SyncBatchNorm)


def needed() -> bool:
    """As long as `train` omits a last batch that is not full: with it there would be something to train on."""
    return "DistributedBatchSampler" in core_train.names()


def apply() -> None:
    core_train.add_guard(_check_batches)


@contextmanager
def _check_batches(call: core_train.Call) -> Iterator[None]:
    check_images(len(call.arguments["train_dataset"]), call.arguments["batch_size"])
    check_batch_norms(*(call.arguments[name] for name in ("model", "batch_size", "resume_model")))
    yield


def check_images(images: int, batch_size: int) -> None:
    """
    Raises:
        InputError: they are fewer than one step takes, of all processes.
    """
    processes = paddle.distributed.ParallelEnv().nranks
    if -(-images // processes) >= batch_size:  # Paddle gives some images twice, so that all processes have as many
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
    """Warn of BatchNorms over one value; where they have statistics already, refuse.

    Args:
        model (nn.Layer): the network.
        batch_size (int): images a step, on this device.
        checkpoint (str, optional): the folder whose weights the network will have.

    Raises:
        InputError: the training would spoil its weights.
    """
    several = paddle.distributed.ParallelEnv().nranks > 1
    names = [
        name for name, layer in over_pooled(model) if not (several and isinstance(layer, nn.SyncBatchNorm))
    ]  # which counts the values of all devices
    if batch_size > 1 or not names:
        return
    path = checkpoint and os.path.join(checkpoint, "model.pdparams")
    state = paddle.load(path) if path and os.path.isfile(path) else model.state_dict()
    trained = [name for name in names if _has_statistics(state, name)]
    if trained:
        raise InputError(
            f"batch_size 1 on each device would spoil the weights that this training begins with: Paddle leaves out a "
            f"BatchNorm over one value in training and applies it in evaluation ({trained[0]} for one). Give "
            "batch_size 2 or more, or train on several GPUs, which compute their BatchNorms together."
        )
    logger.warning(
        f"batch_size 1 on each device: Paddle leaves out {len(names)} BatchNorms in this training, those over pooled "
        f"features ({names[0]} for one). batch_size 2 or more trains them."
    )


def over_pooled(model: nn.Layer) -> list[tuple[str, nn.Layer]]:
    """The BatchNorms behind a global average inside a `Sequential`, by name."""
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
