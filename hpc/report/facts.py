"""What a report is made of, as plain values that go into a JSON file and come back. Pure."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from hpc.core.events.kinds import Severity
from hpc.core.events.rows import ActorStanding, EndState
from hpc.state.bulletins import Detail, RunKind, RunState

#: How a job ended: by itself, with an error of its own, by a signal or the user, for want of time, because the nodes
#: were taken or lost, by force without a word. Or it goes on, or nobody knows.
Cause = Literal["normal", "error", "signal", "walltime", "preempted", "lost", "killed", "running", "unknown"]

#: The name under which names are counted beyond the first ones.
OTHERS = "(other names)"


class Ending(Struct):
    """How a job ended, in words too; without a code where nobody knows it."""

    cause: Cause = "unknown"
    text: str = ""
    code: int | None = None


class Job(Struct):
    """What was asked for."""

    number: str = ""
    name: str = ""
    scheduler: str = ""
    scheduler_id: str = ""
    user: str = ""
    host: str = ""
    command: list[str] = field(default_factory=list)
    folder: str = ""
    created_s: float = 0.0
    asked_s: float | None = None
    #: A session of `hpc start`, and no script.
    is_session: bool = False


class Use(Struct, array_like=True):
    """One look at the session: amounts that there are, and that tasks and actors were given of them. ``memory`` is
    (least, middle, most) of the nodes' shares in use. ``ended`` and ``failed`` count tasks and calls from the start.
    ``cpu_busy`` and ``gpu_busy``: how busy they were, as (low, mean, high) of the nodes or devices. None: not known."""

    time_s: float
    nodes: int = 0
    cpus: float = 0.0
    cpus_given: float = 0.0
    gpus: float = 0.0
    gpus_given: float = 0.0
    memory: tuple[float, float, float] | None = None
    store_bytes: int = 0
    disk_bytes: int = 0
    spilled_bytes: int = 0
    waiting: int = 0
    ended: int = 0
    failed: int = 0
    cpu_busy: tuple[float, float, float] | None = None
    gpu_busy: tuple[float, float, float] | None = None


class Named(Struct):
    """Tasks or calls of one name that have ended. ``bins``: how many took how long, four bins for each doubling of a
    microsecond."""

    name: str
    count: int = 0
    failed: int = 0
    retried: int = 0
    seconds: float = 0.0
    most_s: float = 0.0
    bins: dict[int, int] = field(default_factory=dict)


class One(Struct):
    """A task that is shown by itself."""

    name: str
    task: str
    worker: str
    start_s: float
    seconds: float
    state: EndState
    why: str = ""
    log: list[str] = field(default_factory=list)


class Rect(Struct, array_like=True):
    """A task in the picture of what ran when."""

    worker: str
    start_s: float
    seconds: float
    failed: bool
    name: str


class NodeFact(Struct):
    """A node that is, or was, part of the session."""

    node: int
    host: str
    alive: bool = True
    why: str = ""
    resources: str = ""
    first_s: float = 0.0
    last_s: float = 0.0


class ActorFact(Struct):
    """An actor that has been restarted or has died, or one of the first that there were."""

    actor: str
    class_name: str
    name: str
    state: ActorStanding
    restarts: int
    why: str


class WorkerFact(Struct):
    """A worker that ended unexpectedly."""

    worker: str
    time_s: float
    why: str
    log: list[str] = field(default_factory=list)


class RunFact(Struct):
    """A run of a library, as it was told last: at ``seen_s``."""

    run: str
    kind: RunKind
    name: str
    state: RunState
    why: str = ""
    words: str = ""
    began_s: float = 0.0
    ended_s: float | None = None
    seen_s: float = 0.0
    detail: Detail | None = None


class Happening(Struct):
    """Something that happened in the session or to the job. Only events of the session have a ``severity``."""

    time_s: float
    what: str
    text: str = ""
    severity: Severity | Literal[""] = ""
    advice: str = ""


class Facts(Struct):
    """All that a report shows."""

    job: Job = field(default_factory=Job)
    ending: Ending = field(default_factory=Ending)
    #: The end of what a job that failed has written.
    output: list[str] = field(default_factory=list)
    began_s: float = 0.0
    seen_s: float = 0.0
    uses: list[Use] = field(default_factory=list)
    named: list[Named] = field(default_factory=list)
    #: Tasks and calls that have ended and were not seen one by one, and looks at the session that failed.
    unseen: int = 0
    missed: int = 0
    #: Its nodes ran no runtime of ours: what they did is not known, only that they were there.
    is_plain: bool = False
    slowest: list[One] = field(default_factory=list)
    failed: list[One] = field(default_factory=list)
    rects: list[Rect] = field(default_factory=list)
    nodes: list[NodeFact] = field(default_factory=list)
    actors: list[ActorFact] = field(default_factory=list)
    workers: list[WorkerFact] = field(default_factory=list)
    runs: list[RunFact] = field(default_factory=list)
    #: What waited for what, in how many of the looks.
    waits: dict[str, int] = field(default_factory=dict)
    happenings: list[Happening] = field(default_factory=list)
    #: The number of the last event of the session that was taken, and how many came too fast to be kept by the head.
    events_upto: int = 0
    events_missed: int = 0
    versions: dict[str, str] = field(default_factory=dict)
