"""Run-time corrections of known upstream defects, one small module each.

An entry module has
    DEFECT      one sentence: what is broken, and where;
    needed()    the probe: does this environment have the defect?
    apply()     the correction. It touches only the calls that would have failed.

`BISENETV1_PLUGIN_COMPAT=0` switches all off, `BISENETV1_PLUGIN_COMPAT=-NAME[,-NAME]` some by name.
"""

from __future__ import annotations

import importlib
import logging
import os
from types import ModuleType

logger = logging.getLogger(__name__)

# When each entry acts. An entry that acts before Paddle is imported must not import it.
ENTRIES = {
    "zlib_first": "before paddle",
    "scalar_areas": "after paddleseg",
    "train_without_eval": "after paddleseg",
    "reader_failure": "after paddleseg",
    "orphan_workers": "after paddleseg",
    "whole_checkpoints": "after paddleseg",
    "nan_checkpoints": "after paddleseg",
    "resumed_training": "after paddleseg",
    "small_batches": "after paddleseg",
    "protobuf_label": "after paddleseg",
    "deploy_yaml": "after paddleseg",
    "memory_optim": "after paddleseg",
    "onednn_resize": "after paddleseg",
}

# What became of each entry in this process: 'active', 'not needed', 'switched off' or 'failed'; none before its moment.
STATES: dict[str, str] = {}


def apply(moment: str) -> None:
    """Apply the entries of this moment that are needed here and not switched off, and note it in `STATES`."""
    for name in ENTRIES:
        if ENTRIES[name] == moment and name not in STATES:
            STATES[name] = _apply(name)


def entry(name: str) -> ModuleType:
    """The module of an entry."""
    return importlib.import_module(f"{__name__}.{name}")


def is_on(name: str) -> bool:
    """Whether the environment leaves this entry on."""
    switches = os.environ.get("BISENETV1_PLUGIN_COMPAT", "").split(",")
    return "0" not in switches and f"-{name}" not in switches


def _apply(name: str) -> str:
    if not is_on(name):
        return "switched off"
    try:
        if not entry(name).needed():
            return "not needed"
        entry(name).apply()
    except Exception as error:  # noqa: BLE001 - one broken correction never hurts the others or PaddleSeg
        logger.warning(f"bisenetv1-plugin's correction {name} failed: {type(error).__name__}: {error}")
        return "failed"
    return "active"
