"""Cases of the guard by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable

from tests.cuda_guard.ledger import Ledger

Case = Callable[[Ledger], object]
"""Function that uses the ledger's device, and returns numbers which do not depend on it."""
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Add a function to the cases."""
    CASES[function.__name__] = function
    return function
