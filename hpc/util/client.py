"""Ray's names for a client of a session elsewhere. There is no client: `hpc.init` joins, and the errors say so."""

from __future__ import annotations

from typing import Any, NoReturn

INSTEAD = (
    "there is no client apart from the driver here: call hpc.init(address) on a machine that shares a network and a "
    "file system with the session (it joins through a gateway node; see docs/sessions.md)"
)


def connect(*_args: Any, **_kwargs: Any) -> NoReturn:
    """Not supported: raises NotImplementedError, which says how to join a session instead."""
    raise NotImplementedError(f"hpc.util.connect: {INSTEAD}")


def disconnect() -> NoReturn:
    """Not supported: raises NotImplementedError. `hpc.shutdown` leaves a session."""
    raise NotImplementedError(f"hpc.util.disconnect: {INSTEAD}; hpc.shutdown() leaves it")


def client(*_args: Any, **_kwargs: Any) -> NoReturn:
    """Not supported: raises NotImplementedError, which says how to join a session instead."""
    raise NotImplementedError(f"hpc.client: {INSTEAD}")


class ClientBuilder:
    """Not supported: making one raises NotImplementedError, which says how to join a session instead."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        raise NotImplementedError(f"hpc.ClientBuilder: {INSTEAD}")
