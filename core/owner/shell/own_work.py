"""Work of a library in this process that is no task or call of the runtime: what it is to code that asks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from hpc.core.process.context import TaskContext, beside

if TYPE_CHECKING:
    from hpc.core.owner.shell.client import Client


def tell(client: Callable[[], Client], running: Callable[[], tuple[str, str] | None]) -> None:
    """``running``: what the code that asks belongs to, by a text that is unique in this process, and its name."""

    def context() -> TaskContext | None:
        found = running()
        if found is None:
            return None
        text, name = found
        number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") | 1 << 63
        return TaskContext(client().machine.state.prefix + number.to_bytes(8, "big"), name=name)

    beside.append(context)
