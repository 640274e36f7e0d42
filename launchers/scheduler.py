"""The face of a scheduler: what it is asked, what it answers, and the types that all of them share.

A scheduler is one folder beside this file and one class that has the methods of `Scheduler`; `registry.py` knows which
there are. Whoever launches, follows or cancels a job speaks to this face and names none. `NodeSource` is the smaller
part, which this machine has too: it grants nodes and takes no jobs.

Methods that start or ask run commands of the scheduler and are bounded in time. `Inquiry` alone does not wait for an
answer, for whoever has more to look after. The others are pure.
Rejected: a base class: schedulers share no code, only these promises. Rejected too: one method per command. What is one
command for one scheduler is two for another, or a request to a web server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from hpc.launchers.node_group import NodeGroup, Surroundings

#: Where a job is: it waits, it has its nodes (though it may be stopped on them for a while), it is over.
Phase = Literal["queued", "running", "ended"]
#: How a job ended: by itself, by somebody's wish, at its time limit, or because its nodes were taken or broke. A job
#: that still has nodes may be lost: the one where its script ran is gone, and nothing goes on on the others.
Ending = Literal["", "exit", "cancelled", "timeout", "lost"]


class BadAllocation(ValueError):
    """The environment speaks of an allocation that makes no sense. `fix` is a command that helps."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.fix = fix


class NoAnswer(Exception):
    """The scheduler did not answer a question; the text says why."""


@dataclass(frozen=True)
class Request:
    """What a job asks its scheduler for. None: not asked for. The names are those of hpc-launch's options."""

    nodes: tuple[int, int] = (1, 1)  # the least and the most
    time: float | None = None  # seconds
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    job_name: str | None = None
    output: str | None = None  # a file; its name may have the scheduler's patterns
    dependency: str | None = None
    gpus: str | None = None  # of the whole job
    gpus_per_node: str | None = None  # [TYPE:]N
    cpus_per_task: int | None = None
    mem: str | None = None  # of each node: 16G, 500M; a bare number is MiB
    exclusive: bool = False
    reservation: str | None = None
    signal: str | None = None
    mail_type: str | None = None
    requeue: bool = False  # it may be started again
    submit_arg: Sequence[str] = ()  # for the submitting command as they are


@dataclass(frozen=True)
class Allocation:
    """The nodes of the job that we run in, as its environment has them.

    parts: of a job that asked for several kinds of nodes at once, the nodes of each kind, in the order of `nodes`;
    part_ids: the scheduler's id of each. Empty for any other job.
    """

    job_id: str
    nodes: tuple[str, ...]
    here: str | None  # the node's name when we run on one of them, None on a login node
    parts: tuple[tuple[str, ...], ...] = ()
    part_ids: tuple[str, ...] = ()

    def runs_here(self, hostname: str) -> bool:
        """Whether this host is one of the allocation's nodes (short and full names agree)."""
        short = hostname.split(".")[0]
        return self.here is not None or short in {n.split(".")[0] for n in self.nodes}


@dataclass(frozen=True)
class Share:
    """What a job has of one of its nodes. mem_mb is None where the scheduler does not count memory."""

    gpus: int = 0
    mem_mb: int | None = None


@dataclass(frozen=True)
class JobInfo:
    """One job as its scheduler sees it. exit_signal is 0 when its script ended by itself."""

    job_id: str
    phase: Phase
    state: str  # the scheduler's own word, for people
    ending: Ending = ""
    reason: str = ""  # the scheduler's own word for why it waits, or ended
    why: str = ""  # the same in plain words
    exit_code: int = 0
    exit_signal: int = 0
    nodes: tuple[str, ...] = ()
    partition: str = ""
    start: str = ""  # local time, 2026-11-21T14:20:04; an estimate while it waits; "" when unknown
    run_time_s: float = 0.0
    limit_s: float | None = None
    left: str = ""  # the time that is left, as the scheduler writes it
    granted: Mapping[str, Share] = field(default_factory=dict)  # by the node's name
    stopped: bool = False  # it has its nodes, and does not run there for a while
    preempted: bool = False  # its nodes are taken for another job: the time that is left is what it has to end
    runs_again: bool = False  # it may be put back into the queue after it ran, by its owner or the scheduler

    @property
    def time_left_s(self) -> float | None:
        return None if self.limit_s is None else max(0.0, self.limit_s - self.run_time_s)


