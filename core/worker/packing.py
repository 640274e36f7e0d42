"""Arguments out of messages, and results into them. Small values go into the message, large ones into the arena."""

from __future__ import annotations

from typing import Any

from hpc.core import serialization
from hpc.core.arguments import ArgSlot
from hpc.core.ids import Address, return_id
from hpc.core.owner.shell.client import Client
from hpc.core.owner.shell.values import INLINE_BYTES
from hpc.core.wire import INLINE, MAX_VALUES_BYTES, NO_ARGUMENTS, NONE, STORED, Result

#: The value of a task that returned nothing, and its results.
NOTHING = Result(INLINE, NONE)
RETURNED_NONE = [NOTHING]


class Packed(list[Result]):
    """What a generator gave, ready to be sent: where others return a value."""


class Packing:
    """The values of one worker, on their way in and out."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def arguments(self, msg: Any, met: list[bytes]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments, with references replaced by what they resolved to. ``met`` gets the names
        of the references inside."""
        if not msg.refs and msg.args == NO_ARGUMENTS:
            return (), {}
        context = serialization.context
        context.met = met
        try:
            given = serialization.loads(msg.args)
            args, kwargs = given if type(given) is tuple else (given, {})
            return self._resolved(msg, args, kwargs) if msg.refs else (args, kwargs)
        finally:
            context.met = None

    def _resolved(self, msg: Any, args: Any, kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        load = self._client.values.load
        if len(msg.refs) > 1:
            results = dict(zip(msg.refs, msg.values))
            pins = self._client.values.admit(results)
            values = [load(ident, results[ident]) for ident in msg.refs]
            self._client.machine.pins.unviewed.extend(pins)
        else:
            values = [load(msg.refs[0], msg.values[0])]
        if type(args) is ArgSlot:
            args, kwargs = values[args.index]  # too large for the message, all of them together
        args = tuple(values[a.index] if type(a) is ArgSlot else a for a in args)
        kwargs = {k: values[v.index] if type(v) is ArgSlot else v for k, v in kwargs.items()}
        return args, kwargs

    def results(self, src: Address, task: bytes, attempt: int, num_returns: int, value: Any) -> list[Result]:
        """What a task returned, packed: small values into the message, large ones into the arena."""
        if type(value) is Packed:
            return value
        if num_returns == 1:
            if value is None:
                return RETURNED_NONE
            simple = serialization.dumps_simple(value)
            if simple is not None and len(simple) <= INLINE_BYTES:
                return [Result(INLINE, simple)]
            values = [value]
        elif num_returns == 0:
            return []
        else:
            try:
                values = list(value)
            except TypeError:
                raise TypeError(
                    f"the task has num_returns={num_returns} and returned one {type(value).__name__}"
                ) from None
            if len(values) != num_returns:
                raise ValueError(f"the task has num_returns={num_returns} and returned {len(values)} values")
        handed: list[bytes] = []
        packed: list[Result] = []
        room = MAX_VALUES_BYTES
        for index, one in enumerate(values):
            result = self.pack_one(return_id(task, index), one, handed, room)
            room -= len(result.data)
            packed.append(result)
        if handed:
            with self._client.lock:
                self._client.machine.objects.hand_over(task, attempt, src, handed)
        return packed

    def pack_one(self, ident: bytes, value: Any, handed: list[bytes], room: int = INLINE_BYTES) -> Result:
        """One value. A small one goes into the message if it takes at most ``room`` bytes."""
        data = serialization.dumps(value)
        inner = tuple([ref._id for ref in data.refs])
        handed += inner
        if data.size <= min(room, INLINE_BYTES):
            return Result(INLINE, data.to_bytes(), inner=inner)
        self._client.arena_use.store(ident, data, keep=False)
        return Result(STORED, b"", data.size, (self._client.addr.node,), inner)

    def pack(self, src: Address, ident: bytes, attempt: int, value: Any) -> Result:
        """One item of a generator, packed; references inside are handed over under the item's own name."""
        handed: list[bytes] = []
        result = self.pack_one(ident, value, handed)
        if handed:
            with self._client.lock:
                self._client.machine.objects.hand_over(ident, attempt, src, handed)
        return result
