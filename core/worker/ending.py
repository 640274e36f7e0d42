"""How a worker's process ends by its own will, or by that of the code that it runs: sys.exit() and exit_actor().

Whoever leases it is told first, what was printed is written out, and handlers of atexit run, as at the end of any
Python program. A child that the user's code has forked ends like a program of its own: nothing of the runtime is told.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
import traceback
from typing import TYPE_CHECKING, NoReturn

from hpc.core.node.process import flush_output
from hpc.core.wire import Exiting, Ran

if TYPE_CHECKING:
    from hpc.core.worker.ports import Leaves

#: The raylet and the owners may take so long to take what is said to them.
SEND_S = 2.0


def exit_code(code: object) -> int:
    """The exit code of a process that raised SystemExit with this ``code``, which may be text for its last words."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    flush_output()
    print(code, file=sys.stderr)
    return 1


def leave(worker: Leaves, why: str, *, code: int = 0, intended: bool = True) -> NoReturn:
    """End this process. ``intended``: nothing is to be done about it, an actor is not restarted."""
    client = worker.client
    with client.lock:
        raylet = client.machine.raylet
        if worker.record.events:
            client.machine.send(raylet, Ran(*worker.record.hand_over(time.monotonic())))
        client.telling.tell()
        client.telling.bulletins.last()
        client.machine.send(raylet, Exiting(why, intended))
        client.send_left(everything=True)
    deadline = time.monotonic() + SEND_S
    streams = [client.sockets.raylet, *client.sockets.streams.values()]
    while any(s.wants_write for s in streams) and time.monotonic() < deadline:
        with client.lock:
            for stream in streams:
                stream.flush()
        time.sleep(0.001)
    _end(code)


def exit_called(worker: Leaves, error: SystemExit) -> NoReturn:
    """The user's code wants this process to end. An actor that says that all is well is not restarted; a task that
    gives no value has failed whatever it says."""
    code = exit_code(error.code)
    leave(worker, f"it called exit({error.code})", code=code, intended=code == 0 and worker.actor is not None)


def end_child(error: BaseException) -> NoReturn:
    """End a process that was forked by the user's code, and in which that code has raised."""
    if isinstance(error, SystemExit):
        _end(exit_code(error.code))
    flush_output()
    traceback.print_exception(error)
    _end(1)


def _end(code: int) -> NoReturn:
    try:
        atexit._run_exitfuncs()
    except BaseException:  # the handler's error was printed; the end is the end
        code = code or 1
    finally:
        flush_output()
        os._exit(code)
