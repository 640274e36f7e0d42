"""Which job's door gets a request: the jobs that are known, how they stand, and the hand-over from one to the next.

It is a machine: what happens comes in with the time, and nothing here has a clock, a file or a socket. Times are
seconds since 1970, as jobs of other machines tell theirs.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import msgspec

#: A job that has told nothing for this long gets requests only where no other one serves.
SILENT_S = 30.0
#: A door that took no connection is asked again after this long, and twice as long each time.
FIRST_PAUSE_S, MOST_PAUSE_S = 0.2, 5.0
#: After this number of failed probes in a row a door gets nothing until one succeeds.
MISSES = 3


class JobRow(msgspec.Struct, frozen=True):
    """What a job tells of its service. ``doors``: as "unix:PATH" of ``host``, or an URL. ``ends_at``: its walltime's
    end. ``at``: when this was told. ``keys_file``, ``certificate``: files of the doors on TCP."""

    name: str
    host: str
    doors: list[str] = []
    is_ready: bool = False
    is_leaving: bool = False
    ends_at: float | None = None
    began_at: float = 0.0
    at: float = 0.0
    keys_file: str = ""
    certificate: str = ""


class JobState(enum.Enum):
    """How a job stands: no door of it is well yet; it serves; it serves what it has, and new requests go elsewhere."""

    WARMING = "warming"
    SERVING = "serving"
    LEAVING = "leaving"


@dataclass(eq=False, slots=True)
class Door:
    """A door of a job, as the gateway sees it. ``running``: how many requests it has of us."""

    job: str
    text: str
    is_well: bool = False
    misses: int = 0
    pause_s: float = 0.0
    closed_until: float = 0.0
    running: int = 0
    is_gone: bool = False

    def is_open(self, now: float) -> bool:
        """Whether it may be given a request."""
        return self.is_well and now >= self.closed_until and not self.is_gone


@dataclass(slots=True)
class Job:
    """A job with a service. ``well_at``: when it was ready last; before that, when it began."""

    row: JobRow
    well_at: float = 0.0
    doors: dict[str, Door] = field(default_factory=dict)


class Backends:
    """The jobs. ``lead_s``: a job that ends within this time is left, as soon as another one serves."""

    def __init__(self, host: str, lead_s: float) -> None:
        self._host = host
        self.lead_s = lead_s
        self.jobs: dict[str, Job] = {}
        self._turn = 0

    # -------------------------------------------------------------- what is known

    def update(self, rows: Iterable[JobRow]) -> None:
        """The registry has these jobs."""
        told = {row.name: row for row in rows}
        for name in [name for name in self.jobs if name not in told]:
            self._forget(self.jobs.pop(name), ())
        for name, row in told.items():
            job = self.jobs.setdefault(name, Job(row))
            job.row = row
            job.well_at = max(job.well_at, row.at if row.is_ready else row.began_at)
            texts = reachable(row, self._host)
            self._forget(job, texts)
            for text in texts:
                if text not in job.doors:
                    job.doors[text] = Door(name, text)

    def _forget(self, job: Job, kept: Collection[str]) -> None:
        for text in [text for text in job.doors if text not in kept]:
            job.doors.pop(text).is_gone = True

    def doors(self) -> list[Door]:
        """All doors, to be probed."""
        return [door for job in self.jobs.values() for door in job.doors.values()]

    def probed(self, door: Door, is_well: bool) -> None:
        """A door has answered that it is well, or has not."""
        if is_well:
            door.is_well, door.misses, door.pause_s, door.closed_until = True, 0, 0.0, 0.0
        else:
            door.misses += 1
            door.is_well = door.is_well and door.misses < MISSES

    def refused(self, door: Door, now: float) -> None:
        """A door took no connection, or broke one before its answer."""
        door.pause_s = min(MOST_PAUSE_S, 2 * door.pause_s or FIRST_PAUSE_S)
        door.closed_until = now + door.pause_s

    def answered(self, door: Door) -> None:
        """A door has answered a request."""
        door.misses, door.pause_s, door.closed_until = 0, 0.0, 0.0

    # -------------------------------------------------------------- requests

    def state(self, job: Job, now: float) -> JobState:
        """How a job stands."""
        row = job.row
        if row.is_leaving or (row.ends_at is not None and row.ends_at - now <= self.lead_s):
            return JobState.LEAVING
        if row.is_ready and now - row.at <= SILENT_S and any(door.is_open(now) for door in job.doors.values()):
            return JobState.SERVING
        return JobState.WARMING

    def choose(self, now: float, avoided: Collection[Door] = ()) -> Door | None:
        """The door for a request: of the jobs that serve the one with the fewest requests. Where none serves it is one
        of a job that warms or leaves, if it is open: a late answer is better than none. None: no door is open."""
        best: list[Door] = []
        rank: tuple[int, float, bool, int] | None = None
        for job in self.jobs.values():
            state = self.state(job, now)
            end = job.row.ends_at
            later = 0.0 if state is JobState.SERVING else -(end if end is not None else float("inf"))
            for door in job.doors.values():
                if not door.is_open(now):
                    continue
                own = (_RANK[state], later, door in avoided, door.running)
                if rank is None or own < rank:
                    rank, best = own, [door]
                elif own == rank:
                    best.append(door)
        if not best:
            return None
        self._turn += 1
        return best[self._turn % len(best)]

    def next_at(self, now: float) -> float | None:
        """When the first door that is closed for a while opens again."""
        times = [door.closed_until for door in self.doors() if door.is_well and door.closed_until > now]
        return min(times, default=None)

    def serves_until(self, now: float, warm_s: float) -> float | None:
        """Until when some job has a service that can be relied on; None where the last one has no end. ``warm_s``: one
        that was not ready for longer is not relied on.

        ``now`` where none serves or warms."""
        until = now
        for job in self.jobs.values():
            is_warm = job.row.is_ready or now - job.well_at <= warm_s
            if job.row.is_leaving or now - job.row.at > SILENT_S or not is_warm:
                continue
            if job.row.ends_at is None:
                return None
            until = max(until, job.row.ends_at)
        return until


_RANK = {JobState.SERVING: 0, JobState.WARMING: 1, JobState.LEAVING: 2}


def reachable(row: JobRow, host: str) -> list[str]:
    """The doors of a job that can be reached from this host. A socket is better than a port where both lead there."""
    sockets = [door for door in row.doors if door.startswith("unix:")] if row.host == host else []
    return sockets or [door for door in row.doors if not door.startswith("unix:")]


class Succession:
    """When the next job is submitted: so that it serves before the last one ends. One at a time waits. ``lead_s`` is
    about how long one takes until it is ready: one that is not by then is not waited for."""

    def __init__(self, lead_s: float, patience_s: float) -> None:
        self.lead_s = lead_s
        self._patience_s = patience_s
        self._submitted_at: float | None = None
        self._known: set[str] = set()
        self._failures = 0
        self._not_before = 0.0

    def is_due(self, backends: Backends, now: float) -> bool:
        """Whether to submit now."""
        if self._submitted_at is not None:
            has_come = any(name not in self._known for name in backends.jobs)
            if not has_come and now - self._submitted_at < self._patience_s:
                return False
            self._submitted_at = None
            self._failures = 0
        until = backends.serves_until(now, self.lead_s)
        return until is not None and until - now <= self.lead_s and now >= self._not_before

    def submitted(self, backends: Backends, now: float) -> None:
        """It was submitted."""
        self.resume(backends.jobs, now)

    def resume(self, known: Iterable[str], at: float) -> None:
        """One was submitted then, where these jobs were known."""
        self._known, self._submitted_at = set(known), at

    @property
    def known(self) -> list[str]:
        """The jobs that were known as the last one was submitted."""
        return sorted(self._known)

    @property
    def waits(self) -> bool:
        """Whether a job was submitted that has not told of itself yet."""
        return self._submitted_at is not None

    def failed(self, now: float) -> None:
        """It could not be submitted, or has ended before it has told of itself: again, later each time."""
        self._submitted_at = None
        self._failures += 1
        self._not_before = now + min(600.0, 5.0 * 2 ** min(self._failures, 10))
