"""What can happen in a session: the kinds of events, how grave each is, whose it is, and what to do about it. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["INFO", "WARNING", "ERROR"]
#: The part that tells it, under Ray's names: the head, a raylet, an owner of tasks and actors, the part that asks for
#: further nodes, the launcher.
Source = Literal["GCS", "RAYLET", "CORE_WORKER", "AUTOSCALER", "JOBS"]
EventKind = Literal[
    "NODE_JOINED", "NODE_SILENT", "NODE_HEARD", "NODE_DRAINS", "NODE_LEFT", "NODE_LOST",
    "WORKER_DIED", "WORKER_OUT_OF_MEMORY", "ENVIRONMENT_FAILED", "OWNER_LOST", "SPILL_BEGAN", "DISK_FAILED",
    "TASK_RETRIED", "TASK_FAILED", "VALUE_MADE_AGAIN", "VALUE_LOST",
    "ACTOR_RESTARTED", "ACTOR_ENDED", "ACTOR_DIED",
    "GROUP_UNPLACED", "GROUP_PLACED", "GROUP_RESCHEDULED", "GROUP_REMOVED",
    "TIME_SET", "TIME_SHORT", "SESSION_DRAINS", "NODES_TAKEN",
    "NODES_ASKED", "NODES_REFUSED", "NODES_CAME", "NODES_RETURNED",
    "HEAD_RESTARTED", "DRIVER_JOINED", "DRIVER_LEFT",
]  # fmt: skip


class About(NamedTuple):
    """What is so of all events of a kind."""

    severity: Severity
    source: Source
    advice: str = ""


KINDS: dict[EventKind, About] = {
    "NODE_JOINED": About("INFO", "GCS"),
    "NODE_SILENT": About("WARNING", "GCS", "nothing new is placed there; if it stays silent it counts as lost"),
    "NODE_HEARD": About("INFO", "GCS"),
    "NODE_DRAINS": About("WARNING", "GCS", "nothing new begins there; actors save what they have (docs/walltime.md)"),
    "NODE_LEFT": About("INFO", "GCS"),
    "NODE_LOST": About(
        "ERROR", "GCS", "its tasks run again as max_retries says, its actors as max_restarts; ask the scheduler why"
    ),
    "WORKER_DIED": About("ERROR", "RAYLET", "hpc logs --worker ID --err shows its last lines"),
    "WORKER_OUT_OF_MEMORY": About(
        "ERROR", "RAYLET", "ask for more memory (memory=), run fewer at a time (num_cpus=), or make each use less"
    ),
    "ENVIRONMENT_FAILED": About("ERROR", "RAYLET", "what asked for this runtime_env fails; mend it and submit again"),
    "OWNER_LOST": About(
        "ERROR", "RAYLET", "to read them raises OwnerDiedError: return values instead of putting them in tasks"
    ),
    "SPILL_BEGAN": About(
        "WARNING", "RAYLET", "hpc memory shows whose objects fill the store: let go of references, or make it larger"
    ),
    "DISK_FAILED": About("ERROR", "RAYLET", "free the disk, or name another one with HPC_SPILL_DIR"),
    "TASK_RETRIED": About("WARNING", "CORE_WORKER"),
    "TASK_FAILED": About("ERROR", "CORE_WORKER", "with max_retries it runs again after such a loss"),
    "VALUE_MADE_AGAIN": About("WARNING", "CORE_WORKER"),
    "VALUE_LOST": About("ERROR", "CORE_WORKER"),
    "ACTOR_RESTARTED": About("WARNING", "CORE_WORKER"),
    "ACTOR_ENDED": About("INFO", "CORE_WORKER"),
    "ACTOR_DIED": About(
        "ERROR", "CORE_WORKER", "hpc logs --actor ID --err shows its last lines; with max_restarts it is made again"
    ),
    "GROUP_UNPLACED": About("WARNING", "GCS", "ask for less, or for more nodes; it is placed when there is room"),
    "GROUP_PLACED": About("INFO", "GCS"),
    "GROUP_RESCHEDULED": About("WARNING", "GCS"),
    "GROUP_REMOVED": About("WARNING", "GCS", "lifetime='detached' lets a group outlive the process that made it"),
    "TIME_SET": About("INFO", "JOBS"),
    "TIME_SHORT": About("WARNING", "JOBS", "save what is not to be lost; --chain goes on in the next job"),
    "SESSION_DRAINS": About("WARNING", "JOBS", "nothing new begins; actors save what they have (docs/walltime.md)"),
    "NODES_TAKEN": About("WARNING", "JOBS", "--requeue or --chain lets the work go on (docs/walltime.md)"),
    "NODES_ASKED": About("INFO", "AUTOSCALER"),
    "NODES_REFUSED": About("WARNING", "AUTOSCALER", "the session goes on with the nodes that it has"),
    "NODES_CAME": About("INFO", "AUTOSCALER"),
    "NODES_RETURNED": About("INFO", "AUTOSCALER"),
    "HEAD_RESTARTED": About("WARNING", "GCS", "what happened while it was away may be missing in this list"),
    "DRIVER_JOINED": About("INFO", "JOBS"),
    "DRIVER_LEFT": About("INFO", "JOBS"),
}
