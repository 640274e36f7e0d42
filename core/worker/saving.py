"""An actor's state is saved before its node ends, and given to the actor that has its name next.

A class says how: ``__hpc_checkpoint__(self)`` returns what is to be kept, ``__hpc_restore__(self, state)`` takes it,
after the constructor. The name is what one job's actor has in common with the next one's: one without is not saved.
"""

from __future__ import annotations

import sys
import traceback
from typing import Any

from hpc.core.exceptions import NoStateError
from hpc.core.owner.shell.client import Client
from hpc.core.process.context import process
from hpc.core.process.saved import actor_group, states_in

CHECKPOINT, RESTORE = "__hpc_checkpoint__", "__hpc_restore__"


class SaveActor:
    """In the queue of an actor, ahead of its calls: it is to save its state."""

    task = b""


SAVE = SaveActor()
#: An actor that is to begin anew elsewhere does so when no call has come for this time.
QUIET_S = 0.2


def can_save(cls: type) -> bool:
    """Whether actors of this class have a state to save."""
    return hasattr(cls, CHECKPOINT)


def can_move(cls: type) -> bool:
    """Whether actors of this class go on elsewhere with what they had here."""
    return can_save(cls) and hasattr(cls, RESTORE)


def must_save(cls: type) -> None:
    """TypeError for a class whose actors have no state to save."""
    if not can_save(cls):
        raise TypeError(f"{cls.__name__} has no method {CHECKPOINT}: there is nothing to save")


def write(client: Client, value: Any) -> str:
    """Keep what the actor wants kept; returns the file's path."""
    if not process.actor_name:
        raise NoStateError(f"an actor without a name cannot be saved: {CHECKPOINT} needs options(name=...)")
    states = states_in(str(client.registered.config.get("state_dir", "")))
    return states.save(actor_group(process.namespace), process.actor_name, value)


def read(client: Client, cls: type) -> tuple[bool, Any]:
    """Whether something was kept for the actor that has just been made, and it."""
    folder = str(client.registered.config.get("state_dir", ""))
    if not (hasattr(cls, RESTORE) and process.actor_name and folder):
        return False, None
    return states_in(folder).load(actor_group(process.namespace), process.actor_name)


def complain() -> None:
    """In the actor's log: it was to be saved before the end and could not."""
    print(f"hpc: the actor {process.actor_name or 'without a name'} was not saved:", file=sys.stderr)
    traceback.print_exc()
