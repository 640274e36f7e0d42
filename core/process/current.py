"""Which client this process has: one place, imported by everything that needs it and costing nothing to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpc.core.owner.ports import ThisProcess


class _Current:
    """The client of this process, if it is connected."""

    client: ThisProcess | None = None


current = _Current()


def need_client() -> ThisProcess:
    """The client of this process; raises RuntimeError if there is none."""
    client = current.client
    if client is None:
        raise RuntimeError("not connected to a session: call hpc.init() first")
    return client
