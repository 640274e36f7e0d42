"""Sessions of `hpc.init()` and `hpc start` drain at the scheduler's warning, and nodes of them leave without a loss."""

from __future__ import annotations

import json
import os
import signal
import time

import numpy as np

import hpc
from hpc.util.state import list_events
from runtime.hosting import hpc_command, python_script, started
from runtime.running import eventually, soft

INIT = """
import os, signal, threading
came = []
signal.signal(signal.SIGUSR1, lambda *_: came.append("mine"))
import hpc
hpc.init(num_cpus=1)
drained = threading.Event()
hpc.on_drain(lambda notice: (print(notice.reason), drained.set()))
os.kill(os.getpid(), signal.SIGUSR1)
assert drained.wait(60) and came == ["mine"]
"""


def test_a_session_of_init_drains_at_the_signal_and_the_programs_own_handler_is_called(no_leaks: None) -> None:
    done = python_script(INIT, HPC_DRAIN_SIGNAL="USR1")
    assert done.returncode == 0 and done.stdout == "SIGUSR1\n", done.stderr
    assert "the session drains (SIGUSR1)" in done.stderr
    bad = python_script("import hpc; hpc.init()", HPC_DRAIN_SIGNAL="HUP")
    assert bad.returncode == 1 and "ValueError" in bad.stderr and "neither USR1 nor USR2" in bad.stderr


def test_a_session_of_hpc_start_drains_at_the_signal(no_leaks: None) -> None:
    words = ["start", "--head", "--json", "--num-cpus=1", "--object-store-memory=80000000"]
    begun = hpc_command(*words, env={"HPC_DRAIN_SIGNAL": "USR2"})
    assert begun.returncode == 0, begun.stderr
    facts = json.loads(begun.stdout)
    try:
        hpc.init(address=facts["node_dir"])
        os.kill(facts["pid"], signal.SIGUSR2)
        notice = eventually(lambda: hpc.get_runtime_context().draining())
        assert notice.reason == "SIGUSR2"
        (told,) = eventually(lambda: list_events(filters=[("kind", "=", "SESSION_DRAINS")]))
        assert told.severity == "WARNING" and "SIGUSR2" in told.text
    finally:
        hpc.shutdown()
        assert hpc_command("stop", f"--session={facts['session']}", "--grace=2s").returncode == 0


def test_a_node_that_is_stopped_ends_as_soon_as_its_values_have_moved(no_leaks: None) -> None:
    with started() as facts:
        added = hpc_command("start", f"--address={facts['session']}", "--num-cpus=1", "--json")
        assert added.returncode == 0, added.stderr
        hpc.init(address=facts["node_dir"])
        try:

            @hpc.remote(num_cpus=1, max_retries=0, scheduling_strategy=soft(2))
            def make() -> np.ndarray:
                return np.full(1 << 22, 7, np.uint8)

            value = make.remote()
            hpc.wait([value], fetch_local=False)
            began = time.monotonic()
            stopped = hpc_command("stop", f"--session={facts['session']}", "--node=2", "--drain=50s")
            assert stopped.returncode == 0, stopped.stderr
            assert time.monotonic() - began < 30, "long before the time is over"
            assert hpc.get(value, timeout=60)[-1] == 7
        finally:
            hpc.shutdown()
