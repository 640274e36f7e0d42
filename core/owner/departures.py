"""Nodes that leave ask which of the objects on them are wanted still: what an owner answers. Pure."""

from __future__ import annotations

from hpc.core.ids import Address
from hpc.core.owner.lineage import Lineage
from hpc.core.owner.state import OwnerState
from hpc.core.owner.tables import TaskRec
from hpc.core.wire import STORED, Leaving, StillWanted


class Departures:
    """What this process says of its own objects. One that it has not heard of yet is not named, nor one that is freed:
    the node hears of that by a Free."""

    def __init__(self, state: OwnerState, lineage: Lineage) -> None:
        self.state, self.lineage = state, lineage

    def on_leaving(self, src: Address, msg: Leaving) -> None:
        """A node leaves, on which these objects are."""
        idents: list[bytes] = []
        nodes: list[list[int]] = []
        again: list[bool] = []
        for ident in msg.idents:
            entry = self.state.entries.get(ident)
            result = entry.result if entry is not None and entry.owned else None
            if result is not None and result.kind == STORED and src.node in result.nodes:
                idents.append(ident)
                nodes.append(list(result.nodes))
                again.append(self._is_made_again(ident))
        self.state.send(src, StillWanted(idents, nodes, again))

    def _is_made_again(self, ident: bytes) -> bool:
        """Whether its task would run again if it were lost. (A call depends on what its actor is then.)"""
        origin = self.lineage.made_by.get(ident)
        return origin is not None and isinstance(origin.rec, TaskRec) and origin.rec.retries != 0
