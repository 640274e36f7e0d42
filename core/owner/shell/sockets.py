"""The connections of a driver or worker: to its raylet, and directly to processes of its node.

What is read goes to the client as frames. What is sent goes to a process directly, if it is on this node and listens,
else by the raylet.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from hpc.core.ids import Address
from hpc.core.net.accept import Acceptor
from hpc.core.net.frames import encode_frames
from hpc.core.net.stream import Stream, StreamError, check_peer, connect
from hpc.core.owner.shell.spin import Spinner
from hpc.core.wire import MAX_FRAME_BYTES, Message, encode_frame

if TYPE_CHECKING:
    import threading

#: Messages in one frame, at most.
FRAME_MESSAGES = 256
#: The last bytes of a process that has died are in its socket by then.
LAST_WORDS_S = 0.2

#: Frames as they come from a stream: destination, source, body.
Frames = list[tuple[Address, Address, bytes]]


class FrameTaker(Protocol):
    """What sockets need of the client: its lock, which guards the sending, and somebody who takes what is read."""

    addr: Address
    lock: threading.Lock

    def take_frames(self, stream: Stream, frames: Frames) -> None:
        """Frames have come."""

    def closed(self, stream: Stream) -> None:
        """The other end has closed the connection."""

    def cut(self, stream: Stream, why: str) -> None:
        """What comes from the other end cannot be understood."""

    def send_instead(self, msg: Message, size: int) -> Message | None:
        """What to send in place of a message that is too large (the lock is held)."""

    def warn(self, text: str) -> None:
        """Show a warning of the runtime to the user."""


class Sockets:
    """The streams of one process, and what wakes it. ``paths`` has the sockets of processes of this node that listen;
    one that does not answer leaves it."""

    def __init__(self, reader: FrameTaker, raylet: Stream, paths: dict[Address, str], spin_s: float | None) -> None:
        self.raylet = raylet
        self.streams: dict[Address, Stream] = {}
        self.acceptor: Acceptor | None = None
        self._reader = reader
        self._addr = reader.addr
        self._paths = paths
        self._spin = Spinner(spin_s).spin
        #: Whether what came last came for us, and not for what is polled beside: the next may come at once, too.
        self._spins = True
        self._by_fd: dict[int, Stream] = {}
        self._epoll = select.epoll()
        self._kick_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._kick_fd, select.EPOLLIN)
        self._watch(raylet)

    # -------------------------------------------------------------- reading

    def _watch(self, stream: Stream) -> None:
        self._by_fd[stream.fd] = stream
        self._epoll.register(stream.fd, select.EPOLLIN)

    def listen(self, sock: socket.socket) -> None:
        """Take direct connections of other processes of this node."""
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        watch = self._epoll.modify
        self.acceptor = Acceptor(sock, lambda on: watch(sock, select.EPOLLIN if on else 0), self._reader.warn)

    def kick(self) -> None:
        """Wake the thread that polls."""
        try:
            os.eventfd_write(self._kick_fd, 1)
        except OSError:
            pass

    def poll(self, timeout_s: float, beside: select.epoll | None = None) -> None:
        """Wait for something to read, read it and hand it to the client. The caller holds the right to poll.

        A thread that waits for other things too gives an epoll that has them and our `fileno`.
        """
        poll = self._epoll.poll
        if beside is None:
            events = poll(0)
            if not events and timeout_s > 0:
                events = self._spin(poll) or poll(timeout_s)
        else:
            found = beside.poll(0)
            if not found and timeout_s > 0:
                found = (self._spins and self._spin(beside.poll)) or beside.poll(timeout_s)
            own = self._epoll.fileno()
            self._spins = any(fd == own for fd, _ in found)
            events = poll(0) if self._spins else []
        for fd, what in events:
            stream = self._by_fd.get(fd)
            if stream is not None:
                if what & select.EPOLLOUT:
                    with self._reader.lock:
                        stream.flush()
                        if not stream.wants_write:
                            self._epoll.modify(fd, select.EPOLLIN)
                if what & ~select.EPOLLOUT:
                    self._read(stream)
            elif fd == self._kick_fd:
                try:
                    os.eventfd_read(self._kick_fd)
                except OSError:
                    pass
            else:
                self._accept()

    def any_unsent(self) -> bool:
        """Whether bytes wait for room in a socket."""
        return self.raylet.wants_write or any(stream.wants_write for stream in self.streams.values())

    def fileno(self) -> int:
        """A descriptor that is readable when a poll would find something."""
        return self._epoll.fileno()

    def _accept(self) -> None:
        sock = self.acceptor.take() if self.acceptor is not None else None
        if sock is not None:
            try:
                check_peer(sock)
            except OSError:
                sock.close()
            else:
                self._watch(Stream(sock))

    def _read(self, stream: Stream) -> None:
        try:
            frames = stream.receive()
        except StreamError as error:
            self._reader.cut(stream, str(error))
            return
        if frames and stream is not self.raylet and not _is_own(stream, frames):
            self._reader.cut(stream, "it spoke for another process")
        elif frames:
            self._reader.take_frames(stream, frames)
        elif stream.eof:
            self._reader.closed(stream)

    def last_words(self, process: Address) -> Iterator[Frames]:
        """What a process that has died had sent before."""
        stream = self.streams.get(process)
        while stream is not None and not stream.eof:
            try:
                frames = stream.receive()
            except StreamError:
                return
            if not frames and not stream.eof and not select.select([stream.fd], [], [], LAST_WORDS_S)[0]:
                return
            yield frames

    def named(self, stream: Stream, peer: Address) -> None:
        """The process at the other end has said who it is (the lock is held)."""
        stream.peer = peer
        self.streams[peer] = stream

    def drop(self, stream: Stream) -> None:
        """Close a stream (the lock is held)."""
        try:
            self._epoll.unregister(stream.fd)
        except (OSError, ValueError):
            pass
        self._by_fd.pop(stream.fd, None)
        if isinstance(stream.peer, Address) and self.streams.get(stream.peer) is stream:
            del self.streams[stream.peer]
            self._paths.pop(stream.peer, None)
        stream.close()

    # -------------------------------------------------------------- sending

    def _route(self, dst: Address) -> Stream:
        """The stream to a process: a direct one if it is on this node and listens, else by the raylet."""
        path = self._paths.get(dst)
        if path is None:
            return self.raylet
        try:
            stream = Stream(connect(path, 1.0))
        except OSError:
            self._paths.pop(dst, None)
            return self.raylet
        self.named(stream, dst)
        self._watch(stream)
        return stream

    def send(self, dst: Address, messages: list[Message]) -> None:
        """Send to a process, directly or by the raylet (the lock is held)."""
        stream, source = self.streams.get(dst), self._addr
        if stream is None:
            stream = self._route(dst)
        if len(messages) <= FRAME_MESSAGES and len(frame := encode_frame(dst, source, messages)) <= MAX_FRAME_BYTES:
            stream.send(frame)
        else:
            frame = b""
            for at in range(0, len(messages), FRAME_MESSAGES):
                for part in encode_frames(dst, source, messages[at : at + FRAME_MESSAGES], self._reader.send_instead):
                    stream.send(part)
        if stream.wants_write:
            try:
                self._epoll.modify(stream.fd, select.EPOLLIN | select.EPOLLOUT)
            except (OSError, ValueError):
                pass

    # -------------------------------------------------------------- leaving

    def close(self) -> None:
        """Close all streams. Nobody polls any more."""
        for stream in [*self._by_fd.values()]:
            stream.close()
        self._epoll.close()
        os.close(self._kick_fd)

    def close_copies(self) -> None:
        """In a forked child: close its copies of the descriptors; the parent's connections stay."""
        for stream in [*self._by_fd.values()]:
            stream.sock.close()
        self._epoll.close()
        try:
            os.close(self._kick_fd)
        except OSError:
            pass


def _is_own(stream: Stream, frames: Frames) -> bool:
    """Whether the process at the other end speaks for itself alone. What raylets say comes from the raylet."""
    peer: Any = stream.peer or frames[0][1]
    return bool(peer[1]) and not [src for _, src, _ in frames if src != peer]
