"""What comes of many references and generators, for one thread that waits for all of them.

`wait` looks at each reference each time. Here each is watched once, and told once: an event costs the same however many
are watched. The thread that waits reads the sockets itself, as any other that waits for a value.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from hpc.core.owner.generator import ObjectRefGenerator
from hpc.core.owner.ref import ObjectRef
from hpc.core.owner.streams import END, item_id, item_ids
from hpc.core.owner.tables import Waiter
from hpc.core.wire import STORED

if TYPE_CHECKING:
    from hpc.core.owner.shell.client import Client


class ArrivalKeys:
    """Tells one thread of what has come. Others may call `poke` and `watch`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._come: deque[Any] = deque()
        self._waiter = Waiter(0)
        self._poked = False

    def watch(self, key: Any, what: ObjectRef[Any] | ObjectRefGenerator) -> None:
        """Have ``key`` told once: when the reference has a value (or an error), or the generator has a further item,
        or has ended."""
        ident = what._id if isinstance(what, ObjectRef) else item_id(what._task, what._taken)
        self._client.values.call_when_ready(ident, partial(self._tell, key))

    def take(self, generator: ObjectRefGenerator) -> tuple[ObjectRef[Any] | None, bool] | None:
        """The next item of a generator, and whether it is an error: without waiting, and without bringing it here. None
        if it is not there yet, (None, False) if there are no more."""
        client, task = self._client, generator._task
        ident = item_id(task, generator._taken)
        result = client.values.result_of(ident)
        if result is None:
            return None
        if result is END:
            return None, False
        machine = client.machine
        with client.lock:
            machine.streams.take_item(task)
            if machine.urgent:
                client.send_left()
        generator._taken += 1
        return ObjectRef(ident, client), result.kind > STORED

    def take_many(self, generator: ObjectRefGenerator, most: int) -> list[ObjectRef[Any]]:
        """The next items that are there, so many at most, up to the first that is an error: as `take`, for less."""
        client, task = self._client, generator._task
        idents = item_ids(task, generator._taken, generator._taken + most)
        result_of, count = client.values.result_of, 0
        for ident in idents:
            result = result_of(ident)
            if result is None or result is END or result.kind > STORED:
                break
            count += 1
        if count:
            machine = client.machine
            with client.lock:
                machine.streams.take_item(task, count)
                if machine.urgent:
                    client.send_left()
            generator._taken += count
        return [ObjectRef(ident, client) for ident in idents[:count]]

    def failed(self, ref: ObjectRef[Any]) -> bool:
        """Whether the value of a reference that has one is an error."""
        result = self._client.values.result_of(ref._id)
        return result is not None and result.kind > STORED

    def next(self, timeout_s: float | None = None) -> list[Any]:
        """The keys of what has come since the last time, the oldest first. Waits until there is one. [] after `poke`,
        and after ``timeout_s`` seconds.

        Raises SessionLostError if the session is gone."""
        client, machine = self._client, self._client.machine
        waiter = self._waiter
        if not self._come and not self._poked:
            with client.lock:
                machine.objects.drain_dropped()
                client.check_lost()
                machine.leases.ask_exactly()
                client.send_left(everything=True)
            waiter.needed = 1
            if self._come or self._poked:
                waiter.needed = 0
            else:
                client.wait_for(waiter, timeout_s, for_others=True)
        self._poked = False
        come = self._come
        return [come.popleft() for _ in range(len(come))]

    def poke(self) -> None:
        """Have `next` return, now or when it is called. From any thread."""
        self._poked = True
        self._wake()

    def _tell(self, key: Any) -> None:
        self._come.append(key)
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter.needed <= 0:
            return
        waiter.needed = 0
        polling = self._client.polling
        if waiter.lock is not None:
            polling.wake(waiter)
        else:
            polling.rouse()
