"""The services of gRPC that a proxy has: those of the user's functions, and Ray Serve's own one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

#: Ray Serve's own service; it has the name that programs written for Ray ask for.
OWN = "/ray.serve.RayServeAPIService/"
HEALTHZ, LIST_APPLICATIONS = OWN + "Healthz", OWN + "ListApplications"


class Services:
    """Stands where the generated ``add_...Servicer_to_server`` wants a server, and keeps what it is given."""

    def __init__(self, functions: Sequence[Callable[[Any, Any], object]]) -> None:
        self._handlers: list[Any] = []
        for function in functions:
            function(_Anything(), self)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[Any]) -> None:
        """Called by generated code: the methods of a service."""
        self._handlers.extend(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """Called by newer generated code beside it, with the same methods again."""

    def names(self) -> list[str]:
        """The services, as their files of protobuf name them."""
        return sorted({one.service_name() for one in self._handlers})

    def find(self, details: Any) -> Any:
        """How messages of a called method are read, and which of the two sides are streams; None for unknown ones."""
        return next((found for one in self._handlers if (found := one.service(details)) is not None), None)


class _Anything:
    """A servicer with all methods: none of them is called, as replicas have the real ones."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _nothing


def _nothing(*args: Any) -> None:
    """A method of such a servicer."""


def strings(*values: str) -> bytes:
    """A message of protobuf whose first field has these strings: both answers of Ray Serve's own service are such."""
    return b"".join(b"\x0a" + _varint(len(data)) + data for data in (value.encode() for value in values))


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
