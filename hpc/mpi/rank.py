"""One rank of a gang: the actor, its communicator, and the end of calls that are cancelled."""

from __future__ import annotations

import contextvars
import os
import signal
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

import hpc
from hpc.mpi.work import Work
from hpc.mpi.world import World

#: A call that was cancelled has this time to end before its process is killed: nothing else ends a wait inside MPI.
CANCEL_GRACE_S = 1.0
#: An error of MPI may be the echo of another rank's death: the gang has so long to end with that.
ECHO_S = 0.5
#: How often to look whether the call that runs was cancelled.
LOOK_S = 0.25

#: What the functions of a gang keep between the runs, in the process of each rank. Empty elsewhere.
state = SimpleNamespace()


class Rank:
    """The actor that is one rank. Its constructor returns when the world is there."""

    def __init__(self, gang: str, rank: int, size: int) -> None:
        context = hpc.get_runtime_context()
        rows = {str(row["NodeID"]): row for row in hpc.nodes()}
        row = rows[context.get_node_id()]
        self.host = str(row["NodeManagerHostname"])
        self.world = World(gang, rank, size, str(row["NodeManagerAddress"]))
        self.rank = rank
        #: What functions get: the world itself, because an abort of that says which rank has called it.
        self.comm = self.world.MPI.COMM_WORLD
        self._given = [self.comm]
        #: What the runs use between them.
        self._service = self.comm.Dup()
        self._raised = False
        self._cancels = Cancels()

    def describe(self) -> tuple[str, int]:
        """The host and the process id of this rank."""
        return self.host, os.getpid()

    def call(self, work: Work, *given: Any) -> Any:
        """Call the function of a run, with what is given beside it."""
        with self._cancels:
            self._renew()
            try:
                value = work.call(self.comm, given)
                self.world.stop_if_aborted()
                return value
            except BaseException as error:
                self._raised = True
                if isinstance(error, self.world.MPI.Exception):
                    time.sleep(ECHO_S)
                raise

    def _renew(self) -> None:
        """A new communicator for all if a rank has raised in the run before. Messages of that run may be on their way,
        and must not be taken for ones of this."""
        mpi = self.world.MPI
        raised = np.array([self._raised], np.intc)
        self._service.Allreduce(mpi.IN_PLACE, raised, mpi.MAX)
        if raised[0]:
            self.comm = mpi.COMM_WORLD.Dup()
            self._given.append(self.comm)
            self._raised = False

    def finish(self) -> None:
        """Leave the world, as all ranks do at this moment. A message that no function has received goes first: the
        library would wait for its receiver for ever."""
        self._service.Barrier()
        for comm in self._given:
            self.world.drop_messages(comm)
        self.world.finalize()


class Cancels:
    """Ends this process if the call in the block was cancelled and does not end. MPI's waits hear of no exception."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._context: contextvars.Context | None = None
        self._thread = threading.Thread(target=self._watch, name="hpc-mpi-cancels", daemon=True)
        self._thread.start()

    def __enter__(self) -> None:
        with self._changed:
            self._context = contextvars.copy_context()
            self._changed.notify()

    def __exit__(self, *_error: object) -> None:
        with self._changed:
            self._context = None

    def _watch(self) -> None:
        cancelled = hpc.get_runtime_context().is_canceled
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._context is not None)
                context = self._context
            assert context is not None
            since = 0.0
            while self._context is context:
                now = time.monotonic()
                if not since and context.copy().run(cancelled):
                    since = now
                if since and now - since > CANCEL_GRACE_S:
                    print(
                        "mpi: the call was cancelled and did not end: its rank is killed", file=sys.stderr, flush=True
                    )
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(LOOK_S)
