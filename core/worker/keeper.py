"""The keeper's side of detached actors: a worker that owns actors for drivers that may leave (see head/keeper)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpc.core.ids import Address
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.tables import Shape
from hpc.core.wire import Answer, KeepActor, NewActor


def handlers(machine: OwnerMachine) -> dict[type, Callable[[Address, Any], None]]:
    """What takes the messages to a keeper."""
    return {
        NewActor: lambda src, msg: machine.send(src, Answer(msg.req, True, machine.new_ids())),
        KeepActor: lambda src, msg: _keep(machine, src, msg),
    }


def _keep(machine: OwnerMachine, src: Address, msg: KeepActor) -> None:
    """Make the actor, and answer once the owners of its arguments know that this process holds them."""
    create = msg.create
    machine.functions[create.fn] = msg.code
    shape = machine.add_shape(Shape(msg.held, msg.placement, msg.strategy, msg.env, True))
    shape.job, shape.driver = msg.job, msg.driver
    actor = machine.create_actor(create, shape, msg.restarts, create.holds)
    actor.name = str(create.options.get("name") or "")
    actor.namespace = str(create.options.get("namespace") or "")
    actor.detached = True
    answer = Answer(msg.req, True)
    machine.when_acked([*create.refs, *create.holds], lambda: machine.send(src, answer))
