"""Answers to known upstream defects, one small module each.

A correction mends what would stop this network on a stack, and touches only the calls that would have failed. A guard
watches over a training. It waits until a network or a loss of this package is built in the process, or a command of
this package builds something: whoever trains another network has Paddle and PaddleSeg as they are.

An entry module has
    DEFECT      one sentence: what is broken, and where;
    needed()    the probe: does this environment have the defect?
    apply()     the correction or the guard.

`BISENETV1_PLUGIN_COMPAT=0` switches all off, `-guards` or `-corrections` one kind, and `-NAME` one entry; several with
commas.
"""

from __future__ import annotations

import importlib
import logging
import os
from types import ModuleType

logger = logging.getLogger(__name__)

WITH_THE_NETWORK = "with the network"

# When each entry acts. One that acts before Paddle is imported must not import it.
CORRECTIONS = {
    "zlib_first": "before paddle",
    "cudnn_version": "after paddleseg",
    "scalar_areas": "after paddleseg",
    "protobuf_label": "after paddleseg",
    "deploy_yaml": "after paddleseg",
    "memory_optim": "after paddleseg",
    "onednn_resize": "after paddleseg",
    # These reach further than this network's calls.
    "numbers_of_tensors": WITH_THE_NETWORK,
    "train_without_eval": WITH_THE_NETWORK,
    "gpu_memory": WITH_THE_NETWORK,
}
# From the outside in: each one comes around a training inside of those before it.
GUARDS = (
    *("reader_failure", "orphan_workers", "dice_labels"),
    *("small_batches", "whole_checkpoints", "resumed_training", "nan_checkpoints"),
)
ENTRIES = {**CORRECTIONS, **dict.fromkeys(GUARDS, WITH_THE_NETWORK)}

# What became of each entry in this process: 'active', 'not needed', 'switched off' or 'failed'; none before its moment.
STATES: dict[str, str] = {}


def apply(moment: str) -> None:
    """Apply the entries of this moment that are needed here and not switched off, and note it in `STATES`."""
    for name in ENTRIES:
        if ENTRIES[name] == moment and name not in STATES:
            STATES[name] = "active"  # until it is known; two threads may build a network at a time
            STATES[name] = _apply(name)


def entry(name: str) -> ModuleType:
    """The module of an entry."""
    return importlib.import_module(f"{__name__}.{name}")


def kind(name: str) -> str:
    """'correction' or 'guard'."""
    return "guard" if name in GUARDS else "correction"


def is_on(name: str) -> bool:
    """Whether the environment leaves this entry on."""
    return os.environ.get("BISENETV1_PLUGIN") != "0" and not {"0", f"-{kind(name)}s", f"-{name}"} & set(_switches())


def unknown_switches() -> list[str]:
    """What `BISENETV1_PLUGIN_COMPAT` has that switches nothing off."""
    known = {"0", "-corrections", "-guards", *(f"-{name}" for name in ENTRIES)}
    return [switch for switch in _switches() if switch not in known]


def _switches() -> list[str]:
    switches = os.environ.get("BISENETV1_PLUGIN_COMPAT", "").split(",")
    return [switch.strip() for switch in switches if switch.strip()]


def _apply(name: str) -> str:
    if not is_on(name):
        return "switched off"
    try:
        if not entry(name).needed():
            return "not needed"
        entry(name).apply()
    except Exception as error:  # noqa: BLE001 - a broken entry never hurts the others or PaddleSeg
        logger.warning(f"bisenetv1-plugin's {kind(name)} {name} failed: {type(error).__name__}: {error}")
        return "failed"
    return "active"
