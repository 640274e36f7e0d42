"""Ids as a program sees them: small values with a type, that compare, hash, print and travel.

The runtime itself works with bytes (see `hpc.core.ids`). Ids of tasks, actors, objects and placement groups are those
bytes, and `hex` is hexadecimal. Jobs, nodes and workers have names here that people type and read. So `hex` is the name
that all other functions use for them, and `binary` is its text as bytes.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

from hpc.core.ids import ID_BYTES
from hpc.core.process.current import need_client

I = TypeVar("I", bound="BaseID")  # noqa: E741


class BaseID:
    """What all ids have in common."""

    __slots__ = ("_binary",)
    SIZE = ID_BYTES

    def __init__(self, binary: bytes) -> None:
        if not isinstance(binary, bytes):
            raise TypeError(f"{type(self).__name__} takes bytes, not {type(binary).__name__}")
        self._check(binary)
        self._binary = binary

    def _check(self, binary: bytes) -> None:
        if len(binary) != self.SIZE:
            raise ValueError(f"{type(self).__name__} takes {self.SIZE} bytes, not {len(binary)}")

    @classmethod
    def from_binary(cls: type[I], binary: bytes) -> I:
        """The id of these bytes. Raises TypeError or ValueError for what is none."""
        return cls(binary)

    @classmethod
    def from_hex(cls: type[I], hex_id: str) -> I:
        """The id whose `hex` this is. Raises ValueError for what is none."""
        return cls(bytes.fromhex(hex_id))

    @classmethod
    def nil(cls: type[I]) -> I:
        """The id of nothing."""
        return cls(bytes(cls.SIZE))

    @classmethod
    def from_random(cls: type[I]) -> I:
        """An id that nothing has."""
        return cls(os.urandom(cls.SIZE))

    @classmethod
    def size(cls) -> int:
        """How many bytes an id has."""
        return cls.SIZE

    def binary(self) -> bytes:
        """The id as bytes."""
        return self._binary

    def hex(self) -> str:
        """The id as text, as the state API names it."""
        return self._binary.hex()

    def is_nil(self) -> bool:
        """Whether this is the id of nothing."""
        return not any(self._binary)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, BaseID) and other._binary == self._binary

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._binary))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._binary,)


class _NamedID(BaseID):
    """The id of what has a name."""

    __slots__ = ()

    def _check(self, binary: bytes) -> None:
        binary.decode()

    @classmethod
    def from_hex(cls: type[I], hex_id: str) -> I:
        return cls(hex_id.encode())

    @classmethod
    def nil(cls: type[I]) -> I:
        return cls(b"")

    @classmethod
    def from_random(cls: type[I]) -> I:
        return cls(os.urandom(8).hex().encode())

    def hex(self) -> str:
        return self._binary.decode()


class UniqueID(BaseID):
    """An id of no particular kind."""

    __slots__ = ()


class JobID(_NamedID):
    """The id of a job: the name of its session."""

    __slots__ = ()


class NodeID(_NamedID):
    """The id of a node: its number."""

    __slots__ = ()


class WorkerID(_NamedID):
    """The id of a worker or driver: the number of its node and its own."""

    __slots__ = ()


class _OfSession(BaseID):
    __slots__ = ()

    def job_id(self) -> JobID:
        """The id of the job: that of the session in which this process is."""
        return JobID.from_hex(need_client().registered.session)


class TaskID(_OfSession):
    """The id of a task or an actor's call."""

    __slots__ = ()


class ActorID(_OfSession):
    """The id of an actor."""

    __slots__ = ()


class PlacementGroupID(BaseID):
    """The id of a placement group."""

    __slots__ = ()


class FunctionID(UniqueID):
    """The id of a function's code."""

    __slots__ = ()


class ActorClassID(UniqueID):
    """The id of an actor class's code."""

    __slots__ = ()
