"""Run-time corrections of known upstream defects, one small module each.

An entry module has
    DEFECT      one sentence: what is broken, and where;
    needed()    the probe: does this environment have the defect?
    apply()     the correction. It touches only the calls that would have failed.

`BISENETV1_PLUGIN_COMPAT=0` switches all off, `BISENETV1_PLUGIN_COMPAT=-NAME[,-NAME]` some by name.
"""

import importlib
import os

# When each entry acts. An entry that acts before Paddle is imported must not import it.
ENTRIES = {"zlib_first": "before paddle", "scalar_areas": "after paddleseg"}


def apply(moment):
    """Apply the entries of this moment that are needed here and not switched off; return their names."""
    applied = []
    for name in ENTRIES:
        if ENTRIES[name] == moment and is_on(name):
            entry = importlib.import_module(f"{__name__}.{name}")
            if entry.needed():
                entry.apply()
                applied.append(name)
    return applied


def is_on(name):
    """Whether the environment leaves this entry on."""
    switches = os.environ.get("BISENETV1_PLUGIN_COMPAT", "").split(",")
    return "0" not in switches and f"-{name}" not in switches
