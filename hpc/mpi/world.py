"""A process becomes a rank of an MPI world: its MPI library is initialized against a process manager that we play.

The library writes to a socket whose other end is read by a thread of the same process. That knows the answers
(`hpc.spi.PmiRank`), and takes what is for others to the other ranks. mpi4py holds Python's lock while it initializes
MPI, and the thread could not answer. So MPI_Init_thread and MPI_Finalize are called by ctypes, which does not.

Rejected: a process manager in another process (a port to listen on and to protect, and one more thing to lose).
Rejected too: the scheduler's own, whose ranks are no workers of ours.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc import spi
from hpc.mpi.exchange import Exchange

#: Variables by which a library finds its process manager: ours are set while it initializes, others hidden.
FAMILIES = ("PMI_", "PMIX_", "PMI2_", "OMPI_", "HYDRA_", "MPIEXEC_")
#: The vendor, as mpi4py says it, of a library that no gang can use.
OPEN_MPI = "Open MPI"
INSTALL = "pip install 'hpc[mpi]' brings mpi4py and MPICH"


class MpiLibraryError(RuntimeError):
    """There is no MPI library that can make a world of these ranks; the text says what is there, and what to do."""


def load() -> Any:
    """The module mpi4py.MPI, with MPI not initialized. Raises MpiLibraryError."""
    try:
        import mpi4py

        mpi4py.rc.initialize = False
        mpi4py.rc.finalize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise MpiLibraryError(f"a rank needs mpi4py and an MPI library, and has none: {error}. {INSTALL}") from error
    library = MPI.Get_library_version().strip("\0\n ").splitlines()[0]
    if MPI.Is_initialized():
        raise MpiLibraryError("MPI was initialized in this process already, by a module that it has imported")
    if MPI.get_vendor()[0] == OPEN_MPI:
        raise MpiLibraryError(
            f"mpi4py uses {library}, which is started by PMIx. A gang needs MPICH or a library that comes of it (Intel "
            f"MPI, MVAPICH, ParaStation, Cray MPICH with PMI-1). {INSTALL}; MPI4PY_MPIABI=mpich chooses it"
        )
    return MPI


def world_environment(rank: int, size: int, fd: int) -> dict[str, str]:
    """The variables by which the library finds us."""
    return {"PMI_FD": str(fd), "PMI_RANK": str(rank), "PMI_SIZE": str(size)}


def network_environment(interface: str | None, fabric: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that have libfabric and UCX take the network interface of the session for TCP, and leave them the
    devices of a ``fabric``. What the user has set stays."""
    if interface is None:
        return {}
    wanted = {
        "FI_TCP_IFACE": interface,
        "FI_SOCKETS_IFACE": interface,
        "UCX_NET_DEVICES": ",".join([*fabric, interface]),
    }
    return {name: value for name, value in wanted.items() if name not in environ}


def fabric_devices(root: str = "/sys/class/infiniband") -> list[str]:
    """The ports of this machine's devices for RDMA, as UCX names them."""
    return [f"{port.parent.parent.name}:{port.name}" for port in sorted(Path(root).glob("*/ports/*"))]


def named_memory() -> set[str]:
    """The files of shared memory that this process maps, and that still have a name."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        paths = {line.rstrip("\n").partition("/")[2] for line in maps}
    return {f"/{path}" for path in paths if path.startswith("dev/shm/") and not path.endswith(" (deleted)")}


class ProcessManager(threading.Thread):
    """The thread that answers this rank's MPI library."""

    def __init__(self, sock: socket.socket, pmi: spi.PmiRank, exchange: Exchange) -> None:
        super().__init__(name="hpc-mpi-pmi", daemon=True)
        self.sock, self.pmi, self.exchange = sock, pmi, exchange
        self.error: Exception | None = None
        #: Held from the reading of a request until it is taken in.
        self._read = threading.Lock()

    def run(self) -> None:
        """Answer until the library closes its end, or asks for what we do not know."""
        requests = select.poll()
        requests.register(self.sock, select.POLLIN)
        try:
            while True:
                requests.poll()
                with self._read:
                    data = self.sock.recv(1 << 16)
                    answer = self.pmi.feed(data)
                if not data:
                    return
                if self.pmi.put is not None:
                    answer += self._barrier(self.pmi.put)
                if self.pmi.aborted is not None:
                    _abort(self.pmi.aborted)
                self.sock.sendall(answer)
        except Exception as error:  # the library finds its process manager gone, and says so in its own way
            self.error = error
        finally:
            self.sock.close()

    def is_aborting(self) -> bool:
        """Whether this rank has called MPI_Abort, if that was not read yet."""
        with self._read:
            try:
                unread = self.sock.recv(1 << 16, socket.MSG_DONTWAIT | socket.MSG_PEEK)
            except OSError:
                unread = b""
            return self.pmi.aborted is not None or b"cmd=abort" in unread

    def _barrier(self, put: dict[str, str]) -> bytes:
        values: dict[str, str] = {}
        for one in self.exchange.all_gather(put):
            values.update(one)
        return self.pmi.release(values)


