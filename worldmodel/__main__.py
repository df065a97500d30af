"""`python -m worldmodel` and the `worldmodel` script: check the import path, then run the command.

The commands live in `planning`, a common name. This module finds out whether another folder of
that name hides it before the first import from it, and says so.
"""

from __future__ import annotations

import importlib
import sys

from worldmodel.resources import require_own_packages


def main() -> int:
    """Run the command line; returns its exit status."""
    try:
        require_own_packages()
    except ImportError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    status: int = importlib.import_module("planning.cli.app").main()
    return status


if __name__ == "__main__":
    raise SystemExit(main())
