"""The command `bisenetv1`, also as `python -m bisenetv1_plugin`."""

from __future__ import annotations

import os
import sys


def main(argv: list[str] | None = None) -> int:
    """Run `cli.main` with file names in UTF-8.

    Under `LC_ALL=C PYTHONUTF8=0`, Python decodes names as ASCII, and libraries in C++ crash on the result.
    """
    if argv is None and sys.getfilesystemencoding().lower() not in ("utf-8", "utf8"):
        # Not `-m`, which imports from the current folder first, and so might run another numpy.py.
        code = f"import sys; sys.path[:] = {sys.path!r}; from bisenetv1_plugin.__main__ import main; sys.exit(main())"
        os.execv(sys.executable, [sys.executable, "-X", "utf8", "-c", code, *sys.argv[1:]])
    try:
        from bisenetv1_plugin import cli

        return cli.main(argv)
    except KeyboardInterrupt:  # during the imports; later `cli.main` handles it
        if "run" in sys.argv[1:2]:  # the script handles it
            raise
        sys.stderr.write("bisenetv1: stopped.\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
