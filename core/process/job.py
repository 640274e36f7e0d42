"""The job that a process does work for, as bytes that travel with leases and actors."""

from __future__ import annotations

from typing import Any

import msgspec


def pack_job(fields: dict[str, Any]) -> bytes:
    """What a worker needs to know of the driver whose work it does."""
    return msgspec.msgpack.encode(fields)


def unpack_job(data: bytes) -> dict[str, Any]:
    """The reverse of `pack_job`."""
    return msgspec.msgpack.decode(data) if data else {}
