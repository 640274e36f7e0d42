"""A gang as the process that made it holds it: its ranks, the runs that are not over, and its end.

A thread of this process waits for what happens. A rank has ended, or a call has failed while other ranks wait for it.
Or nobody needs the gang any more. That all ranks end with the first is the owner's doing (`hpc.spi.share_fate`).
"""

from __future__ import annotations

import threading
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import hpc
from hpc import spi
from hpc.exceptions import GangError, GetTimeoutError, HpcError, SessionLostError, TaskCancelledError, TaskError
from hpc.mpi.exchange import forget
from hpc.mpi.rank import Rank
from hpc.mpi.work import prepare
from hpc.util.placement_group import placement_group, remove_placement_group
from hpc.util.scheduling_strategies import PlacementGroupSchedulingStrategy

#: A rank has raised: those that wait for it in MPI are ended after this time.
GRACE_S = 2.0
#: The ranks may take so long to leave MPI, and then to end, before they are killed.
END_S = 10.0
#: Of what a rank has raised, this much is told with the end of the others.
BRIEF_CHARS = 300


class Run:
    """One call of `Gang.run` that is not over on all ranks."""

    def __init__(self, refs: list[Any]) -> None:
        self.left = {ref: rank for rank, ref in enumerate(refs)}
        self.until = 0.0
        self.failed = -1
        self.why = ""

    def take(self, ref: Any) -> None:
        """This rank's call is over."""
        rank = self.left.pop(ref)
        if self.failed < 0 and _has_failed(ref):
            self.failed, self.why = rank, _reason(ref)
            self.until = time.monotonic() + GRACE_S


def _has_failed(ref: Any) -> bool:
    if not hpc.is_initialized():  # the question would start a session
        raise SessionLostError("the session of the gang was left")
    return spi.places([ref])[0].state == "failed"


def _reason(ref: Any) -> str:
    try:
        hpc.get(ref)
    except TaskCancelledError:
        return "its call was cancelled"
    except TaskError as error:
        text = f"it raised {type(error.cause).__name__}: {error.cause}"
    except HpcError as error:
        text = str(error)
    return text if len(text) <= BRIEF_CHARS else text[:BRIEF_CHARS] + " ..."


class Ranks:
    """The ranks and what becomes of them; the thread holds this, and the user a `Gang`."""

    def __init__(
        self,
        ranks: int,
        resources: Mapping[str, float],
        strategy: str,
        runtime_env: dict[str, Any] | None,
        name: str,
    ) -> None:
        self.name = name or uuid.uuid4().hex[:12]
        self.key = uuid.uuid4().hex
        self.group = placement_group([dict(resources)] * ranks, strategy)
        try:
            cls = hpc.remote(Rank)
            self.actors = [
                cls.options(**_options(resources, self.group, rank, runtime_env)).remote(self.key, rank, ranks)
                for rank in range(ranks)
            ]
            self.fate = spi.share_fate(self.actors, [f"rank {rank}" for rank in range(ranks)])
        except BaseException:
            remove_placement_group(self.group)
            raise
        self.lock = threading.RLock()  # a finalizer may close the gang in the middle of what is done under it
        self.bell = spi.latch()
        self.new: list[Run] = []
        #: Why nothing can be run any more; empty while it can.
        self.closed = ""
        self.described = [actor.describe.remote() for actor in self.actors]
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._serve, name=f"hpc-mpi-{self.name}", daemon=True)
        self.thread.start()

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """Call the function on all ranks."""
        work, given = prepare(function, args, kwargs, len(self.actors))
        with self.lock:
            if self.closed:
                raise GangError(self.closed)
            packed = hpc.put(work)
            refs = [actor.call.remote(packed, *mine) for actor, mine in zip(self.actors, given)]
            if not self.done.is_set():  # else it has ended, and so have these calls
                self.new.append(Run(refs))
                self.bell.open()
        return refs

    def close(self) -> None:
        """Nothing more is run. What was submitted runs to its end, and then the ranks end."""
        with self.lock:
            if not self.closed:
                self.closed = f"gang {self.name} was shut down"
            self.bell.open()

    # -------------------------------------------------------------- on the thread

    def _serve(self) -> None:
        try:
            self._follow()
        except HpcError:
            pass  # the session is gone, and the ranks with it
        finally:
            self.done.set()

    def _follow(self) -> None:
        """Until the gang has ended, or may end."""
        runs: list[Run] = []
        described = {ref: rank for rank, ref in enumerate(self.described)}
        names: dict[int, str] = {}
        while True:
            with self.lock:
                runs += self.new
                self.new = []
                closing, bell = bool(self.closed), self.bell
            if closing and not runs:
                break
            refs = [bell.ref, self.fate.over, *described, *(ref for run in runs for ref in run.left)]
            ready = self._ready(refs, min((run.until for run in runs if run.until), default=None))
            if self.fate.over in ready:
                break
            if bell.ref in ready:
                with self.lock:
                    self.bell = self.bell.again()
            for ref in described.keys() & ready:
                rank = described.pop(ref)
                if _has_failed(ref):
                    continue  # the rank has ended, and the gang with it
                names[rank] = "rank {} ({}, process {})".format(rank, *hpc.get(ref))
                if len(names) == len(self.actors):
                    self._forget()
                    self.fate.rename([names[rank] for rank in range(len(self.actors))])
            for run in runs:
                for ref in run.left.keys() & ready:
                    run.take(ref)
            runs = [run for run in runs if run.left]
            late = [run for run in runs if run.until and time.monotonic() >= run.until]
            if late:
                why = f"{late[0].why}, and others did not return within {GRACE_S:g} s"
                self.fate.end(why, late[0].failed)
        self._end()

    def _ready(self, refs: list[Any], until: float | None) -> set[Any]:
        timeout = None if until is None else max(0.0, until - time.monotonic())
        try:
            if not hpc.wait(refs, num_returns=1, timeout=timeout, fetch_local=False)[0]:
                return set()
            return set(hpc.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)[0])
        except ValueError as error:  # the program has left the session, and may be in another one
            raise SessionLostError("the session of the gang was left") from error

    def _end(self) -> None:
        """End the ranks: in peace, or what is left of them."""
        if not self.fate.is_over:
            left = self._wait([actor.finish.remote() for actor in self.actors])
            self.fate.part()
            if left:  # a rank that waits in MPI would not hear that it shall end
                self._wait([actor.__getattr__("__ray_terminate__").remote() for actor in self.actors])
        for actor in self.actors:
            hpc.kill(actor)  # raises where the session was left
        if hpc.is_initialized():
            remove_placement_group(self.group)
        self._forget()

    def _forget(self) -> None:
        if hpc.is_initialized():  # else this would start a session
            forget(self.key)

    def _wait(self, refs: list[Any]) -> bool:
        """Whether all calls were over in their time."""
        until = time.monotonic() + END_S
        waiting = set(refs)
        while waiting and time.monotonic() < until:
            waiting -= self._ready(list(waiting), until)
        for ref in set(refs) - waiting:
            try:
                hpc.get(ref)
            except HpcError:
                continue
        return not waiting


