"""Which session this process is connected to. `hpc.api.init` connects and leaves; all else asks here."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from hpc.core.owner.shell.forked import is_forked
from hpc.core.process.context import process
from hpc.core.process.current import current, need_client
from hpc.core.variables import AUTO_CONNECT, switch

if TYPE_CHECKING:
    from hpc.core.owner.ports import ThisProcess
    from hpc.core.owner.shell.client import Client


class _Here:
    """What `init` said of this process, beside its client."""

    namespace = ""


here = _Here()


class _Thread(threading.local):
    """What is so of each thread."""

    #: Whether it connects on first use.
    begins = True


_thread = _Thread()


def begin_none() -> None:
    """This thread begins no session from now on: where there is none, what needs one raises RuntimeError.

    Threads that go on beside a program may come too late for its session, and would begin another."""
    _thread.begins = False


def is_initialized() -> bool:
    """Whether this process is connected to a session."""
    return current.client is not None and not is_forked()


def ensure_client() -> Client:
    """The client of this process, connecting on first use, unless the environment or `begin_none` says no to that
    (RuntimeError)."""
    client: Client | None = current.client  # type: ignore[assignment]  # what below is known to be no more than a Process
    if client is None:
        if not _thread.begins or not switch(AUTO_CONNECT, True):
            need_client()
        import hpc

        hpc.init()  # by its public name: the module that starts sessions stands above this one
        client = current.client  # type: ignore[assignment]
        assert client is not None
    return client


def namespace_of(client: ThisProcess) -> str:
    """The namespace of actors' names here: the driver's."""
    return here.namespace or str(process.job.get("namespace", "")) or "default"
