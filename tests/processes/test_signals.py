"""Being asked to stop: nothing is left half done, and it is said what was not written."""

import os
import signal

import pytest

from dao.processes import signals


@pytest.fixture(autouse=True)
def own_handlers():
    """The handlers that stood before are put back."""
    before = {number: signal.getsignal(number) for number in signals.STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_closes_what_is_open_and_is_named(number):
    signals.raise_on_stop()
    closed = []
    with pytest.raises(signals.Terminated) as stopped:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            closed.append(True)
    assert closed and stopped.value.number == number
    assert str(stopped.value) == f"{signal.Signals(number).name} received: stopped"


def test_under_nohup_a_closed_terminal_is_nothing_to_stop_for():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals.raise_on_stop()
    os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
