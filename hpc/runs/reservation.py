"""Room for the workers of a group: one placement group, so that they get all of it or nothing.

Two runs on a cluster with room for one never hold a half each: the second waits, and holds nothing meanwhile. A run
that begins inside of a placement group that captures what is submitted there has its workers in that one, if they fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import hpc
from hpc import spi
from hpc.exceptions import HpcError, SessionLostError
from hpc.util.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from hpc.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from hpc.util.tpu import SlicePlacementGroup

#: A resource of this name and a kind says that a node has accelerators of that kind.
ACCELERATOR = "accelerator_type:"
#: What a worker of a kind takes of that resource, of which a node has 1: next to nothing.
ACCELERATOR_SHARE = 0.001


class NoRoom(Exception):
    """The nodes could not hold the workers even if they were idle, and no further ones may join."""


@dataclass(frozen=True)
class Request:
    """What is asked for: ``count`` workers that hold ``each``, placed by a placement group's strategy. ``selectors``
    has for each worker the labels that its node must have; without any, every node will do."""

    count: int
    each: Mapping[str, float]
    strategy: str = "PACK"
    selectors: Sequence[Mapping[str, str]] = ()

    @property
    def bundles(self) -> list[dict[str, float]]:
        """A bundle for each worker."""
        return [dict(self.each) for _ in range(self.count)]

    def of(self, count: int) -> Request:
        """The same for the first so many workers."""
        return replace(self, count=count, selectors=self.selectors[:count])

    def why_not(self, rooms: Sequence[spi.NodeRoom]) -> str:
        """Why they do not fit into what is free there; "" if they do."""
        return spi.why_no_room(rooms, self.bundles, self.strategy, self.selectors)

    def how_many(self, rooms: Sequence[spi.NodeRoom]) -> int:
        """How many of them fit into what is free there."""
        least, most = 0, min(self.count, sum(self._at_most(room) for room in rooms if room.is_open))
        while least < most:
            middle = (least + most + 1) // 2
            least, most = (least, middle - 1) if self.of(middle).why_not(rooms) else (middle, most)
        return least

    def _at_most(self, room: spi.NodeRoom) -> int:
        """A node has no room for more than so many: a bound, so that (1, a million) is not tried in bundles."""
        fits = [room.free.get(name, 0.0) / amount + 0.001 for name, amount in self.each.items() if amount]
        return max(0, int(min(fits, default=self.count)))

    def __str__(self) -> str:
        holds = ", ".join(f"{name}: {amount:g}" for name, amount in sorted(self.each.items()))
        return f"{self.count} worker{'' if self.count == 1 else 's'} with {{{holds}}} each ({self.strategy})"


def check_possible(request: Request) -> None:
    """Raise NoRoom, which says why, for what can never be placed."""
    if inherited(request) is not None:
        return
    why = request.why_not(spi.idle(spi.rooms()))
    if why and not spi.may_grow():
        raise NoRoom(f"there will never be room for {request}: {why}")


def inherited(request: Request) -> PlacementGroup | None:
    """The placement group in which this code runs, if it captures what is submitted here and has room for them all
    beside this code. Labels and the strategy were the matter of its maker: a request with labels is not served so."""
    group = _around(request)
    if group is None:
        return None
    return group if not replace(request, strategy="PACK").why_not(_bundles_of(group)) else None


def room_around(request: Request) -> int:
    """For how many of these workers there is room in the placement group around this code: see `inherited`."""
    group = _around(request)
    return replace(request, strategy="PACK").how_many(_bundles_of(group)) if group is not None else 0


def _around(request: Request) -> PlacementGroup | None:
    if not hpc.get_runtime_context().should_capture_child_tasks_in_placement_group or request.selectors:
        return None
    return get_current_placement_group()


def _bundles_of(group: PlacementGroup) -> list[spi.NodeRoom]:
    """The bundles of the group around this code, as if they were nodes, without what this worker holds."""
    return _without([spi.NodeRoom(index, bundle, bundle, {}) for index, bundle in enumerate(group.bundle_specs, 1)])


def _without(rooms: list[spi.NodeRoom]) -> list[spi.NodeRoom]:
    """The rooms without what this worker holds, which is taken from the first that has it."""
    mine = {name: amount for name, amount in hpc.get_runtime_context().get_assigned_resources().items() if amount}
    for at, room in enumerate(rooms):
        if all(room.free.get(name, 0.0) >= amount for name, amount in mine.items()):
            left = {name: amount - mine.get(name, 0.0) for name, amount in room.free.items()}
            return [*rooms[:at], room._replace(free=left), *rooms[at + 1 :]]
    return rooms


class Reservation:
    """Room that was asked for. It is there for all workers when `wait` says so, and is kept until `release`."""

    def __init__(self, request: Request) -> None:
        """Ask for it. Raises ValueError for a request that makes no sense."""
        self.request = request
        self._slices: SlicePlacementGroup | None = None
        around = inherited(request)
        self.is_own = around is None
        if around is None:
            labels = list(request.selectors) or None
            around = placement_group(request.bundles, request.strategy, bundle_label_selector=labels)
        self.group = around

    @classmethod
    def of_slices(cls, request: Request, slices: SlicePlacementGroup) -> Reservation:
        """Slices of TPUs that were taken, with a bundle for each worker."""
        made = cls.__new__(cls)
        made.request, made.is_own, made._slices = request, True, slices
        group = slices.placement_group
        assert group is not None and slices.num_bundles == request.count
        made.group = group
        return made

    @property
    def is_broken(self) -> bool:
        """Whether it has lost hosts of a slice: the others are no slice, and nothing else takes their place."""
        return self._slices is not None and "" in self._places()

    def wait(self, timeout_s: float) -> bool:
        """Whether it is there, at the latest after this time. After the death of a node it may be away for a while."""
        there = self.group.wait(timeout_s)
        if there and self._slices is not None:
            self._slices.release_head_pgs()  # the bundles hold the slices from now on
        return there

    def options(self, index: int) -> dict[str, Any]:
        """The options of the actor that is this worker."""
        each = self.request.each
        kinds = [name.removeprefix(ACCELERATOR) for name in each if name.startswith(ACCELERATOR)]
        others = {name: amount for name, amount in each.items() if name not in ("CPU", "GPU", "memory")}
        strategy = PlacementGroupSchedulingStrategy(
            self.group, index if self.is_own else -1, placement_group_capture_child_tasks=not self.is_own
        )
        options: dict[str, Any] = {
            "num_cpus": each.get("CPU", 0.0),
            "num_gpus": each.get("GPU", 0.0),
            "resources": {name: amount for name, amount in others.items() if not name.startswith(ACCELERATOR)},
            "scheduling_strategy": strategy,
        }
        if kinds:
            options["accelerator_type"] = kinds[0]
        if each.get("memory"):
            options["memory"] = each["memory"]
        return options

    def nodes(self) -> list[str]:
        """The nodes in the order of the bundles that lie on them."""
        return list(dict.fromkeys(node for node in self._places() if node))

    def freed(self, rooms: Sequence[spi.NodeRoom]) -> list[spi.NodeRoom]:
        """The rooms as they would be without this reservation."""
        places = self._places() if self.is_own else []
        back = [places.count(str(room.node)) for room in rooms]
        return [
            room._replace(
                free={
                    name: room.free.get(name, 0.0) + count * self.request.each.get(name, 0.0)
                    for name in {*room.free, *self.request.each}
                }
            )
            for room, count in zip(rooms, back)
        ]

    def _places(self) -> list[str]:
        """The node of each bundle; "" for one that lies nowhere."""
        table = placement_group_table(self.group).get("bundles_to_node_id", {})
        return [str(node or "") for _, node in sorted(table.items())]

    def release(self) -> None:
        """Give it back; whatever runs there ends."""
        if not self.is_own:
            return
        if self._slices is not None:
            self._slices.shutdown()
            return
        try:
            remove_placement_group(self.group)
        except SessionLostError:
            raise
        except (HpcError, OSError):
            return
