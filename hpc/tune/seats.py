"""Rooms of trials on the nodes, and the actors in them: made, called, kept for the next trial, and ended.

A seat is the room of one trial. One bundle is an actor with these resources. More are a placement group, with the actor
in its first bundle. Calls return at once; `Seats.wait` tells which have been answered.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import hpc
from hpc import spi
from hpc.exceptions import ActorError, HpcError, SessionLostError
from hpc.runs.reservation import ACCELERATOR
from hpc.tune.placement import PlacementGroupFactory
from hpc.tune.rendezvous import Ended
from hpc.tune.worker import Experiment, TrialActor, Work
from hpc.util.placement_group import remove_placement_group
from hpc.util.scheduling_strategies import PlacementGroupSchedulingStrategy

#: A class that is told to end has this time for its step and its cleanup, then its process is killed.
CLASS_GRACE_S = 600.0
#: The same for a function, which keeps nothing.
FUNCTION_GRACE_S = 10.0

#: What is told to end when the time is over has this long, and is killed then.
LAST_S = 2.0

#: Which nodes there are is looked at so often at most.
LOOK_S = 1.0

Kind = Literal["reserve", "start", "next", "save", "stop"]


class Answer(NamedTuple):
    """A call is over: what it returned, or raised. preempted: the actor died because its node is gone or leaves."""

    seat: int
    kind: Kind
    value: Any = None
    error: BaseException | None = None
    preempted: bool = False


@dataclass
class Seat:
    """One room. ``actor``: the process in it, if there is one; fresh: it has run no trial; failed: its trial has, so it
    runs no further one."""

    number: int
    shape: PlacementGroupFactory
    group: Any = None
    actor: Any = None
    fresh: bool = True
    failed: bool = False
    node: str = ""
    pending: Any = None
    kind: Kind = "reserve"
    work: Work | None = None
    deadline_s: float = float("inf")


class Seats:
    """All rooms of one experiment. is_function: whether its trainable is one; reuse: whether actors are."""

    def __init__(self, trainable: bytes, experiment: Experiment, is_function: bool, reuse: bool) -> None:
        self._trainable = hpc.put(trainable)
        self._experiment = hpc.put(experiment)
        self._made: Any = hpc.remote(TrialActor)
        self._is_function = is_function
        self._reuse = reuse
        self._seats: dict[int, Seat] = {}
        self._pending: dict[Any, Seat] = {}
        self._leaving: dict[Any, tuple[Any, float]] = {}  # last calls of actors that are done with
        default = FUNCTION_GRACE_S if is_function else CLASS_GRACE_S
        self._grace_s = float(os.environ.get("TUNE_FORCE_TRIAL_CLEANUP_S", default)) or default
        self._until_s = float("inf")
        self._possible: set[PlacementGroupFactory] = set()
        self._ended: set[int] = set()  # seats whose function has returned: it needs no call to stop it
        self._answers: list[Answer] = []  # of what needed no call
        self._nodes: set[str] = set()
        self._nodes_s = float("-inf")

    def why_never(self, shape: PlacementGroupFactory) -> str:
        """Why no node could ever have this room; "" if it may come."""
        if shape in self._possible:
            return ""
        why = why_never(shape)
        if not why:
            self._possible.add(shape)
        return why

    def reserve(self, number: int, shape: PlacementGroupFactory) -> None:
        """Ask for a room; answered when it is there."""
        seat = self._seats[number] = Seat(number, shape)
        if shape.is_plain:
            seat.actor = self._actor(seat)
            self._call(seat, "reserve", seat.actor.ready.remote())
        else:
            seat.group = shape.to_placement_group()
            self._call(seat, "reserve", seat.group.ready())

    def release(self, number: int) -> None:
        """Give a room back, or do not wait for it any more."""
        seat = self._seats.pop(number, None)
        if seat is None:
            return  # it could never have been there, so nobody has asked for it
        self._forget(seat)
        self._end_actor(seat)
        if seat.group is not None:
            try:
                remove_placement_group(seat.group)
            except SessionLostError:
                raise
            except (HpcError, OSError):
                pass

    def start(self, number: int, work: Work) -> None:
        """Run a trial there: answered by what has happened until its first results."""
        seat = self._seats[number]
        seat.work = work
        self._start(seat)

    def _start(self, seat: Seat) -> None:
        if seat.actor is not None and not seat.fresh and not self._reuse:
            self._end_actor(seat)
        if seat.actor is None and not self._take_waiting(seat):
            seat.actor = self._actor(seat)
        self._ended.discard(seat.number)
        self._call(seat, "start", seat.actor.start.remote(seat.work))

    def _take_waiting(self, seat: Seat) -> bool:
        """Exchange places with the seat that has waited longest, if one waits for an equal room.

        The room that the last process has left goes to the one of that seat. A new process would wait behind it.
        """
        if seat.group is not None:
            return False
        for other in self._seats.values():
            if other is not seat and self._is_idle(other) and other.shape == seat.shape:
                seat.actor, seat.fresh, seat.failed, seat.node = other.actor, other.fresh, False, other.node
                other.actor = None
                return True
        for other in self._pending.values():
            if other.kind == "reserve" and other.group is None and other.shape == seat.shape:
                seat.actor, seat.fresh, seat.failed, seat.node = other.actor, True, False, ""
                self._forget(other)
                other.actor = self._actor(other)
                self._call(other, "reserve", other.actor.ready.remote())
                return True
        return False

    def _is_idle(self, seat: Seat) -> bool:
        """Whether it has a process without a trial, which can run any trial."""
        free = seat.pending is None and seat.kind in ("reserve", "stop") and seat.actor is not None
        return free and seat.group is None and not seat.failed and (self._reuse or seat.fresh)

    def _is_in_the_way(self, seat: Seat) -> bool:
        """Whether a trial waits for the room that an idle process holds."""
        return seat.group is None and any(
            one.kind == "start" and one.fresh and one.shape == seat.shape and not spi.has_begun(one.actor)
            for one in self._pending.values()
        )

    def go_on(self, number: int) -> None:
        """Let the trial go on: answered by its next results."""
        seat = self._seats[number]
        self._call(seat, "next", seat.actor.next.remote())

    def save(self, number: int) -> None:
        """Have the trial save: answered by the name of its checkpoint, or None."""
        seat = self._seats[number]
        self._call(seat, "save", seat.actor.save.remote())

    def stop(self, number: int) -> None:
        """End the trial: answered when nothing of it runs. Its process is kept where it may be used again."""
        seat = self._seats[number]
        self._forget(seat)
        if seat.actor is None:
            self._answers.append(Answer(number, "stop"))
        elif (number in self._ended and not self._reuse) or not spi.has_begun(seat.actor):
            # A process that is not there yet may never come, as where the session drains.
            self._kill(seat)
            self._answers.append(Answer(number, "stop"))
        elif number in self._ended:
            self._answers.append(Answer(number, "stop"))
        else:
            self._call(seat, "stop", seat.actor.stop.remote(not self._reuse or seat.failed))
            seat.deadline_s = self._deadline_s()

    def hurry(self, left_s: float) -> None:
        """The time is over after so many seconds: what is to end has no longer than this, whenever it is told."""
        self._until_s = time.monotonic() + left_s
        latest_s = self._deadline_s()
        for seat in self._seats.values():
            seat.deadline_s = min(seat.deadline_s, latest_s)
        for ref, (actor, until_s) in self._leaving.items():
            self._leaving[ref] = actor, min(until_s, latest_s)

    def _deadline_s(self) -> float:
        """What is told to end now is killed then, if it still runs."""
        now_s = time.monotonic()
        return min(now_s + self._grace_s, max(self._until_s, now_s + LAST_S))

    def wait(self, timeout_s: float, others: Sequence[Any] = ()) -> list[Answer]:
        """What has been answered, once there is something, or one of the other references has a value; [] after the
        time."""
        refs = [*self._pending, *others]
        if not self._answers and refs:
            hpc.wait(refs, num_returns=1, timeout=timeout_s)
        elif not self._answers:
            time.sleep(timeout_s)
        found, self._answers = self._answers, []
        if self._pending:
            refs = list(self._pending)
            for ref in hpc.wait(refs, num_returns=len(refs), timeout=0)[0]:
                answer = self._answer(ref)
                if answer is not None:
                    found.append(answer)
        found.extend(self._overdue())
        return found

    def _answer(self, ref: Any) -> Answer | None:
        seat = self._pending.pop(ref)
        kind, number = seat.kind, seat.number
        seat.pending = None
        try:
            value = hpc.get(ref)
        except SessionLostError:
            raise
        except BaseException as error:
            return self._failed(seat, kind, error)
        if kind == "stop":
            if not value or not self._reuse or seat.failed or self._is_in_the_way(seat):
                self._kill(seat)
            return Answer(number, "stop")
        if kind in ("start", "next") and value and isinstance(value[-1], Ended):
            self._ended.add(number)
        if kind == "start":
            seat.fresh = False
            seat.node = value[0].node
        return Answer(number, kind, value)

    def _failed(self, seat: Seat, kind: Kind, error: BaseException) -> Answer | None:
        """A call has raised. The process is not used for another trial."""
        died = isinstance(error, ActorError)
        if kind == "start" and died and not seat.fresh:  # it had died between two trials
            self._kill(seat)
            self._start(seat)
            return None
        if kind == "reserve":
            if seat.group is not None:
                return Answer(seat.number, kind, error=error)
            self._kill(seat)  # the next start makes another one, and tells what is wrong
            return Answer(seat.number, kind)
        preempted = died and self._was_taken(seat)
        if died or kind == "stop":
            self._kill(seat)
        else:
            seat.fresh, seat.failed = False, True
        if kind == "stop":
            return Answer(seat.number, kind)
        return Answer(seat.number, kind, error=error, preempted=preempted)

    def _was_taken(self, seat: Seat) -> bool:
        """Whether the node that the actor was on is gone, or leaves."""
        alive = {row["NodeID"] for row in hpc.nodes() if row["Alive"]}
        return seat.node not in alive if seat.node else not self._nodes <= alive

    def _overdue(self) -> list[Answer]:
        """What has not ended in its time is killed."""
        found = []
        now_s = time.monotonic()
        for seat in list(self._pending.values()):
            if seat.kind == "stop" and now_s > seat.deadline_s:
                self._forget(seat)
                self._kill(seat)
                found.append(Answer(seat.number, "stop"))
        for ref, (actor, until_s) in list(self._leaving.items()):
            if now_s > until_s or hpc.wait([ref], timeout=0)[0]:
                del self._leaving[ref]
                _kill_actor(actor)
        return found

    def close(self) -> None:
        """Give all rooms back, and wait until the processes have cleaned up."""
        for number in list(self._seats):
            self.release(number)
        while self._leaving:
            hpc.wait(list(self._leaving), num_returns=1, timeout=min(1.0, self._grace_s))
            self._overdue()

    def kill(self) -> None:
        """End all processes at once, and give all rooms back."""
        for seat in self._seats.values():
            self._kill(seat)
        for actor, _ in self._leaving.values():
            _kill_actor(actor)
        self._leaving.clear()
        self.close()

    def _actor(self, seat: Seat) -> Any:
        self._nodes = {row["NodeID"] for row in hpc.nodes() if row["Alive"]} if self._nodes_are_old() else self._nodes
        options = _options(seat.shape.head)
        if seat.group is not None:
            index = -1 if seat.shape.head_bundle_is_empty else 0
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                seat.group, index, placement_group_capture_child_tasks=True
            )
        seat.fresh, seat.failed, seat.node = True, False, ""
        return self._made.options(**options).remote(self._trainable, self._experiment)

    def _nodes_are_old(self) -> bool:
        now_s = time.monotonic()
        if now_s < self._nodes_s + LOOK_S:
            return False
        self._nodes_s = now_s
        return True

    def _call(self, seat: Seat, kind: Kind, ref: Any) -> None:
        seat.pending, seat.kind = ref, kind
        self._pending[ref] = seat

    def _forget(self, seat: Seat) -> None:
        """Take no answer to what was called."""
        if seat.pending is not None:
            self._pending.pop(seat.pending, None)
            seat.pending = None

    def _end_actor(self, seat: Seat) -> None:
        """A class that was kept for a further trial cleans up; other processes just end."""
        if seat.actor is None or seat.fresh or self._is_function or not self._reuse:
            self._kill(seat)
            return
        self._leaving[seat.actor.finish.remote()] = seat.actor, self._deadline_s()
        seat.actor = None

    def _kill(self, seat: Seat) -> None:
        if seat.actor is not None:
            actor, seat.actor = seat.actor, None
            _kill_actor(actor)


def why_never(shape: PlacementGroupFactory) -> str:
    """Why no node could ever have this room, though all were idle; "" if it may come."""
    why = spi.why_no_room(spi.idle(spi.rooms()), shape.bundles, shape.strategy)
    return "" if spi.may_grow() else why


def _kill_actor(actor: Any) -> None:
    try:
        hpc.kill(actor)
    except SessionLostError:
        raise
    except (HpcError, OSError):
        pass


def _options(head: dict[str, float]) -> dict[str, Any]:
    """The options of an actor that holds these resources."""
    kinds = [name.removeprefix(ACCELERATOR) for name in head if name.startswith(ACCELERATOR)]
    options: dict[str, Any] = {
        "num_cpus": head.get("CPU", 0.0),
        "num_gpus": head.get("GPU", 0.0),
        "resources": {
            name: amount
            for name, amount in head.items()
            if name not in ("CPU", "GPU", "memory") and not name.startswith(ACCELERATOR)
        },
    }
    if kinds:
        options["accelerator_type"] = kinds[0]
    if head.get("memory"):
        options["memory"] = head["memory"]
    return options
