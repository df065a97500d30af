"""A signal that a library swallows while it reads an item ends the command all the same."""

import contextlib
import signal

import pytest

from worldmodel.data.episode import EpisodeError, rejecting
from worldmodel.errors import DataError
from worldmodel.shutdown import Stopped, stop_signals


def swallow(error):
    """Receive a signal, and raise an error in place of its exception, as libraries in C do."""
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    raise error


@pytest.mark.parametrize("error", [OSError("torn"), DataError("torn"), EpisodeError("torn", "x")])
def test_an_error_after_a_signal_is_no_fault_of_the_item(error):
    with pytest.raises(Stopped, match="SIGTERM"), stop_signals(), rejecting("item"):
        swallow(error)


@pytest.mark.parametrize("error", [OSError("torn"), EpisodeError("torn", "x")])
def test_an_error_of_its_own_is_a_fault_of_the_item(error):
    with pytest.raises(EpisodeError), stop_signals(), rejecting("item"):
        raise error


def test_an_earlier_command_that_was_stopped_changes_nothing():
    with pytest.raises(Stopped), stop_signals():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(EpisodeError), rejecting("item"):
        raise OSError("torn")
