"""Reasons that are acted on, as values, and what follows from them.

A text beside such a value (``why``) is for people: nothing decides by it, so that it may be reworded. What uses up a
retry or a restart is what may have begun; what is not tried again is what would fail again.
"""

from __future__ import annotations

from typing import Literal

#: Why a worker is gone: its process has ended and nobody here wanted that ("crash"), it said that it would end, the
#: node ran out of memory, its owner asked for it, the placement group in which it was is removed, its node is gone,
#: its node is gone as was known beforehand.
LostCause = Literal["crash", "exit", "oom", "killed", "group_removed", "node", "drained"]
#: Why what waits for a worker never gets one: its node is dead or too small, its runtime environment cannot be made,
#: its placement group is removed.
NeverCause = Literal["unschedulable", "environment", "group_removed"]
#: What a raylet and the head say of that. Empty: nodes may join that can run it.
FinalCause = Literal["", "unschedulable", "group_removed"]
#: Why an object cannot be read on a node: no copy of it can be had, there is no room, its bytes cannot be read back
#: from disk. Empty: it can.
FetchCause = Literal["", "lost", "no_room", "disk"]
#: The class of the error that calls to a dead actor get.
ActorErrorName = Literal[
    "ActorDiedError", "ActorUnschedulableError", "ActorPlacementGroupRemoved", "GangError", "RuntimeEnvSetupError"
]

#: The errors of what waits for a worker and never gets one: of tasks, and of actors.
NEVER: dict[NeverCause, tuple[str, ActorErrorName]] = {
    "unschedulable": ("TaskUnschedulableError", "ActorUnschedulableError"),
    "environment": ("RuntimeEnvSetupError", "RuntimeEnvSetupError"),
    "group_removed": ("TaskPlacementGroupRemoved", "ActorPlacementGroupRemoved"),
}


def task_error(cause: LostCause) -> str:
    """The error of a task whose worker is gone, where the task is not tried again."""
    if cause == "group_removed":
        return NEVER["group_removed"][0]
    return "OutOfMemoryError" if cause == "oom" else "WorkerCrashedError"


def retries_task(cause: LostCause) -> bool:
    """Whether a task that ran on the worker may run again, if it has retries left."""
    return cause != "group_removed"


def is_charged(cause: LostCause) -> bool:
    """Whether running again what had begun uses up a retry or a restart."""
    return cause != "drained"


def restarts_actor(cause: LostCause) -> bool:
    """Whether an actor that lived in the worker may be made anew, if it has restarts left."""
    return cause not in ("exit", "group_removed")


def uses_restart(cause: LostCause, begun: bool) -> bool:
    """Whether the loss uses up a restart: the constructor may have ``begun``, or the actor itself was meant."""
    return begun or cause in ("oom", "killed")
