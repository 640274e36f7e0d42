"""What counts time by the clock gives nobody less of it because a busy machine did not run a process for a moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from hpc.core.node import orphans
from hpc.core.node.orphans import Orphans
from hpc.core.node.witness import WAIT_S, Witness


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGUSR1])
def test_a_witness_that_is_not_run_at_once_is_waited_for(sent: signal.Signals) -> None:
    witness = Witness(own_group=True)
    try:
        os.kill(witness._pid, signal.SIGSTOP)
        os.kill(witness._pid, sent)
        threading.Timer(2 * WAIT_S, os.kill, (witness._pid, signal.SIGCONT)).start()
        assert witness.heard(sent)
        assert not witness.heard(signal.SIGHUP)
        os.kill(witness._pid, signal.SIGKILL)
        assert not witness.heard(signal.SIGINT)
    finally:
        witness.close()


def test_what_a_worker_left_has_its_time_to_clear_up_although_the_machine_stood_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its handler has not run when the machine goes on: SIGKILL has to wait for that."""
    program = (
        "import signal, sys, time\n"
        "signal.signal(15, lambda *_: sys.exit(7))\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    told: list[tuple[int, int, int]] = []
    try:
        assert child.stdout is not None and child.stdout.readline() == b"up\n"
        monkeypatch.setattr(orphans, "children_of", lambda pid: [child.pid] if child.poll() is None else [])
        left = Orphans((), lambda *ended: told.append(ended))
        left.worker_ended(3, 4711, 0)
        assert left.look(100.0) == orphans.LOOK_S
        assert left.look(160.0) == orphans.LOOK_S and not told  # a minute in which nothing was run
        assert child.wait(60) == 7
        assert left.look(160.1) is None and told == [(3, 4711, 0)]
    finally:
        child.kill()
        child.communicate()
