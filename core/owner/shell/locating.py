"""Asking the owners of objects where these lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from hpc.core.ids import Address, owner_of
from hpc.core.owner.places import UNKNOWN, PlaceRow
from hpc.core.owner.tables import Waiter
from hpc.core.wire import Answer, Locate

if TYPE_CHECKING:
    from hpc.core.owner.ports import Line, Reference
    from hpc.core.owner.shell.conversation import Conversation, Pending

_decode = msgspec.msgpack.Decoder(list[PlaceRow]).decode


def locate(line: Line, conversation: Conversation, refs: Sequence[Reference], timeout_s: float) -> list[PlaceRow]:
    """The places of these objects, in their order: of our own without a question, of others' with one question to each
    owner. UNKNOWN where the owner has ended or did not answer in time."""
    machine = line.machine
    rows: dict[bytes, PlaceRow] = {}
    by_owner: dict[Address, list[bytes]] = {}
    for ref in refs:
        by_owner.setdefault(owner_of(ref._id), []).append(ref._id)
    waiter = Waiter(0)
    asked: list[tuple[list[bytes], list[Pending]]] = []
    with line.lock:
        line.check_lost()
        mine = by_owner.pop(line.addr, [])
        rows.update(zip(mine, machine.places.of(mine)))
        for owner, idents in by_owner.items():
            if owner not in machine.state.gone and owner.node not in machine.state.gone_nodes:
                asked.append((idents, conversation.ask_each([owner], _question(idents), waiter)))
    line.wait_for(waiter, timeout_s)
    with line.lock:
        answers = [(idents, conversation.take_answers(questions)) for idents, questions in asked]
    for idents, found in answers:
        for answer in found.values():
            assert isinstance(answer, Answer)
            rows.update(zip(idents, _decode(answer.data)))
    nothing: PlaceRow = (UNKNOWN, 0, ())
    return [rows.get(ref._id, nothing) for ref in refs]


def _question(idents: list[bytes]) -> Any:
    return lambda number: Locate(number, idents)
