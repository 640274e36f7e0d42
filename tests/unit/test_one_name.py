"""In a machine one thing has one name: a table is found under the same name wherever a part has it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from types import MethodType

import pytest
from unit.test_object_store import NoBytes

from hpc.core.head.machine import HeadMachine
from hpc.core.ids import Address, raylet_of
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.state import OwnerState
from hpc.core.raylet.machine import RayletMachine
from hpc.core.resources import UNIT, NodeResources
from hpc.core.store.layout import Layout
from hpc.core.wire import NodeInfo

#: What a shell drives the owner's machine by; the machine has it from its state. All else is said to a part.
DRIVEN_BY = {
    "addr", "box", "dropped", "enter", "new_ids", "outbox", "raylet", "send", "take_outbox", "unpinned", "urgent",
    "woken",
}  # fmt: skip


def owner() -> OwnerMachine:
    return OwnerMachine(Address(1, 5))


def raylet() -> RayletMachine:
    info = NodeInfo(2, "n2", "", "", {"CPU": UNIT}, {}, False, 0, "")
    return RayletMachine(info, NodeResources({"CPU": UNIT}), Layout(1 << 20), NoBytes())


def tables(thing: object, depth: int = 2) -> Iterator[tuple[str, object]]:
    """The tables that a machine, its parts and their parts have as public attributes."""
    for name, value in getattr(thing, "__dict__", {}).items():
        if name[0] == "_":
            continue
        if isinstance(value, (dict, list, set, deque)):
            yield name, value
        elif depth and type(value).__module__.startswith("hpc.core."):
            yield from tables(value, depth - 1)


def two_names(thing: object) -> set[frozenset[str]]:
    """The names of each table that has several."""
    names: dict[int, set[str]] = {}
    for name, table in tables(thing):
        names.setdefault(id(table), set()).add(name)
    return {frozenset(found) for found in names.values() if len(found) > 1}


@pytest.mark.parametrize("machine", [owner, HeadMachine, raylet])
def test_no_table_of_a_machine_has_two_names(machine):
    assert not two_names(machine())


def test_the_owners_face_is_its_parts_and_what_drives_it():
    machine = owner()
    state = {name: value for name, value in vars(machine.state).items() if name[0] != "_"}
    shared = {name for name, value in vars(machine).items() if any(value is there for there in state.values())}
    methods = {name for name, value in vars(machine).items() if isinstance(value, MethodType)}
    assert machine.raylet == raylet_of(1)
    assert shared | methods == DRIVEN_BY
    assert all(isinstance(vars(machine)[name].__self__, OwnerState) for name in methods)


def test_a_second_name_is_found():
    machine = owner()
    machine.objects_here = machine.state.entries
    assert two_names(machine) == {frozenset({"objects_here", "entries"})}
