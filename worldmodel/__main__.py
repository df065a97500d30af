"""Entry point of `python -m worldmodel` and of the `worldmodel` script.

The commands live in `planning`, a common name. This module first checks that no other package of
that name shadows it.
"""

from __future__ import annotations

import importlib
import sys

from worldmodel.resources import require_own_packages
from worldmodel.shutdown import leave


def main() -> int:
    """Run the command line and return its exit status."""
    try:
        require_own_packages()
    except ImportError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    try:
        status: int = importlib.import_module("planning.cli.app").main()
    except KeyboardInterrupt:  # before the command line handles signals
        return 130
    leave(status)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
