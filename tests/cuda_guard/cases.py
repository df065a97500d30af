"""Run every use of a CUDA device on the make-believe one; print a JSON record for each.

The process loads the no-op device guard before torch: `python -m tests.cuda_guard.cases GUARD.so`.
`test_real_device` runs the same cases on a real device, and compares what they return with what
they return on the CPU: a case draws its random numbers there, and uses the ledger's device.
"""

from __future__ import annotations

import ctypes
import sys

if __name__ == "__main__":
    ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)

import contextlib
import functools
import json
import traceback

import torch

from tests.cuda_guard import device_cases, model_cases, training_cases
from tests.cuda_guard.fake_cuda import fake_cuda
from tests.cuda_guard.faults import FAULTS, Fault
from tests.cuda_guard.ledger import Ledger
from tests.cuda_guard.registry import CASES

MODULES = (model_cases, training_cases, device_cases)
"""Modules that add cases."""


class _StepEnded(Exception):  # noqa: N818 - no error: it ends a case early
    """The step of a case is recorded."""


def with_fault(fault: Fault, ledger: Ledger) -> None:
    """Run a case while a fault is put back, until its step is recorded or to its end."""

    def end_step() -> None:
        Ledger.end_step(ledger)
        raise _StepEnded

    with fault.put_back(), contextlib.suppress(_StepEnded):
        ledger.end_step = end_step  # type: ignore[method-assign]
        CASES[fault.case](ledger)


CASES |= {name: functools.partial(with_fault, fault) for name, fault in FAULTS.items()}


def record(name: str) -> dict[str, object]:
    """Run one case."""
    ledger, error = Ledger(), None
    torch.manual_seed(0)
    with fake_cuda(ledger):
        try:
            CASES[name](ledger)
        except Exception:  # noqa: BLE001 - the record says what went wrong, and the next case runs
            error = traceback.format_exc()
    return {"name": name, "error": error, **ledger.row()}


if __name__ == "__main__":
    ctypes.CDLL(sys.argv[1]).register_guard()
    torch.set_num_threads(1)
    for chosen in sys.argv[2:] or CASES:
        print("RECORD " + json.dumps(record(chosen)), flush=True)
