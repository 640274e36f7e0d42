"""Space in the arena that a process fills by itself, without a copy, and then makes an object of."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hpc.core.owner.ref import ObjectRef
from hpc.core.serialization import bytes_in_place

if TYPE_CHECKING:
    from hpc.core.owner.shell.client import Client


class Buffer:
    """Bytes in this node's arena that nobody else sees until they are sealed.

    ``view`` is writable. `seal` makes an object of the bytes. A buffer may be abandoned, left by a ``with`` statement,
    or dropped before that. It gives its space back when the last array or other view that was made of ``view`` is gone.
    """

    def __init__(self, client: Client, nbytes: int) -> None:
        import numpy as np

        self.nbytes = nbytes
        self._client = client
        head, place, self._size = bytes_in_place(nbytes)
        with client.lock:
            client.check_lost()
            self._ident = client.machine.new_ids()
        self._offset, space = client.arena_use.reserve(self._ident, self._size)
        space[: len(head)] = head
        # Lives as long as any view or array of the bytes, which `memoryview` alone does not tell of arrays.
        base = np.frombuffer(space[place : self._size], np.uint8)
        self._base = weakref.ref(base)
        self._unsealed = weakref.finalize(base, _give_back, client, self._offset, self._size)
        self._unsealed.atexit = False
        self.view = memoryview(base)  # type: ignore[arg-type]
        self._open = True

    def seal(self) -> ObjectRef[Any]:
        """Make an object of the bytes: its value is an array of them, which can be read and not written to. ``view``
        ends. Raises ValueError as long as there is an array or another view of the bytes, and if the buffer was sealed
        or abandoned already."""
        if not self._open:
            raise ValueError("the buffer was sealed or abandoned already")
        self._unsealed.detach()
        with suppress(BufferError):  # of C code that looks at it; then the base lives
            self.view.release()
        base = self._base()
        if base is not None:
            self._unsealed = weakref.finalize(base, _give_back, self._client, self._offset, self._size)
            self.view = memoryview(base)  # type: ignore[arg-type]
            raise ValueError(
                "an array or another view of the buffer is in use: delete it first, so that nobody writes into it "
                "afterwards"
            )
        self._open = False
        client = self._client
        with client.lock:
            client.arena_use.seal(self._ident, self._offset, self._size)
            client.machine.objects.put_stored(self._ident, self._size, [])
            client.send_left()
        return ObjectRef(self._ident, client)

    def abandon(self) -> None:
        """Make nothing of the bytes. What was sealed or abandoned already stays so."""
        if self._open:
            self._open = False
            with suppress(BufferError):
                self.view.release()

    def __enter__(self) -> Buffer:
        return self

    def __exit__(self, *_error: object) -> None:
        self.abandon()

    def __repr__(self) -> str:
        return f"<buffer of {self.nbytes} bytes{'' if self._open else ', sealed or abandoned'}>"


def _give_back(client: Client, offset: int, size: int) -> None:
    """The last view of a buffer that was not sealed is gone: called by the garbage collector, in any thread."""

    def abandon() -> None:
        with client.lock:
            client.arena_use.abandon(offset, size)

    if not client.lost:
        client.later(abandon)
