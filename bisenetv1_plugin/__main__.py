"""`python -m bisenetv1_plugin`, which is the command `bisenetv1`."""

import sys

from bisenetv1_plugin.cli import main

if __name__ == "__main__":
    sys.exit(main())