@dataclass(frozen=True)
class JobNews:
    """What is known so far about one job; nothing at all when the scheduler did not answer.

    `known` is False when the scheduler says that it has no such job (any more).
    """

    info: JobInfo | None = None
    known: bool = True
    position: int | None = None  # its place in the queue, from 1; in the last news of an inquiry


@dataclass(frozen=True)
class Diagnosis:
    """A refusal explained: an error code, what is wrong, and the options that would be accepted."""

    code: str
    what: str
    fix: Mapping[str, str] = field(default_factory=dict)
    valid: str = ""  # what there would be instead
    why: str = ""  # the scheduler's own words
    hint: str = ""  # what helps where no option does
    may_be_taken: bool = False  # there was no answer: nobody knows whether the scheduler has the job


class Refused(Exception):
    """The scheduler did not take the job."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(diagnosis.what)
        self.diagnosis = diagnosis


@dataclass(frozen=True)
class Forecast:
    """When a job would start, as far as its scheduler tells.

    start_s: seconds since 1970; None: it does not tell, and `why` says so in words, with what else is known. cpus,
    gpus: what the whole job would be given, 0 where that is not told. free: how many nodes that have what each node of
    the job asks for have it free at this moment; None where nobody has looked.
    """

    start_s: float | None = None
    why: str = ""
    cpus: int = 0
    gpus: int = 0
    free: int | None = None


@dataclass(frozen=True)
class Reply:
    """What became of an order. `unknown`: the scheduler has no such job (any more)."""

    ok: bool
    unknown: bool = False
    why: str = ""


@dataclass(frozen=True)
class Command:
    """A command line with its whole environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True)
class StepVariables:
    """Variables that tell a process which part of which job's step it is: a node's own children must not believe it.

    A variable goes when it has one of the names or begins with one of the prefixes, unless it is one of `kept`.
    """

    prefixes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


class Inquiry(Protocol):
    """A question about one job that is on its way."""

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""

    def poll(self) -> JobNews | None:
        """What has come since the last call, None if nothing has. Never blocks."""

    def close(self) -> None:
        """Let it go, answered or not."""


class NodeSource(Protocol):
    """Where nodes come from."""

    #: In small letters: the value of --scheduler, and what job.json and the session's status say.
    name: ClassVar[str]
    #: For people, at the beginning of a sentence or within one.
    title: ClassVar[str]

    def here(self, env: Mapping[str, str]) -> Allocation | None:
        """The allocation that this environment belongs to, None outside; BadAllocation if it makes no sense."""

    def configured(self, env: Mapping[str, str]) -> bool:
        """Whether jobs can be submitted from this machine; decided by files and the environment alone."""

    def group(
        self,
        alloc: Allocation | None,
        nodes: int | None = None,
        *,
        fork: bool = False,
        step_args: Sequence[str] = (),
        base_dir: str | None = None,
        around: Surroundings | None = None,
    ) -> NodeGroup:
        """The nodes of an allocation, the first `nodes` of them, ready to be started as part of a session.

        fork: the calling process has one thread, so that nodes on this machine may be forked from it. step_args: the
        user's own arguments for the command that starts the nodes. base_dir: where their directories are to be.
        around: in what their processes run, if not as this one does.

        Its `start_fields` say which variables tell a node what it was granted, and where it is ("grant_env"). They also
        have what the scheduler itself says of that ("grants"), and "time_left_s".
        """


