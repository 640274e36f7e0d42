"""What replicas have read of lent connections, in memory that their proxy shares: a replica that is killed loses none.

Each lent connection has a slot: a head of 40 bytes, and the bytes that were received, which the kernel writes there.
The replica says in the head how far it is with them. The rest of a slot is zero. So what was received is known also
where the replica ended before it could say so, but for a body that ends in zeros.
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
from typing import NamedTuple

#: Connections that one replica has of one proxy at most.
SLOTS = 1024
SLOT_BYTES = 16 * 1024
#: State, where unread bytes begin and end, where the request that was begun ends, bytes of answers: sent, being sent.
_HEAD = struct.Struct("<BxxxIIIQQ")
_REVOKED_AT, _SERVED_AT = 32, 36
HEAD_BYTES = 40
_SERVED = struct.Struct("<I")
#: The same as words of 4 and of 8 bytes. Each is written as a whole, as a process may end between any two: `struct`
#: writes zeros before.
_BEGIN, _USED, _END, _SERVED_WORD = 1, 2, 3, 9
_STATE_AND_BEGIN, _SENT, _ANSWER = 0, 2, 3
#: Bytes of requests in a slot. It is cleared once half of it is used, so a request has half of it for sure.
ROOM_BYTES = SLOT_BYTES - HEAD_BYTES
REQUEST_BYTES = ROOM_BYTES // 2
#: Stands for the length of an answer that goes on.
OPEN_ENDED = (1 << 64) - 1
_ZEROS = bytes(ROOM_BYTES)


class State(enum.IntEnum):
    """How far a replica is with the request in a slot."""

    READING = 0
    BEGUN = 1
    ANSWERING = 2


class Left(NamedTuple):
    """What a replica has left of a connection. ``unread``: received, and not answered. ``rest``: what of that comes
    after the request that was begun. ``sent``: bytes of the answers before, ``answer``: of the one being sent.
    ``served``: how many requests were answered."""

    state: State
    unread: bytes
    rest: bytes
    sent: int
    answer: int
    served: int


def new_memory() -> int:
    """The descriptor of memory for all slots of a lane. Pages that are not used take no room."""
    fd = os.memfd_create("hpc-serve-slots", os.MFD_CLOEXEC)
    os.ftruncate(fd, SLOTS * SLOT_BYTES)
    return fd


class Slots:
    """The memory of a lane. The proxy reads it, and the replica writes it through `Slot`."""

    def __init__(self, fd: int) -> None:
        self.memory = mmap.mmap(fd, SLOTS * SLOT_BYTES)

    def clear(self, number: int) -> None:
        """Make a slot empty, for another connection."""
        at = number * SLOT_BYTES
        self.memory[at : at + SLOT_BYTES] = bytes(SLOT_BYTES)

    def revoke(self, number: int) -> None:
        """Tell the replica, should it go on, that the connection is not its own any more."""
        self.memory[number * SLOT_BYTES + _REVOKED_AT] = 1

    def left(self, number: int) -> Left:
        """What a replica that has ended, or gives the connection back, has left of it."""
        at = number * SLOT_BYTES
        state, begin, used, end, sent, answer = _HEAD.unpack_from(self.memory, at)
        start = at + HEAD_BYTES
        told = self.memory[start + begin : start + used]
        beyond = self.memory[start + used : at + SLOT_BYTES].rstrip(b"\0")
        unread = told + beyond
        served = _SERVED.unpack_from(self.memory, at + _SERVED_AT)[0]
        return Left(State(state), unread, unread[max(end - begin, 0) :] if state else unread, sent, answer, served)

    def close(self) -> None:
        """Let go of the memory."""
        try:
            self.memory.close()
        except BufferError:  # a connection that is being closed still has a view of it
            pass


class Slot:
    """The slot of one connection, as the replica that has it writes it."""

    __slots__ = ("_at", "_longs", "_memory", "_sent", "_start", "_view", "_words", "begin", "served", "used")

    def __init__(self, slots: Slots, number: int) -> None:
        self._memory = slots.memory
        self._at = number * SLOT_BYTES
        self._start = self._at + HEAD_BYTES
        self._view = memoryview(slots.memory)[self._start : self._at + SLOT_BYTES]
        head = memoryview(slots.memory)[self._at : self._start]
        self._words, self._longs = head.cast("I"), head.cast("Q")
        self._sent = 0
        self.begin = self.used = self.served = 0

    @property
    def is_revoked(self) -> bool:
        """Whether the proxy has taken the connection back, since this process was silent."""
        return self._memory[self._at + _REVOKED_AT] != 0

    @property
    def is_full(self) -> bool:
        """Whether nothing more goes in."""
        return self.used == ROOM_BYTES

    def room(self) -> memoryview:
        """Where the next bytes go."""
        return self._view[self.used :]

    def received(self, count: int) -> bytes:
        """This number of bytes has come. Returns all that is unread."""
        self.used += count
        self._words[_USED] = self.used
        return self._memory[self._start + self.begin : self._start + self.used]

    def unread(self) -> bytes:
        """All that is unread."""
        return self._memory[self._start + self.begin : self._start + self.used]

    def began(self, size: int) -> None:
        """A request of this size, the first of what is unread, is served now."""
        self._words[_END] = self.begin + size
        self._memory[self._at] = State.BEGUN

    def answering(self, size: int) -> None:
        """The answer is sent now; ``size``: all of its bytes, or `OPEN_ENDED`."""
        self._longs[_ANSWER] = size
        self._memory[self._at] = State.ANSWERING

    def answered(self, request: int, sent: int) -> None:
        """The request has its answer. ``request``, ``sent``: the bytes of each."""
        self.begin += request
        self._sent += sent
        self.served += 1
        self._words[_SERVED_WORD] = self.served
        self._longs[_STATE_AND_BEGIN] = self.begin << 32 | State.READING
        self._longs[_SENT] = self._sent  # it says something only of an answer that is being sent
        if self.begin == self.used and self.used > REQUEST_BYTES:
            self._view[: self.used] = _ZEROS[: self.used]
            self._words[_USED] = 0
            self._words[_BEGIN] = 0
            self.begin = self.used = 0

    def close(self) -> None:
        """Let go of the memory."""
        for view in (self._view, self._words, self._longs):
            view.release()
