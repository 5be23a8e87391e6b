"""Imports zlib before Paddle 2: its wheel exports zlib symbols, to which a later `import zlib` would bind."""

from __future__ import annotations

import sys

DEFECT = (
    "Paddle 2.6 crashes (inflateReset2) when zlib is a shared extension of Python and is imported after Paddle, "
    "as `import paddleseg` does."
)


def needed() -> bool:
    return "zlib" not in sys.builtin_module_names and "zlib" not in sys.modules and _paddle_major() == "2"


def apply() -> None:
    # Nothing to log: an earlier import of zlib changes nothing else.
    import zlib  # noqa: F401


def _paddle_major() -> str | None:
    # Imported here because it imports zlib itself: `needed` must look for zlib in sys.modules first.
    from importlib.metadata import PackageNotFoundError, version

    for distribution in ("paddlepaddle-gpu", "paddlepaddle"):
        try:
            return version(distribution).split(".")[0]
        except PackageNotFoundError:
            continue
    return None
