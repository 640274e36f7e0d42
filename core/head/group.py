"""A placement group as the head knows it: what is wanted, what it has, and where what it misses could go."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct, field

from hpc.core.ids import Address
from hpc.core.resources import Amounts
from hpc.core.wire import GROUP_CREATED, GROUP_REMOVED, GroupNews

if TYPE_CHECKING:
    from hpc.core.policy.placement import Snapshot

#: The labels of a node that the head knows.
LabelsOf = Callable[[int], Mapping[str, str]]
GroupState = Literal["PENDING", "PREPARED", "CREATED", "RESCHEDULING", "REMOVED"]
PENDING: Final = "PENDING"
PREPARING: Final = "PREPARED"
CREATED: Final = GROUP_CREATED
RESCHEDULING: Final = "RESCHEDULING"
REMOVED: Final = GROUP_REMOVED


def news(state: GroupState) -> GroupNews:
    """What the maker of a group in this state is told."""
    return state if state in (CREATED, REMOVED) else ""


class Group(Struct):
    """A placement group, the ``order``th of its session. ``creator`` is the process whose end removes it, ``maker`` the
    process that asked for it, ``told`` the state that the maker was last sent. ``strategy`` is that over nodes,
    ``topology`` has (label, strategy over its values). ``nodes[i]`` is where bundle i is reserved (0: nowhere).
    ``planned`` is where the present attempt wants the missing ones to be, ``awaited`` are the nodes that have not
    answered, ``taken`` the nodes that agreed. ``said``: an event has told that it cannot be placed."""

    group: bytes
    name: str
    namespace: str
    strategy: str
    bundles: list[Amounts]
    selectors: list[Any]
    detached: bool
    creator: Address
    order: int
    maker: Address
    topology: list[list[str]]
    state: GroupState = PENDING
    attempt: int = 0
    nodes: list[int] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    planned: dict[int, int] = field(default_factory=dict)
    awaited: list[int] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    refused: dict[int, float] = field(default_factory=dict)
    warned: str = ""
    said: bool = False
    why: str = ""
    told: GroupNews = ""
    #: It finds no room since then (0: it does); its raylets keep room for it, or may do so again from ``hold_at`` on.
    since: float = 0.0
    patient: bool = False
    hold_at: float = 0.0
    hold_s: float = 0.0
    in_vain: dict[int, float] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """What it is called where people read it."""
        return f"placement group {repr(self.name) + ' ' if self.name else ''}{self.group.hex()}"

    @property
    def missing(self) -> list[int]:
        """Bundles that are nowhere."""
        return [i for i, node in enumerate(self.nodes) if not node]

    @property
    def waits(self) -> bool:
        """Whether it finds no room at the moment."""
        return self.state in (PENDING, RESCHEDULING) and not self.planned

    def places(self, snapshot: Snapshot, labels_of: LabelsOf, avoid: Collection[int] = ()) -> dict[int, int] | None:
        """A node for each bundle that is nowhere; None if they do not find room beside those that are somewhere."""
        from hpc.core.policy.bundles import place_bundles

        missing = self.missing
        taken = [node for node in self.nodes if node]
        nodes = place_bundles(
            snapshot,
            [self.bundles[i] for i in missing],
            self.strategy,
            [self.selectors[i] for i in missing] if self.selectors else [],
            taken=taken,
            avoid=avoid,
            topology=self.topology,
            labels={node: labels_of(node) for node in taken} if self.topology else None,
        )
        return None if nodes is None else dict(zip(missing, nodes))

    def row(self) -> list[Any]:
        """What another head must know. It gives up the attempt that is under way: its bundles are returned when their
        raylets report them."""
        return [
            self.group, self.name, self.namespace, self.strategy, self.bundles, self.selectors, self.detached,
            [*self.creator], self.order, [*self.maker], self.state, self.attempt, list(self.nodes),
            list(self.attempts), self.why, self.topology,
        ]  # fmt: skip

    @classmethod
    def from_row(cls, row: list[Any]) -> Group:
        """The group of a row."""
        ident, name, namespace, strategy, bundles, selectors, detached, creator, order, maker = row[:10]
        state, attempt, nodes, attempts, why, topology = row[10:]
        told = news(state)
        if state == PREPARING:
            state = PENDING if not any(nodes) else RESCHEDULING
        return cls(
            ident, name, namespace, strategy, bundles, selectors, detached, Address(*creator), order,
            Address(*maker), topology, state, attempt, nodes, attempts, why=why, told=told,
        )  # fmt: skip