class Scheduler(NodeSource, Protocol):
    """Where jobs are submitted, too."""

    #: The variable that has the job's id.
    job_env: ClassVar[str]
    #: The commands that submit a job and that start its nodes: so they are named to people. `starts_with` is "" where
    #: the scheduler starts them with the job.
    submits_with: ClassVar[str]
    starts_with: ClassVar[str]
    #: Variables that the submitting command reads by itself begin so.
    reads_env: ClassVar[str]
    #: Variables that may name a folder on each node's own disk, made for the job.
    disk_env: ClassVar[Sequence[str]]
    #: The name of the job script's file.
    script_name: ClassVar[str]
    #: Whether the least and the most of `Request.nodes` may differ.
    node_ranges: ClassVar[bool]
    #: Whether `Request.gpus_per_node` may be several kinds, with commas between.
    gpu_kinds: ClassVar[bool]
    #: What it fills into the name of an output file, for people; "" for nothing.
    output_patterns: ClassVar[str]
    #: The variable that numbers the processes which run the job script, from 1; "" where it runs once.
    numbers_env: ClassVar[str]
    #: What each field of `Request` becomes, "" for what the job does by itself; a field that is not here cannot be
    #: asked for.
    column: ClassVar[Mapping[str, str]]
    #: What the nodes' processes must not inherit.
    strip: ClassVar[StepVariables]

    # -------------------------------------------------------------- before there is a job: pure

    def carries(self) -> bool:
        """Whether a job can do without a file system that its nodes share with this machine: see `submission`."""

    def script(self, request: Request, *, cwd: str, setup: Sequence[str], command: Sequence[str]) -> str:
        """The text of the job script: it runs `command` on the first node, once, after the user's lines `setup`.

        The command must get the scheduler's signals itself (a shell that stands between would keep them).
        """

    def submission(self, script: str, request: Request, *, estimate: bool = False, brought: bool = False) -> list[str]:
        """The command that submits the script in that file, or asks when it would start.

        brought: the scheduler brings the script to the nodes, which see nothing else of this machine. No other user may
        be able to read it.
        """

    def step(self, nodes: Sequence[str], *, whole: bool = True, step_args: Sequence[str] = ()) -> list[str]:
        """The command by which `group` will start the nodes, to be shown; whole: these are all of an allocation."""

    def output_file(self, output: str, job_id: str, job_name: str) -> str | None:
        """The file that `Request.output` means for this job; None when the scheduler alone can tell."""

    # -------------------------------------------------------------- a job: these run commands

    def submit(self, command: Sequence[str], request: Request) -> str:
        """Run a `submission`: the job's id. Refused when it was not taken, or when nobody answered."""

    def estimate(self, command: Sequence[str], request: Request) -> str:
        """Run a `submission` with `estimate`: when the job would start, in words. Refused like `submit`."""

    def forecast(self, script: str, request: Request) -> Forecast:
        """When a job with the script in that file would start, and what it would be given. Nothing is submitted.

        Refused where it would not be taken, or when nobody answered.
        """

    def inquire(self, job_id: str, *, position: bool) -> Inquiry:
        """Ask about one job, and where it waits for its place in the queue, too, without waiting for the answer."""

    def states(self, job_ids: Sequence[str]) -> Mapping[str, JobInfo]:
        """How these jobs stand, in one question; unknown ones are left out. NoAnswer where there is none."""

    def cancel(self, job_id: str) -> Reply:
        """End a job, waiting or running."""

    def requeue(self, job_id: str) -> Reply:
        """End a running job and put it back into its queue; it was submitted with `Request.requeue`."""

    def signal(self, job_id: str, name: str, folder: str) -> Reply:
        """Send a signal ("INT") to the job's hpc-launch alone, which passes it on to the script. folder: the job's, for
        schedulers that cannot do this themselves."""

    def on_each(
        self, alloc: Allocation, nodes: Sequence[str], argv: Sequence[str], step_args: Sequence[str] = ()
    ) -> list[Command]:
        """The commands that together run `argv` once on each of these nodes of the allocation that we are in.

        step_args: arguments of the user's for the command that starts it.

        NoAnswer where the scheduler runs nothing more in a job that is there.
        """

    def broadcast(self, alloc: Allocation, nodes: Sequence[str], source: str, target: str) -> Command | None:
        """The command that copies a file to a path on the own disk of each of these nodes, reading it once.

        None where the scheduler has none, or not for these nodes.
        """

    def run_in(self, job_id: str, host: str, argv: Sequence[str], folder: str) -> Command:
        """The command that runs `argv` on a node of a running job, within it, with its output coming here.

        folder: the job's, as for `signal`. NoAnswer where nothing more can be run in a job that is there.
        """
