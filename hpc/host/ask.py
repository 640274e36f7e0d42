"""One question to a session's head, from a process that is not connected to it, or whose connection is the user's.

A connection is made for the question and closed again: about a millisecond, no thread, nothing that has to be kept
alive. Rejected: a connection that stays (somebody must then read what the raylet tells every process).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from hpc.core.owner.shell.client import Client
from hpc.core.process.job import pack_job
from hpc.core.wire import Answer, ClusterQuery, KvDelete, KvGet, KvKeys, KvPut, Message


def ask_head(node_dir: str, build: Callable[[int], Message], timeout_s: float = 2.0) -> Answer:
    """The head's answer. OSError or an exception of `hpc.exceptions` when there is none."""
    client = Client(node_dir, "driver", pack_job({}), spin_s=0.0)
    try:
        return client.conversation.ask_head(build, timeout_s)
    finally:
        client.close()


def node_rows(node_dir: str) -> list[dict[str, Any]]:
    """The head's view of the nodes, dead ones too."""
    rows: list[dict[str, Any]] = msgspec.json.decode(ask_head(node_dir, lambda req: ClusterQuery(req, "nodes")).data)
    return rows


def kv_put(node_dir: str, namespace: str, key: bytes, value: bytes) -> None:
    """Set a key; RuntimeError when the store refuses it."""
    answer = ask_head(node_dir, lambda req: KvPut(req, namespace, key, value))
    if not answer.ok:
        raise RuntimeError(answer.why)


def kv_get(node_dir: str, namespace: str, key: bytes) -> bytes | None:
    """The value of a key, or None."""
    answer = ask_head(node_dir, lambda req: KvGet(req, namespace, key))
    return answer.data if answer.ok else None


def kv_delete(node_dir: str, namespace: str, key: bytes) -> None:
    """Delete a key, if it is there."""
    ask_head(node_dir, lambda req: KvDelete(req, namespace, key))


def kv_keys(node_dir: str, namespace: str) -> list[bytes]:
    """All keys of a namespace."""
    keys: list[bytes] = msgspec.msgpack.decode(ask_head(node_dir, lambda req: KvKeys(req, namespace, b"")).data)
    return keys