def _options(each: Mapping[str, float], group: Any, bundle: int, runtime_env: dict[str, Any] | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "num_cpus": each.get("CPU", 0.0),
        "num_gpus": each.get("GPU", 0.0),
        "resources": {name: amount for name, amount in each.items() if name not in ("CPU", "GPU", "memory")},
        "scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle),
    }
    if each.get("memory"):
        options["memory"] = each["memory"]
    if runtime_env is not None:
        options["runtime_env"] = runtime_env
    return options


class Gang:
    """Ranks of an MPI world, made by `gang`. It belongs to the process that made it, and ends with it.

    Dropping it lets what was submitted run to its end. In a ``with`` statement it is shut down at the end of the block,
    and killed if that raises.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._finalizer = weakref.finalize(self, ranks.close)
        self._finalizer.atexit = False

    @property
    def size(self) -> int:
        """The number of ranks."""
        return len(self._ranks.actors)

    @property
    def name(self) -> str:
        """Its name, in errors."""
        return self._ranks.name

    def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> list[hpc.ObjectRef[Any]]:
        """Call ``function(comm, *args, **kwargs)`` on every rank; one reference for each rank's return value, by rank.

        Returns at once. Runs follow one another in the order of their submission. Arguments that are references arrive
        as their values, read-only and without a copy where they are arrays; `per_rank` gives each rank its own.

        Raises GangError if the gang was shut down; the references raise it if it has ended, or ends. Raises TypeError
        and ValueError for what `per_rank` and pickling refuse.
        """
        return self._ranks.run(function, args, kwargs)

    def ready(self, timeout_s: float | None = None) -> None:
        """Wait until all ranks are placed and have their communicator.

        Raises GetTimeoutError after ``timeout_s`` seconds, GangError if a rank has ended: its cause says why.
        """
        hpc.get(self._ranks.described, timeout=timeout_s)

    def shutdown(self, wait: bool = True, timeout_s: float | None = None) -> None:
        """Take no more runs, and end the ranks when what was submitted is over. ``wait``: until then, and until what
        they held is free. Shutting down again changes nothing.

        Raises GetTimeoutError after ``timeout_s`` seconds; `kill` does not wait.
        """
        self._ranks.close()
        if wait and not self._ranks.done.wait(timeout_s):
            raise GetTimeoutError(f"gang {self.name} has not ended within {timeout_s} s")

    def kill(self, why: str = "the gang was killed") -> None:
        """End all ranks at once: unfinished calls raise GangError with this text."""
        self._ranks.fate.end(why)
        self.shutdown()

    def __enter__(self) -> Gang:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None:
            self.shutdown()
        else:
            self.kill("the block of the gang was left by an exception")

    def __reduce__(self) -> Any:
        raise TypeError(
            "a gang cannot be passed on: the order of its runs is kept by the process that made it. Pass what its runs "
            "return, or make the gang in the task or actor that uses it"
        )

    def __repr__(self) -> str:
        return f"<gang {self.name} of {self.size} ranks{', ended' if self._ranks.done.is_set() else ''}>"


def gang(
    ranks: int,
    *,
    resources_per_rank: Mapping[str, float] | None = None,
    placement_strategy: str = "PACK",
    runtime_env: dict[str, Any] | None = None,
    name: str = "",
) -> Gang:
    """Make a gang of MPI ranks. Returns at once; runs wait until all ranks are placed, all or none of them.

    ranks: how many. resources_per_rank: what each holds, {"CPU": 1} by default. placement_strategy: as of placement
    groups, "PACK" (few nodes), "SPREAD", "STRICT_PACK" (one node) or "STRICT_SPREAD" (a node for each). runtime_env: as
    of actors. name: for errors.

    Raises ValueError and TypeError for what makes no sense. Starts a session, or joins the one that is there, as
    `hpc.init` does.
    """
    if isinstance(ranks, bool) or not isinstance(ranks, int):
        raise TypeError(f"ranks must be a number of processes, not {type(ranks).__name__}")
    if ranks < 1:
        raise ValueError(f"a gang has 1 rank or more, not {ranks}")
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, not {type(name).__name__}")
    each = {"CPU": 1.0} if resources_per_rank is None else dict(resources_per_rank)
    return Gang(Ranks(ranks, each, placement_strategy, runtime_env, name))
