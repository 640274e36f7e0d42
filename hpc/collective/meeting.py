"""How the ranks of a group find each other: each gives some bytes, and gets those of all."""

from __future__ import annotations

import time
from typing import Any, Protocol

import msgspec

from hpc import spi
from hpc.collective.errors import CollectiveError, CollectiveTimeoutError

_SPACE = "collective"


class Meeting(Protocol):
    """A place where all ranks of a group meet, as often as they want."""

    def exchange(self, data: bytes) -> list[bytes]:
        """The bytes of all ranks, in their order. All ranks must call this.

        Raises CollectiveTimeoutError if one does not come in time."""

    def close(self) -> None:
        """Meet no more."""


class _Rank(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What a rank says of itself when it comes."""

    rank: int
    size: int
    backend: str


class _Answer(msgspec.Struct, array_like=True):
    why: str = ""


class SessionMeeting:
    """Through the session: rank 0 says by a key which process it is, and the others open channels to it.

    A key that a process of an earlier group of this name has left leads nowhere. It is waited out: rank 0 sets it anew.
    """

    def __init__(self, group: str, rank: int, size: int, backend: str, timeout_s: float) -> None:
        self._group, self._rank, self._size, self._backend = group, rank, size, backend
        self._until = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._channels: dict[int, spi.Channel] = {}
        if size == 1:
            return
        if rank == 0:
            self._receive_all()
        else:
            self._go()

    def exchange(self, data: bytes) -> list[bytes]:
        if self._size == 1:
            return [data]
        try:
            if self._rank:
                channel = self._channels[0]
                channel.send(data)
                return list(msgspec.msgpack.decode(channel.recv(self._left()), type=list[bytes]))
            found = [data, *(self._channels[r].recv(self._left()) for r in range(1, self._size))]
            packed = msgspec.msgpack.encode(found)
            for channel in self._channels.values():
                channel.send(packed)
            return found
        except spi.ChannelEnded as error:
            raise CollectiveError(
                f"a rank of the group {self._group!r} ended while the group was made: {error}"
            ) from None
        except TimeoutError:
            raise self._late() from None

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def _left(self) -> float:
        return max(0.0, self._until - time.monotonic())

    def _late(self, missing: str = "a rank") -> CollectiveTimeoutError:
        return CollectiveTimeoutError(
            f"{missing} of the group {self._group!r} ({self._size} ranks) did not come within {self._timeout_s:g} s"
        )

    def _receive_all(self) -> None:
        me = spi.whoami().process
        with spi.listen(f"collective/{self._group}") as mailbox:
            spi.kv_put(_SPACE, self._group, msgspec.msgpack.encode(list(me)))
            try:
                while len(self._channels) < self._size - 1:
                    try:
                        channel = mailbox.accept(self._left())
                    except TimeoutError:
                        missing = sorted(set(range(1, self._size)) - self._channels.keys())
                        raise self._late(f"rank {', '.join(map(str, missing))}") from None
                    self._receive(channel)
            except BaseException:
                self.close()
                raise
            finally:
                spi.kv_delete(_SPACE, self._group)
        for channel in self._channels.values():
            channel.send(msgspec.msgpack.encode(_Answer()))

    def _receive(self, channel: spi.Channel) -> None:
        try:
            other = msgspec.msgpack.decode(channel.recv(self._left()), type=_Rank)
        except (spi.ChannelEnded, TimeoutError):
            channel.close()
            return
        why = self._misfit(other)
        if not why:
            self._channels[other.rank] = channel
            return
        for told in (channel, *self._channels.values()):
            told.send(msgspec.msgpack.encode(_Answer(why)))
        channel.close()
        raise CollectiveError(why)

    def _misfit(self, other: _Rank) -> str:
        name = f"group {self._group!r}"
        if other.size != self._size:
            return f"{name}: rank {other.rank} says that it has {other.size} ranks, rank 0 says {self._size}"
        if other.backend != self._backend:
            return f"{name}: rank {other.rank} uses backend {other.backend}, rank 0 {self._backend}"
        if other.rank == 0 or other.rank in self._channels:
            return f"{name}: two processes are rank {other.rank}"
        return ""

    def _go(self) -> None:
        with spi.watch(_SPACE, self._group) as watch:
            while True:
                changes = watch.next(self._left())
                if not changes and not self._left():
                    raise self._late("rank 0")
                value = changes[-1].value if changes else None
                if value is None:
                    continue
                try:
                    self._introduce(spi.Address(*msgspec.msgpack.decode(value, type=list[int])))
                    return
                except spi.ChannelEnded:
                    continue
                except TimeoutError:
                    raise self._late() from None

    def _introduce(self, process: spi.Address) -> None:
        channel = spi.connect(process, f"collective/{self._group}", self._left())
        try:
            channel.send(msgspec.msgpack.encode(_Rank(self._rank, self._size, self._backend)))
            answer = msgspec.msgpack.decode(channel.recv(self._left()), type=_Answer)
        except BaseException:
            channel.close()
            raise
        if answer.why:
            channel.close()
            raise CollectiveError(answer.why)
        self._channels[0] = channel


class StoreMeeting:
    """Through a store of torch.distributed, for its backend that we register."""

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self._store, self._rank, self._size, self._turn = store, rank, size, 0

    def exchange(self, data: bytes) -> list[bytes]:
        self._turn += 1
        self._store.set(f"hpc/{self._turn}/{self._rank}", data)
        return [bytes(self._store.get(f"hpc/{self._turn}/{r}")) for r in range(self._size)]

    def close(self) -> None:
        """The store is torch's."""
