"""Signals end a command wherever they arrive."""

import contextlib
import signal
import time
import weakref

import pytest

from worldmodel import shutdown
from worldmodel.shutdown import (
    Stopped,
    deferred_stop,
    exit_status,
    follows_a_signal,
    patient,
    stop_signals,
)


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


def write(done, *numbers):
    """Receive signals while something is being written."""
    with deferred_stop():
        for number in numbers:
            signal.raise_signal(number)
            time.sleep(0.1)  # five times the limit for which a signal waits elsewhere
        done.append("written")
    done.append("not reached")


def test_what_must_be_finished_is_finished_before_a_signal_counts(monkeypatch):
    monkeypatch.setattr(shutdown, "DEFER_S", 0.02)
    done = []
    with pytest.raises(Stopped, match="SIGHUP"), stop_signals(), patient():
        write(done, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP)
    assert done == ["written"]
    assert exit_status() == 129


def test_a_second_ctrl_c_interrupts_even_that():
    done = []
    with pytest.raises(Stopped, match="Ctrl-C"), stop_signals(), patient():
        write(done, signal.SIGTERM, signal.SIGINT)
    assert done == []


def test_an_error_that_follows_a_signal_is_told_from_others():
    def leave_a_library():
        try:
            raise Stopped(signal.SIGTERM)
        finally:
            raise RuntimeError("trying to pop from empty mode stack")

    with pytest.raises(RuntimeError) as caught:
        leave_a_library()
    assert follows_a_signal(caught.value)
    with stop_signals():
        assert not follows_a_signal(RuntimeError("alone"))


def test_an_error_in_place_of_a_dropped_signal_is_told_from_others():
    with stop_signals():
        with contextlib.suppress(Stopped):
            signal.raise_signal(signal.SIGTERM)
        assert follows_a_signal(ValueError("could not determine the shape"))
