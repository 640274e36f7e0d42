"""RLlib's forms of values in files: episodes as msgpack with arrays, and compressed observations as text."""

from __future__ import annotations

import base64
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hpc.rllib.env.single_agent_episode import SingleAgentEpisode


def _module(name: str, use: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError(f"{use} needs the package {name}: pip install {name}") from None


def _encode(value: Any) -> Any:
    """Arrays and numbers of numpy as msgpack-numpy writes them."""
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        return {
            b"nd": True,
            b"type": value.dtype.str,
            b"kind": b"",
            b"shape": list(value.shape),
            b"data": np.ascontiguousarray(value).tobytes(),
        }
    if isinstance(value, (np.bool_, np.number)):
        return {b"nd": False, b"type": value.dtype.str, b"data": value.tobytes()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"an episode's {type(value).__name__} cannot be recorded: {value!r}")


def _decode(found: dict[Any, Any]) -> Any:
    if b"nd" not in found:
        return found
    if found[b"nd"] is True:
        if found.get(b"kind") == b"O":
            return pickle.loads(found[b"data"])
        kind = found[b"type"]
        dtype = np.dtype(kind.decode() if isinstance(kind, bytes) else kind)
        return np.frombuffer(found[b"data"], dtype).reshape(found[b"shape"]).copy()
    return np.frombuffer(found[b"data"], np.dtype(found[b"type"]))[0]


def pack_episode(episode: SingleAgentEpisode) -> bytes:
    """An episode as RLlib records it."""
    state = episode.get_state()
    state["_observation_space"] = state["_action_space"] = None
    for part in (*(state[name] for name in ("observations", "actions", "rewards", "infos")),):
        part["space"] = None
    for part in (state["extra_model_outputs"] or {}).values():
        part["space"] = None
    packed: bytes = _module("msgpack", "recording episodes").packb(state, default=_encode)
    return packed


def unpack_episode(packed: bytes) -> SingleAgentEpisode:
    """An episode that RLlib, or `pack_episode`, has recorded."""
    from hpc.rllib.env.single_agent_episode import SingleAgentEpisode

    msgpack = _module("msgpack", "reading recorded episodes")
    state = msgpack.unpackb(packed, object_hook=_decode, strict_map_key=False)
    state["_observation_space"] = state["_action_space"] = None
    for name in ("observations", "actions", "rewards", "infos"):
        state[name]["space"] = None
    for part in (state["extra_model_outputs"] or {}).values():
        part["space"] = None
    return SingleAgentEpisode.from_state(state)


def unpack_text(value: str | bytes) -> Any:
    """A value that RLlib compressed: base64 of LZ4 of a pickle. Read only files that you trust."""
    lz4 = _module("lz4.frame", "reading compressed columns")
    return pickle.loads(lz4.decompress(base64.b64decode(value)))
