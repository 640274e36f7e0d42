"""The controller's state in the keys of the head: small, and beside it what replicas run, each once and in pieces."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from hpc import spi
from hpc.serve.messages import NAMESPACE

STATE_KEY = "state/machine"
BLOBS = "state/blob/"
#: The most bytes of a key: larger ones are cut.
PIECE_BYTES = 4 << 20


class Keys:
    """What one controller has written. Its methods may be called from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._written: set[str] = set()

    def write_blobs(self, blobs: Mapping[str, bytes]) -> None:
        """Write what has not been written, by its digest. Raises HpcError where the head has no room."""
        with self._lock:
            for digest, blob in blobs.items():
                if digest not in self._written:
                    for at in range(0, len(blob), PIECE_BYTES):
                        spi.kv_put(NAMESPACE, f"{BLOBS}{digest}/{at // PIECE_BYTES:06}", blob[at : at + PIECE_BYTES])
                    self._written.add(digest)

    def drop_blobs(self, digests: Collection[str]) -> None:
        """Delete these."""
        with self._lock:
            for digest in digests:
                spi.kv_delete(NAMESPACE, f"{BLOBS}{digest}/", prefix=True)
            self._written -= set(digests)

    def write(self, data: bytes, blobs: Mapping[str, bytes]) -> None:
        """Write a state and the blobs that it refers to, and delete all others."""
        with self._lock:
            self.write_blobs(blobs)
            spi.kv_put(NAMESPACE, STATE_KEY, data)
            self.drop_blobs(self._written - set(blobs))


def read_state() -> bytes | None:
    """The state that another controller has left; None if there is none."""
    return spi.kv_get(NAMESPACE, STATE_KEY)


def read_blob(digest: str) -> bytes:
    """A blob, put together again."""
    return b"".join(spi.kv_get(NAMESPACE, key) or b"" for key in spi.kv_keys(NAMESPACE, f"{BLOBS}{digest}/"))


def put_all(rows: Mapping[str, bytes | None]) -> None:
    """Write the keys of a service; those without a value are deleted."""
    for key, value in rows.items():
        if value is None:
            spi.kv_delete(NAMESPACE, key)
        else:
            spi.kv_put(NAMESPACE, key, value)
