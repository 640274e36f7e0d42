"""The bundles of placement groups that this node has reserved: each is a small node of its own to lease from.

Phase one takes a bundle out of the node's resources, phase two makes it usable. The instances of accelerators are fixed
in phase one. A bundle that is given back stays until the workers in it have ended: their memory and accelerators are
in use until then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from hpc.core.causes import LostCause
from hpc.core.pieces import Pieces
from hpc.core.raylet.tables import Bundle, Demand, Lease
from hpc.core.resources import Amounts, NodeResources, fits


class Bundles:
    """All bundles of one node. ``end_lease(lease, cause, why)`` ends a lease's worker; ``released`` comes later."""

    def __init__(self, resources: NodeResources, end_lease: Callable[[int, LostCause, str], None]) -> None:
        self.resources = resources
        self.held: dict[tuple[bytes, int], Bundle] = {}
        self.returning: list[Bundle] = []
        self.changed = False
        self._end_lease = end_lease

    # -------------------------------------------------------------- the two phases

    def prepare(
        self,
        group: bytes,
        attempt: int,
        wanted: Sequence[tuple[int, Amounts]],
        kept: Mapping[str, Collection[str]] | None = None,
    ) -> str:
        """Take these bundles out of the node's free resources, all or none; why not, or an empty string. Said again it
        changes nothing. ``kept``: devices that are not taken."""
        new: dict[int, Amounts] = {}
        for index, amounts in wanted:
            old = self.held.get((group, index))
            if old is not None and old.attempt != attempt:
                return f"bundle {index} is held by attempt {old.attempt} still"
            if old is None:
                new[index] = amounts
        grants, missed = self.resources.acquire_all([*new.values()], kept)
        if missed >= 0:
            return f"there is no room for bundle {[*new][missed]}"
        for index, grant in zip(new, grants):
            self.held[(group, index)] = Bundle(group, index, attempt, grant, self.resources.part_of(grant))
        return ""

    def commit(self, group: bytes, attempt: int) -> None:
        """The bundles of the attempt can be used."""
        for bundle in self.held.values():
            if bundle.group == group and bundle.attempt == attempt and not bundle.committed:
                bundle.committed = self.changed = True

    def give_back(self, group: bytes, attempt: int, cause: LostCause, why: str) -> None:
        """End what runs in the group's bundles here, and return them; ``attempt`` 0 means all."""
        for bundle in [b for b in self.held.values() if b.group == group and attempt in (0, b.attempt)]:
            del self.held[(bundle.group, bundle.index)]
            bundle.returned = self.changed = True
            self.returning.append(bundle)
            for lease in sorted(bundle.leases):
                self._end_lease(lease, cause, why)
            self._free(bundle)

    def _free(self, bundle: Bundle) -> None:
        if bundle.returned and not bundle.leases and bundle in self.returning:
            self.returning.remove(bundle)
            self.resources.release(bundle.grant)

    # -------------------------------------------------------------- leases

    def pools(self, demand: Demand) -> Iterator[tuple[NodeResources, Bundle | None]]:
        """From where a demand can be served on this node."""
        strategy = demand.strategy
        if not isinstance(strategy, (list, tuple)) or strategy[0] != "pg":
            yield self.resources, None
            return
        _, group, index, *_ = strategy
        for bundle in self.held.values():
            if bundle.committed and bundle.group == group and index in (-1, bundle.index):
                yield bundle.pool, bundle

    def can_serve(self, strategy: Any, placement: Mapping[str, int]) -> bool:
        """Whether a committed bundle here could serve a demand for a group, were it empty."""
        return any(
            b.committed and b.group == strategy[1] and strategy[2] in (-1, b.index) and fits(b.pool.totals, placement)
            for b in self.held.values()
        )

    def leased(self, bundle: Bundle | None, lease: Lease) -> None:
        """A lease runs in the bundle from now on."""
        if bundle is not None:
            bundle.leases.add(lease.ident)
            lease.bundle = bundle
            self.changed = True

    def ended(self, lease: Lease) -> None:
        """A lease has ended and its grant was released."""
        bundle = lease.bundle
        if bundle is not None:
            bundle.leases.discard(lease.ident)
            lease.bundle = None
            self.changed = True
            self._free(bundle)

    # -------------------------------------------------------------- reports

    def report_free(self) -> list[tuple[bytes, int, Amounts]]:
        """For heartbeats: what is free in each usable bundle."""
        self.changed = False
        return [(b.group, b.index, dict(b.pool.free)) for b in self.held.values() if b.committed]

    def report_pieces(self) -> list[Pieces]:
        """And what is free on their devices, where any of them has some."""
        pieces = [b.pool.pieces() for b in self.held.values() if b.committed]
        return pieces if any(pieces) else []

    def report_held(self) -> list[tuple[bytes, int, int, bool]]:
        """For a head that has to learn what is reserved: (group, index, attempt, committed)."""
        return [(b.group, b.index, b.attempt, b.committed) for b in self.held.values()]
