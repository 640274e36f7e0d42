"""When an experiment winds down: little time, a session that drains, signals; and how long its trials have to save."""

from __future__ import annotations

import os
import signal
import time
from types import SimpleNamespace

import pytest

from hpc.tune.walltime import END_S, INTERRUPT_S, PATIENCE_S, Walltime


class Context:
    """A session with so much time left."""

    def __init__(self, left_s=None, notice=None):
        self.left_s, self.notice = left_s, notice

    def time_left_s(self):
        return self.left_s

    def draining(self):
        return self.notice


def test_it_winds_down_once_when_another_step_and_its_checkpoint_might_come_too_late():
    context = Context(1000.0)
    walltime = Walltime(lambda: 50.0, context)
    walltime.step_took(20.0)
    walltime.save_took(5.0)
    walltime.save_took(3.0)
    assert walltime.margin_s == END_S + 2 * 25.0
    context.left_s = walltime.margin_s
    assert walltime.look() is None and not walltime.drains
    context.left_s -= 1.0
    told = walltime.look()
    assert told is not None and walltime.drains and "59 s are left" in told.why
    assert told.until == 50.0 + 59.0 - END_S / 2
    assert walltime.look() is None


def test_a_session_that_drains_gives_the_time_that_it_says():
    for left_s, most in ((30.0, 30.0 - END_S / 2), (None, PATIENCE_S), (2.0, 1.0)):
        told = Walltime(lambda: 0.0, Context(None, SimpleNamespace(reason="walltime", left_s=left_s))).look()
        assert told is not None and told.until == most and "walltime" in told.why


@pytest.mark.parametrize(
    ("number", "most", "drains"),
    [(signal.SIGINT, INTERRUPT_S, False), (signal.SIGTERM, PATIENCE_S, True), (signal.SIGUSR1, PATIENCE_S, False)],
)
def test_signals_wind_it_down_and_have_their_handlers_back_afterwards(number, most, drains):
    before = signal.getsignal(number)
    walltime = Walltime(lambda: 0.0, Context())
    with walltime.signals():
        os.kill(os.getpid(), number)
        while (told := walltime.look()) is None:
            time.sleep(0.001)
        assert told.until == most and walltime.drains is drains
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_is_not_held_back():
    walltime = Walltime(lambda: 0.0, Context())

    def twice():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.001)

    with walltime.signals(), pytest.raises(KeyboardInterrupt):
        twice()
