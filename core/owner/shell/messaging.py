"""Channels as a library uses them: threads that send, read and listen. What happens is decided by `owner.channels`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from hpc.core.exceptions import ChannelEnded, GetTimeoutError
from hpc.core.ids import Address
from hpc.core.owner.channels import ChannelHalf
from hpc.core.owner.tables import Waiter
from hpc.core.wire import MAX_VALUES_BYTES

if TYPE_CHECKING:
    from hpc.core.owner.shell.client import Client

T = TypeVar("T")
#: The largest message.
MAX_MESSAGE_BYTES = MAX_VALUES_BYTES
#: A worker that waits longer than this for the other side lends its CPU to tasks, of which that may be one.
SOON_S = 0.01


def _wait(
    client: Client,
    step: Callable[[], T | None],
    waiters: Callable[[], list[Waiter]],
    timeout_s: float | None,
    what: str,
) -> T:
    """Have ``step`` done, with the lock held, as soon as it gives something; GetTimeoutError if that takes too long."""
    until = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        waiter = Waiter(1)

        def attempt(waiter: Waiter = waiter) -> T | None:
            found = step()
            if found is None:
                client.check_lost()
                waiters().append(waiter)
            return found

        found = client.step(attempt)
        if found is not None:
            return found
        left = None if until is None else max(0.0, until - time.monotonic())
        woken = False
        try:
            woken = client.wait_for(waiter, SOON_S if left is None else min(SOON_S, left))
            if not woken and left != 0:
                left = None if until is None else max(0.0, until - time.monotonic())
                woken = client.wait_for(waiter, left, for_others=True)
        finally:
            if not woken:
                with client.lock:
                    if waiter.needed > 0 and waiter in waiters():
                        waiters().remove(waiter)
        if not woken and until is not None and time.monotonic() >= until and waiter.needed > 0:
            raise GetTimeoutError(f"{what} within {timeout_s} s")


class MessageChannel:
    """Messages to another process of the session and from it: bytes, in order, each way.

    It is made by `connect` and by `Mailbox.accept`. Threads may send and read at the same time. A sender waits while
    4 MiB are on their way or wait at the other side to be read. The end of the other side is told: by ChannelEnded when
    all is read, and at once to one who sends.
    """

    def __init__(self, client: Client, half: ChannelHalf) -> None:
        self._client = client
        self._half = half

    @property
    def peer(self) -> Address:
        """The process at the other end."""
        return self._half.peer

    def send(self, data: bytes | bytearray | memoryview, timeout_s: float | None = None) -> None:
        """Send a message. It is on its way when this returns, and not yet read.

        Raises ChannelEnded if the channel has ended, and ValueError for more than 8 MiB, TypeError for what is no
        bytes. Raises GetTimeoutError if the other side takes nothing, so that there is no room within ``timeout_s``
        seconds.
        """
        message = bytes(memoryview(data))
        if len(message) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message has at most {MAX_MESSAGE_BYTES} bytes, not {len(message)}: send it in pieces")
        half, channels = self._half, self._client.machine.channels

        def step() -> bool | None:
            if half.ended:
                raise self._end()
            if not half.has_room:
                return None
            channels.send(half, message)
            return True

        _wait(self._client, step, lambda: half.waiters, timeout_s, f"{half.peer} took nothing of a full channel")

    def recv(self, timeout_s: float | None = None) -> bytes:
        """The next message, when it has come.

        Raises ChannelEnded if the channel has ended and all is read, GetTimeoutError if none comes within ``timeout_s``
        seconds, SessionLostError if the session is gone."""
        half, channels = self._half, self._client.machine.channels

        def step() -> bytes | None:
            data = channels.take(half)
            if data is None and half.is_drained:
                raise self._end()
            return data

        return _wait(self._client, step, lambda: half.waiters, timeout_s, f"no message from {half.peer}")

    def _end(self) -> ChannelEnded:
        half = self._half
        self._client.check_lost()
        return ChannelEnded(f"the channel with process {half.peer} has ended: {half.why}", half.lost)

    def close(self) -> None:
        """End the channel. The other side reads what was sent before; what was not read here is dropped. Closing again
        changes nothing."""
        client = self._client
        client.step(lambda: client.machine.channels.close(self._half))

    def __iter__(self) -> Iterator[bytes]:
        """All messages until the other side closes the channel. ChannelEnded if its process ends instead."""
        while True:
            try:
                data = self.recv()
            except ChannelEnded as end:
                if end.lost:
                    raise
                return
            yield data

    def __enter__(self) -> MessageChannel:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._half.ended and not self._client.lost:
            self._client.later(self.close)

    def __repr__(self) -> str:
        half = self._half
        return f"<channel with process {half.peer}{', ended' if half.ended else ''}>"


class Mailbox:
    """A name under which this process listens for channels of others, until it is closed or dropped."""

    def __init__(self, client: Client, name: str) -> None:
        self.name = name
        self._client = client
        self._open = client.step(lambda: client.machine.channels.listen(name))
        if not self._open:
            raise ValueError(f"this process listens under the name {name!r} already")

    def accept(self, timeout_s: float | None = None) -> MessageChannel:
        """The next channel that another process opens to this name, when there is one.

        Raises GetTimeoutError if there is none within ``timeout_s`` seconds, ValueError if the mailbox is closed."""
        channels = self._client.machine.channels

        def step() -> ChannelHalf | None:
            if not self._open:
                raise ValueError("the mailbox is closed")
            return channels.accept(self.name)

        what = f"no process opened a channel to {self.name!r}"
        half = _wait(self._client, step, lambda: channels.waiting.get(self.name, []), timeout_s, what)
        return MessageChannel(self._client, half)

    def close(self) -> None:
        """Listen no more. Channels that were accepted stay; those that wait are refused."""
        client = self._client

        def step() -> None:
            if self._open:
                self._open = False
                client.machine.channels.listen_no_more(self.name)

        client.step(step)

    def __enter__(self) -> Mailbox:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._open and not self._client.lost:
            self._client.later(self.close)


def connect(client: Client, peer: Address, name: str, timeout_s: float | None) -> MessageChannel:
    """A channel to a process, once that has accepted it; see `hpc.spi.connect`."""
    channels = client.machine.channels
    client.check_lost()
    half = client.step(lambda: channels.open(peer, name))
    channel = MessageChannel(client, half)

    def step() -> bool | None:
        if half.ended and not half.accepted:
            raise ChannelEnded(f"there is no channel to {name!r} of process {peer}: {half.why}", half.lost)
        return True if half.accepted else None

    try:
        _wait(client, step, lambda: half.waiters, timeout_s, f"process {peer} accepted no channel to {name!r}")
    except BaseException:
        channel.close()
        raise
    return channel
