"""Placement groups that this process has made: objects of its own that have a value while all is reserved."""

from __future__ import annotations

from hpc.core.ids import HEAD, Address
from hpc.core.owner.objects import Objects
from hpc.core.owner.state import OwnerState
from hpc.core.owner.withdraw import Withdraw
from hpc.core.wire import GROUP_CREATED, GROUP_REMOVED, INLINE, NONE, GroupNews, PgState, PgWait, Result, system_error

#: When this many groups are remembered, the dropped ones among them are looked for.
MANY_GROUPS = 1024


class GroupHandles:
    """The groups that have handles here."""

    def __init__(self, state: OwnerState, objects: Objects, withdraw: Withdraw) -> None:
        self.state, self.objects, self.withdraw = state, objects, withdraw
        self.made: dict[bytes, None] = {}

    def make(self) -> bytes:
        """The id of a new placement group, and an object of that id, held once."""
        if len(self.made) >= MANY_GROUPS:
            self._forget_dropped()
        ident = self.state.new_ids()
        self.objects.own(ident)
        self.made[ident] = None
        return ident

    def _forget_dropped(self) -> None:
        self.made = {group: None for group in self.made if group in self.state.entries}

    def on_state(self, src: Address, msg: PgState) -> None:
        """The head says what has become of a group."""
        self.hear(msg.group, msg.state, msg.why)

    def hear(self, group: bytes, state: GroupNews, why: str) -> None:
        """A group that this process made or uses is in this state now."""
        if state == GROUP_REMOVED:
            self.withdraw.group_gone(group, why)
        entry = self.state.entries.get(group)
        if entry is None:
            return
        if state == GROUP_CREATED:
            self.objects.set_result(group, Result(INLINE, NONE))
        elif state == GROUP_REMOVED:
            self.made.pop(group, None)
            self.objects.set_result(group, system_error("TaskPlacementGroupRemoved", why))
        else:
            entry.result = None

    def head_restarted(self) -> None:
        """The news of the groups' states may have ended with the other head: ask the new one."""
        self._forget_dropped()
        for group in self.made:
            self.state.send(HEAD, PgWait(0, group))
