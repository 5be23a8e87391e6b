"""zlib before Paddle 2.x: the wheel exports zlib symbols of its own, which a later `import zlib` then binds to."""

from __future__ import annotations

import sys

DEFECT = (
    "Paddle 2.6 crashes (inflateReset2) when zlib is a shared extension of Python and is imported after Paddle, "
    "as `import paddleseg` does."
)


def needed() -> bool:
    return "zlib" not in sys.builtin_module_names and "zlib" not in sys.modules and _paddle_major() == "2"


def apply() -> None:
    # Nothing to log: the order of two imports changes for nobody but the process that would have crashed.
    import zlib  # noqa: F401


def _paddle_major() -> str | None:
    from importlib.metadata import (
        PackageNotFoundError,
        version,
    )  # which imports zlib: after the question whether it is in

    for distribution in ("paddlepaddle-gpu", "paddlepaddle"):
        try:
            return version(distribution).split(".")[0]
        except PackageNotFoundError:
            continue
    return None
