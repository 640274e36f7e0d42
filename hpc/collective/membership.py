"""The groups of this process: joining, the groups that a driver has declared for its actors, and leaving."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec

from hpc import spi
from hpc.collective.backends import make_group
from hpc.collective.group import Group
from hpc.collective.work import Lanes, Turns

_DECLARED = "collective-declared"
#: How long an operation waits for a rank, in seconds, unless the group says otherwise.
TIMEOUT_S = 1800.0


class Member:
    """This process's part of a group, and the order of its operations."""

    def __init__(self, name: str, group: Group) -> None:
        self.name, self.group = name, group
        self.rank, self.world_size, self.backend = group.rank, group.world_size, group.backend
        self.turns = Turns(name)
        self._lanes = Lanes(name)

    def to(self, rank: int) -> Turns:
        """The order of messages to a rank."""
        return self._lanes.to(rank) if self.group.messages_apart else self.turns

    def source(self, rank: int) -> Turns:
        """The order of messages from a rank."""
        return self._lanes.source(rank) if self.group.messages_apart else self.turns

    def leave(self) -> None:
        """Do what was begun, and give back what the group has."""
        self._lanes.close()
        self.turns.close()
        self.group.destroy()


class _Declared(msgspec.Struct, array_like=True):
    """A group that a driver has declared: the actors' ids in the order of their ranks."""

    actors: list[str]
    backend: str
    gloo_timeout: int
    timeout_s: float


class Membership:
    """The groups of this process by their names."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._members: dict[str, Member] = {}
        self._joining: dict[str, threading.Lock] = {}

    def _one_at_a_time(self, name: str) -> threading.Lock:
        """Of threads that join or leave groups of this name. Other names go on: their ranks may wait for each other."""
        with self._lock:
            return self._joining.setdefault(name, threading.Lock())

    def has(self, name: str) -> bool:
        """Whether this process is in a group of this name now."""
        return name in self._members

    def find(self, name: str) -> Member | None:
        """The member, without joining."""
        return self._members.get(name)

    def join(self, name: str, rank: int, size: int, backend: str, gloo_timeout: int, timeout_s: float) -> None:
        """Join a group, and wait for its other ranks.

        Raises RuntimeError if this process is in one of this name, CollectiveTimeoutError if ranks do not come."""
        with self._one_at_a_time(name):
            if name in self._members:
                raise RuntimeError("Trying to initialize a group a second time.")
            self._members[name] = Member(name, make_group(name, rank, size, backend, gloo_timeout, timeout_s))

    def get(self, name: str) -> Member:
        """The member. A process whose actor is in a declared group joins that now.

        Raises RuntimeError if this process is in no group of this name."""
        member = self._members.get(name)
        if member is not None:
            return member
        told = spi.kv_get(_DECLARED, name)
        actor = spi.whoami().actor
        declared = None if told is None else msgspec.msgpack.decode(told, type=_Declared)
        if declared is None or actor is None or actor.hex() not in declared.actors:
            raise RuntimeError(f"The collective group '{name}' is not initialized in the process.")
        rank = declared.actors.index(actor.hex())
        with self._one_at_a_time(name):
            if name not in self._members:
                group = make_group(
                    name, rank, len(declared.actors), declared.backend, declared.gloo_timeout, declared.timeout_s
                )
                self._members[name] = Member(name, group)
            return self._members[name]

    def leave(self, name: str) -> bool:
        """Leave a group, and forget that it was declared. False if this process is in none of this name."""
        with self._one_at_a_time(name):
            member = self._members.pop(name, None)
        spi.kv_delete(_DECLARED, name)
        if member is None:
            return False
        member.leave()
        return True


def declare(
    name: str, actors: Sequence[str], ranks: Sequence[int], backend: str, gloo_timeout: int, timeout_s: float
) -> None:
    """Declare a group of actors, by their ids. They join it at their first operation.

    Raises RuntimeError if one of this name is declared."""
    in_order = [actor for _, actor in sorted(zip(ranks, actors))]
    told = msgspec.msgpack.encode(_Declared(in_order, backend, gloo_timeout, timeout_s))
    if not spi.kv_put(_DECLARED, name, told, overwrite=False):
        raise RuntimeError("Trying to initialize a group twice.")


membership = Membership()

__all__ = ["TIMEOUT_S", "Member", "Membership", "declare", "membership"]
