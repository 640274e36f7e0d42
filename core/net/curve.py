"""Admission of connections: CURVE keys, the allow-list, and the ZAP handler that applies it.

CURVE without a ZAP handler encrypts, and lets everybody in; so every listening socket has a handler. The packets read
from a connection carry its key (User-Id), so that one node cannot speak for another.

Rejected: zmq.auth's authenticators (a thread or asyncio, keys in directories); keys in files (they never leave the
process that made them, only public keys travel).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import zmq
from zmq.utils import z85

from hpc.core.net.reactor import Reactor

log = logging.getLogger(__name__)

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"hpc"
KEY_BYTES = 32
MAX_LOGGED_REJECTIONS = 5  # per LOG_WINDOW_S
LOG_WINDOW_S = 10.0
HOLD_S = 9.5  # how long the question about an unknown key stays open; just below the links' handshake timeout
MAX_HELD = 4096  # questions held at the same time; above that unknown keys are refused at once
UNKNOWN_KEY = "unknown key"
_UNKNOWN = -1


def key_to_user_id(key: str | bytes) -> str:
    """A public key as Z85 text -> the form in which packets carry it (hex). ValueError when it is no key."""
    text = key if isinstance(key, bytes) else key.encode("ascii", "replace")
    if len(text) != 40:
        raise ValueError(f"a CURVE key is 40 characters of Z85, not {len(text)}")
    try:
        raw = z85.decode(text)
    except Exception as error:
        raise ValueError("not a CURVE key in Z85") from error
    return raw.hex()


@dataclass(frozen=True)
class KeyPair:
    """A CURVE key pair as Z85 text. The secret half stays out of repr and must stay out of messages."""

    public: str
    secret: str = field(repr=False)

    @classmethod
    def make(cls) -> KeyPair:
        public, secret = zmq.curve_keypair()
        return cls(public.decode("ascii"), secret.decode("ascii"))


class AllowList:
    """Which public keys may connect, and for which node each may speak (None: for any)."""

    def __init__(self, entries: Mapping[str, int | None] | None = None) -> None:
        self._nodes: dict[str, int | None] = {}
        # called with the user id of each key that is added: a connection may be waiting for it
        self.listeners: list[Callable[[str], object]] = []
        for key, node in (entries or {}).items():
            self.add(key, node)

    def add(self, key: str | bytes, node: int | None = None) -> None:
        user_id = key_to_user_id(key)
        self._nodes[user_id] = node
        for listener in tuple(self.listeners):
            listener(user_id)

    def remove(self, key: str | bytes) -> None:
        """Refuse the key from now on; packets on its open connections are refused too."""
        self._nodes.pop(key_to_user_id(key), None)

    def knows(self, user_id: str) -> bool:
        return user_id in self._nodes

    def may_speak(self, user_id: str, node: int) -> bool:
        allowed = self._nodes.get(user_id, _UNKNOWN)
        return allowed is None or allowed == node

    def __contains__(self, key: str | bytes) -> bool:
        return key_to_user_id(key) in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)


class LogLimit:
    """Lets a few log lines through per window and counts the others."""

    def __init__(self, lines: int = MAX_LOGGED_REJECTIONS, window_s: float = LOG_WINDOW_S) -> None:
        self._lines = lines
        self._window_s = window_s
        self._since = float("-inf")
        self._count = 0

    def warn(self, logger: logging.Logger, text: str, *values: object) -> None:
        now = time.monotonic()
        if now - self._since > self._window_s:
            if self._count > self._lines:
                logger.warning("%d more warnings like the next were left out", self._count - self._lines)
            self._since = now
            self._count = 0
        self._count += 1
        if self._count <= self._lines:
            logger.warning(text, *values)


class ZapHandler:
    """Answers ZeroMQ's question for each new connection of the context: is this key allowed?

    One per context, made before the sockets that it guards; those set CURVE_SERVER and ZAP_DOMAIN.

    Nodes dial each other while their keys are still being told around, so a connection with an unknown key is not
    refused at once. Its question stays open for `hold_s`, and is answered when the key is added meanwhile. The refusal
    is a 300, "try again later": after a 400 libzmq never dials again.
    """

    def __init__(self, context: zmq.Context[Any], reactor: Reactor, allow: AllowList, hold_s: float = HOLD_S) -> None:
        self._reactor = reactor
        self._allow = allow
        self._hold_s = hold_s
        self._limit = LogLimit()
        self._held: dict[str, list[list[bytes]]] = {}
        self._held_count = 0
        self.accepted = 0
        self.rejected = 0
        self._socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.bind(ZAP_ENDPOINT)
        reactor.add_zmq(self._socket, self._on_request)
        allow.listeners.append(self._on_key)

    @property
    def held(self) -> int:
        """Connections whose key is not known yet."""
        return self._held_count

    def _on_request(self) -> None:
        try:
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
        # route, empty, version, request, domain, address, identity, mechanism, credentials...
        if len(frames) < 8:
            self.rejected += 1
            return
        user_id, why = self._judge(frames[4], frames[7], frames[8:])
        if why and user_id and self._held_count < MAX_HELD:  # a key, and one that we may be told of soon
            self._held.setdefault(user_id, []).append(frames)
            self._held_count += 1
            self._reactor.call_later(self._hold_s, lambda: self._give_up(user_id, frames))
        else:
            self._answer(frames, user_id, why)

    def _on_key(self, user_id: str) -> None:
        held = self._held.pop(user_id, [])
        self._held_count -= len(held)
        for frames in held:
            self._answer(frames, user_id, "")

    def _give_up(self, user_id: str, frames: list[bytes]) -> None:
        held = self._held.get(user_id, [])
        if frames in held:
            held.remove(frames)
            self._held_count -= 1
            if not held:
                del self._held[user_id]
            self._answer(frames, user_id, UNKNOWN_KEY)

    def _answer(self, frames: list[bytes], user_id: str, why: str) -> None:
        if self._socket.closed:
            return
        if why:
            self.rejected += 1
            shown = frames[5].decode("ascii", "replace")
            self._limit.warn(log, "refused a connection from %s: %s (%d so far)", shown, why, self.rejected)
        else:
            self.accepted += 1
        verdict = (b"300", b"key not known") if why else (b"200", b"OK")
        answer = [*frames[:3], frames[3], *verdict, b"" if why else user_id.encode("ascii"), b""]
        self._socket.send_multipart(answer, zmq.NOBLOCK)
        self._reactor.touch(self._socket)

    def _judge(self, domain: bytes, mechanism: bytes, credentials: list[bytes]) -> tuple[str, str]:
        """The user id of the connection (empty: it has no key), and why it is refused (empty: it is not)."""
        if domain != ZAP_DOMAIN:
            return "", "unknown domain"
        if mechanism != b"CURVE" or len(credentials) != 1 or len(credentials[0]) != KEY_BYTES:
            return "", "no CURVE key"
        user_id = credentials[0].hex()
        return user_id, "" if self._allow.knows(user_id) else UNKNOWN_KEY

    def close(self) -> None:
        self._allow.listeners.remove(self._on_key)
        self._held.clear()
        self._reactor.remove_zmq(self._socket)
        self._socket.close(0)


def guard_server(socket: zmq.Socket[Any], keys: KeyPair) -> None:
    """Make a listening socket demand CURVE and ask the context's ZapHandler. Call it before bind."""
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode("ascii"))
    socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)


def guard_client(socket: zmq.Socket[Any], keys: KeyPair, server_public_key: str | bytes) -> None:
    """Make a dialing socket show its key and accept no other server. Call it before connect."""
    key_to_user_id(server_public_key)  # raises what a caller understands, before ZeroMQ says EINVAL
    server = server_public_key if isinstance(server_public_key, bytes) else server_public_key.encode("ascii")
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode("ascii"))
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode("ascii"))
    socket.setsockopt(zmq.CURVE_SERVERKEY, server)
