"""Where the service of a test listens."""

from __future__ import annotations

from hpc.serve.http.door import told


def addresses() -> tuple[str, str]:
    """The path of the socket, and the address on TCP, of the one node with a proxy."""
    (found,) = told().values()
    return found[0].removeprefix("unix:"), found[-1]