def _abort(code: int) -> None:
    """End this process: MPI_Abort is a request to the process manager, and returns."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF or 1)


class World:
    """The MPI world of this process."""

    def __init__(self, gang: str, rank: int, size: int, address: str) -> None:
        self.MPI = load()
        self.rank, self.size = rank, size
        self._library = ctypes.CDLL(self.MPI.__file__)
        exchange = Exchange(gang, rank, size)
        me = spi.whoami()
        nodes = exchange.all_gather(str(me.node))
        numbers = {node: number for number, node in enumerate(dict.fromkeys(nodes))}
        pmi = spi.PmiRank(rank, [numbers[node] for node in nodes], f"hpc_{gang}")
        ours, theirs = socket.socketpair()
        self._manager = ProcessManager(ours, pmi, exchange)
        self._manager.start()
        self._sock = theirs
        before = named_memory()
        self._initialize(network_environment(spi.interface_of(address), fabric_devices(), os.environ))
        if self.MPI.COMM_WORLD.Get_size() != size:
            raise MpiLibraryError(
                f"the MPI library {self.version()} did not ask for its process manager by PMI-1 (PMI_FD): each rank is "
                f"alone in its world. {INSTALL}; MPI4PY_MPIABI=mpich chooses it"
            )
        for comm in (self.MPI.COMM_WORLD, self.MPI.COMM_SELF):
            comm.Set_errhandler(self.MPI.ERRORS_RETURN)  # as mpi4py does: an error is an exception
        self._unname(named_memory() - before)

    def _unname(self, files: set[str]) -> None:
        """Take the names of the library's shared memory away once all ranks map it: so nothing of it stays, however
        they end."""
        self.MPI.COMM_WORLD.Barrier()
        for path in files:
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue

    def version(self) -> str:
        """The MPI library, in one line."""
        return str(self.MPI.Get_library_version().strip("\0\n ").splitlines()[0])

    def _initialize(self, network: dict[str, str]) -> None:
        hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(FAMILIES)}
        ours = {**network, **world_environment(self.rank, self.size, self._sock.fileno())}
        os.environ.update(ours)
        try:
            sys.stdout.flush()
            provided = ctypes.c_int()
            code = self._library.MPI_Init_thread(None, None, self.MPI.THREAD_MULTIPLE, ctypes.byref(provided))
        finally:
            for name in ours:
                if name not in network:
                    os.environ.pop(name, None)
            os.environ.update(hidden)
        if code or self._manager.error is not None:
            why = f"MPI_Init_thread returned {code}" if code else "its process manager was asked for the impossible"
            raise MpiLibraryError(f"{self.version()}: {why}") from self._manager.error

    def stop_if_aborted(self) -> None:
        """Wait for the end of this process if its function has called MPI_Abort."""
        while self._manager.is_aborting():
            time.sleep(0.01)

    def drop_messages(self, comm: Any) -> None:
        """Take in what others have sent to this rank by ``comm``, and what nothing has received."""
        status = self.MPI.Status()
        while (message := comm.Improbe(status=status)) is not None:
            message.Recv([bytearray(status.Get_count(self.MPI.BYTE)), self.MPI.BYTE])

    def finalize(self) -> None:
        """Leave the world; all ranks do so."""
        if not self.MPI.Is_finalized():
            self._library.MPI_Finalize()
