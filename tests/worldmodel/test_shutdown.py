"""Signals end a command wherever they arrive."""

import signal
import time
import weakref

import pytest

from worldmodel.shutdown import Stopped, exit_status, stop_signals


class Target:
    """Something to refer to weakly."""


class Finaliser:
    """Receives a signal while it is deleted."""

    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


def drop(objects):
    """Delete the objects, then work on."""
    objects.clear()
    for _ in range(1000):
        time.sleep(0.01)


def test_a_signal_in_a_finaliser_is_not_lost():
    with pytest.raises(Stopped, match="SIGTERM"), stop_signals():
        drop([Finaliser()])
    assert exit_status() == 143


def test_a_signal_in_a_callback_of_a_weak_reference_is_not_lost():
    targets = [Target()]
    reference = weakref.ref(targets[0], lambda _: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Stopped, match="SIGTERM"), stop_signals():
        drop(targets)
    assert reference() is None


def test_other_dropped_exceptions_reach_the_former_hook(monkeypatch):
    seen = []
    monkeypatch.setattr("sys.unraisablehook", lambda found: seen.append(str(found.exc_value)))

    class Broken:
        def __del__(self):
            raise ValueError("dropped")

    with stop_signals():
        Broken()
    assert seen == ["dropped"]
