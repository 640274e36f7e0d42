"""What a library has a client do to tell of its runs, each in one step."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpc.core.owner.shell.bulletins import BulletinSource
    from hpc.core.owner.shell.client import Client
    from hpc.core.wire import Answer, BulletinQuery


def begin(client: Client, source: BulletinSource) -> int:
    """A run of this process begins, see `BulletinTelling.begin`."""
    return client.step(lambda: client.telling.bulletins.begin(source))


def end(client: Client, number: int) -> None:
    """A run of this process is over, see `BulletinTelling.end`."""
    client.step(lambda: client.telling.bulletins.end(number))


def answer(client: Client, query: BulletinQuery) -> Answer:
    """What a run of this process says to a question of its own."""
    return client.step(lambda: client.telling.bulletins.answer(query))
