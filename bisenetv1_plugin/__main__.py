"""`python -m bisenetv1_plugin`, which is the command `bisenetv1`."""

from __future__ import annotations

import os
import sys


def main(argv: list[str] | None = None) -> int:
    """`cli.main`, where the names of files are UTF-8.

    Under `LC_ALL=C PYTHONUTF8=0` they are ASCII to Python, and the libraries in C++ crash on what it makes of others.
    """
    if argv is None and sys.getfilesystemencoding().lower() not in ("utf-8", "utf8"):
        # Not `-m`, which imports from the current folder first, where somebody else's numpy.py may lie.
        code = f"import sys; sys.path[:] = {sys.path!r}; from bisenetv1_plugin.__main__ import main; sys.exit(main())"
        os.execv(sys.executable, [sys.executable, "-X", "utf8", "-c", code, *sys.argv[1:]])
    try:
        from bisenetv1_plugin import cli

        return cli.main(argv)
    except KeyboardInterrupt:  # while it imports; later `cli.main` has it
        if "run" in sys.argv[1:2]:  # the script's own
            raise
        sys.stderr.write("bisenetv1: stopped.\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
