"""The head's machine out of its journal, and the shortest journal that leads to the machine's state. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hpc.core.head.journal import (
    Answered,
    AnyOp,
    Began,
    Died,
    Joined,
    KeyGone,
    KeySet,
    NameGone,
    NameSet,
    PartSet,
)
from hpc.core.head.machine import HeadMachine, Named
from hpc.core.head.nodes import Node


def restore(machine: HeadMachine, ops: Iterable[AnyOp]) -> None:
    """Bring an empty machine to the state that the operations lead to. Nodes count as suspect until they register anew,
    and have the whole of ``dead_s`` for that: the head's own absence is held against nobody."""
    for op in ops:
        _STEPS[type(op)](machine, op)


def snapshot(machine: HeadMachine) -> Iterator[AnyOp]:
    """The shortest list of operations that leads to the machine's state."""
    yield Began(machine.epoch)
    for node in machine.nodes.values():
        yield Joined(node.info)
    for info in machine.dead.values():
        yield Died(info)
    for (namespace, name), named in machine.names.items():
        yield NameSet(namespace, name, named.actor, named.handle)
    for (namespace, key), value in machine.kv.items():
        yield KeySet(namespace, key, value, machine.watches.version_of((namespace, key)))
    yield from machine.answered.values()
    for name, part in machine.parts.items():
        for row_key, row in part.rows():
            yield PartSet(name, row_key, row)


def _began(machine: HeadMachine, op: Began) -> None:
    machine.epoch = op.epoch


def _joined(machine: HeadMachine, op: Joined) -> None:
    machine.nodes[op.info.node] = Node(op.info, {}, machine.awake_s, suspect=True)


def _died(machine: HeadMachine, op: Died) -> None:
    machine.nodes.pop(op.info.node, None)
    machine.dead[op.info.node] = op.info


def _name_set(machine: HeadMachine, op: NameSet) -> None:
    machine.names[(op.namespace, op.name)] = Named(op.actor, op.handle)


def _name_gone(machine: HeadMachine, op: NameGone) -> None:
    machine.names.pop((op.namespace, op.name), None)


def _key_set(machine: HeadMachine, op: KeySet) -> None:
    old = machine.kv.get((op.namespace, op.key), b"")
    machine.kv_bytes += len(op.value) - len(old)
    machine.kv[(op.namespace, op.key)] = op.value
    machine.watches.restore((op.namespace, op.key), op.version, True)


def _key_gone(machine: HeadMachine, op: KeyGone) -> None:
    machine.kv_bytes -= len(machine.kv.pop((op.namespace, op.key), b""))
    machine.watches.restore((op.namespace, op.key), op.version, False)


def _part_set(machine: HeadMachine, op: PartSet) -> None:
    machine.parts[op.part].load(op.key, op.data)


_STEPS: dict[type, Callable[[HeadMachine, Any], None]] = {
    Answered: HeadMachine.remember,
    Began: _began,
    Died: _died,
    Joined: _joined,
    KeyGone: _key_gone,
    KeySet: _key_set,
    NameGone: _name_gone,
    NameSet: _name_set,
    PartSet: _part_set,
}
