"""Workarounds for known defects of Paddle and PaddleSeg, one small module each.

A correction fixes a defect that would stop this network, and changes only the calls that would fail. A guard protects
a training. It waits until the process builds a network or a loss of this package, or runs a command of this package.
Trainings of other networks use Paddle and PaddleSeg unchanged.

An entry is a module with
    DEFECT      a sentence: what is broken, and where;
    needed()    whether this environment has the defect;
    apply()     turns the correction or the guard on.

`BISENETV1_PLUGIN_COMPAT=0` turns all off, `-guards` or `-corrections` one kind, and `-NAME` one entry. Separate several
with commas.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
from types import ModuleType

logger = logging.getLogger(__name__)

WITH_THE_NETWORK = "with the network"

# When each entry is applied. Those before Paddle must not import it.
CORRECTIONS = {
    "zlib_first": "before paddle",
    "cudnn_version": "after paddleseg",
    "scalar_areas": "after paddleseg",
    "protobuf_label": "after paddleseg",
    "deploy_yaml": "after paddleseg",
    "memory_optim": "after paddleseg",
    "onednn_resize": "after paddleseg",
    # These also change calls of other networks.
    "numbers_of_tensors": WITH_THE_NETWORK,
    "train_without_eval": WITH_THE_NETWORK,
    "gpu_memory": WITH_THE_NETWORK,
}
# The first guard is the outermost context around `train`.
GUARDS = (
    *("reader_failure", "orphan_workers", "dice_labels"),
    *("small_batches", "whole_checkpoints", "resumed_training", "nan_checkpoints"),
)
ENTRIES = {**CORRECTIONS, **dict.fromkeys(GUARDS, WITH_THE_NETWORK)}

# The state of each entry that was applied: 'active', 'not needed', 'switched off' or 'failed'.
STATES: dict[str, str] = {}


def apply(moment: str) -> None:
    """Apply the entries of this moment that are needed and not switched off, and record the result in `STATES`."""
    for name in ENTRIES:
        if ENTRIES[name] == moment and name not in STATES:
            STATES[name] = "active"  # at once: another thread may be building a network
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


@functools.lru_cache(maxsize=None)
def log_once(message: str) -> None:
    """Log the first effect of a correction."""
    logger.info(message)


def unknown_switches() -> list[str]:
    """The values in `BISENETV1_PLUGIN_COMPAT` that name no entry or kind."""
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
    except Exception as error:  # noqa: BLE001 - the other entries and PaddleSeg must still work
        logger.warning(f"bisenetv1-plugin's {kind(name)} {name} failed: {type(error).__name__}: {error}")
        return "failed"
    return "active"
