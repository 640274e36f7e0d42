"""Messages between a runner and an external environment: msgpack behind a length of eight digits, as RLlib has them."""

from __future__ import annotations

import socket
import time
from enum import Enum
from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.utils.spaces.space_dicts import space_from_dict, space_to_dict

#: The longest message that eight digits can announce.
MAX_BYTES = 99_999_999
_HEADER = 8


class RLlink(Enum):
    """The types of messages."""

    # From the environment.
    PING = "PING"
    EPISODES = "EPISODES"
    GET_STATE = "GET_STATE"
    GET_CONFIG = "GET_CONFIG"
    EPISODES_AND_GET_STATE = "EPISODES_AND_GET_STATE"
    # From the runner.
    PONG = "PONG"
    SET_STATE = "SET_STATE"
    SET_CONFIG = "SET_CONFIG"

    def __str__(self) -> str:
        return self.name


def _msgpack() -> Any:
    try:
        import msgpack
    except ImportError as error:
        raise ImportError("external environments need the package msgpack: pip install 'hpc[rllib]'") from error
    return msgpack


def _packed(value: Any) -> Any:
    """What msgpack does not know, as package msgpack-numpy writes arrays."""
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return value.tolist()
        return {
            b"nd": True,
            b"type": value.dtype.str,
            b"kind": b"",
            b"shape": value.shape,
            b"data": np.ascontiguousarray(value).tobytes(),
        }
    if isinstance(value, (np.bool_, np.number)):
        return {b"nd": False, b"type": value.dtype.str, b"data": value.tobytes()}
    if isinstance(value, gym.Space):
        return {"__space__": space_to_dict(value)}
    raise TypeError(f"{type(value).__name__} cannot be sent to an external environment: {value!r}")


def _unpacked(found: dict[Any, Any]) -> Any:
    if "__space__" in found:
        return space_from_dict(found["__space__"])
    names = {name.decode() if isinstance(name, bytes) else name: value for name, value in found.items()}
    if "nd" not in names or "data" not in names:
        return found
    kind = names["type"]
    kind = np.dtype(kind.decode() if isinstance(kind, bytes) else kind)
    if kind.hasobject:
        raise ValueError("arrays of objects are not received")
    flat = np.frombuffer(names["data"], kind)
    return flat.reshape(names["shape"]).copy() if names["nd"] else flat[0]


def send_rllink_message(sock_: socket.socket, message: dict[str, Any]) -> None:
    """Send a message; its "type" is the name of a member of `RLlink`.

    Raises:
        ConnectionError: the other side is gone.
        ValueError: it has more than 99,999,999 bytes.
    """
    body = _msgpack().packb(message, use_bin_type=True, default=_packed)
    if len(body) > MAX_BYTES:
        raise ValueError(f"a message of {len(body)} bytes is too long: {MAX_BYTES} at most; send fewer steps at once")
    try:
        sock_.sendall(f"{len(body):0{_HEADER}d}".encode() + body)
    except OSError as error:
        raise ConnectionError(f"Error sending message {message.get('type')} on socket {sock_}: {error}") from error


def get_rllink_message(
    sock_: socket.socket, *, longest: int = MAX_BYTES, plain: bool = False, within_s: float | None = None
) -> tuple[RLlink, dict[str, Any]]:
    """Receive a message.

    Args:
        longest: How many bytes it may have.
        plain: Whether nothing but msgpack's own types are made of it: for peers that are not trusted yet.
        within_s: How long it may take as a whole; None for as long as the socket waits.

    Raises:
        ConnectionError: the other side is gone, or it sent what is no message.
    """
    deadline = None if within_s is None else time.monotonic() + within_s
    try:
        length = int(_exactly(sock_, _HEADER, deadline).decode())
        if not 0 <= length <= longest:
            raise ValueError(f"a message of {length} bytes: {longest} at most are taken here")
        body = _exactly(sock_, length, deadline)
        hook = None if plain else _unpacked
        message = _msgpack().unpackb(body, raw=False, object_hook=hook, strict_map_key=False)
        if not isinstance(message, dict) or "type" not in message:
            raise ConnectionError("Protocol Error! Message from peer does not contain `type` field.")
        return RLlink(message.pop("type")), message
    except ImportError:
        raise
    except Exception as error:
        # What a peer may send makes numpy and the spaces raise errors of many kinds.
        raise ConnectionError(
            f"Error receiving message from peer on socket {sock_}! Original error was: {error}"
        ) from error


def _exactly(sock_: socket.socket, count: int, deadline: float | None = None) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        if deadline is not None:
            sock_.settimeout(max(deadline - time.monotonic(), 1e-3))
        packet = sock_.recv(min(count - len(parts), 1 << 20))
        if not packet:
            raise ConnectionError(f"No data received from socket {sock_}!")
        parts += packet
    return bytes(parts)
