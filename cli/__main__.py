"""`python -m banach.cli` is the `banach` command."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())
