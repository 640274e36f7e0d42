"""Which replica takes a request: the pure machine of one caller (a handle's process, a proxy) for one deployment.

The machine counts the requests that it has sent itself. Of two replicas drawn at random the one with fewer gets the
next (power of two choices, Mitzenmacher 2001). It asks no replica how long its queue is. A replica that others have
filled rejects a request, which goes to the front of the queue here and to another replica. The full one is left alone
for a while, longer each time, or until one of our own requests there has ended.

A request that finds no room waits, by priority and then in order. Times are seconds of a clock that never goes back;
they come in with each event. Chance comes from the generator that the machine was given.
"""

from __future__ import annotations

import heapq
import random
import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from hpc.serve.messages import DeploymentTable, ReplicaRow

Policy = Literal["two_choices", "least"]
#: How long a request waits for a replica that has its model before another one loads it.
MODEL_WAIT_S = 1.0
#: Of each replica at most this many models are kept in mind: any client names some, whether they are there or not.
MOST_MODELS = 1000
#: How many requests of a queue are looked at for one that fits what is free.
LOOK_AHEAD = 64
#: How often a request that a replica may have begun is sent again, where that is safe.
MAX_RETRIES = 2
#: One retry for so many requests; and how many at once when there were few. More where the replicas of a node may run
#: more: a node that is lost has lost as many.
RETRY_EACH = 5
RETRY_RESERVE = 10
#: As many deadlines are kept of requests that do not wait any more, beside as many as do wait.
FEW_DEADLINES = 64


class QueueFull(Exception):
    """As many requests wait as may."""

    def __init__(self, queued: int, limit: int) -> None:
        super().__init__(queued, limit)
        self.queued = queued
        self.limit = limit


class Backoff(NamedTuple):
    """How long a replica that was full is left alone: the first time, the factor, the longest time."""

    initial_s: float = 0.025
    factor: float = 2.0
    max_s: float = 0.5


class Home(NamedTuple):
    """Where the caller is, and whether it prefers replicas there."""

    node: str = ""
    zone: str = ""
    prefers_node: bool = False
    prefers_zone: bool = False


AT_HOME = Home()
PATIENT = Backoff()


class Request:
    """What the machine must know of a request. The shell has subclasses of it with all the rest."""

    __slots__ = ("deadline", "model", "number", "priority", "retries", "seat", "session", "since", "state")

    def __init__(
        self, model: str = "", session: str = "", priority: int = 0, deadline: float | None = None, since: float = 0.0
    ) -> None:
        self.model = model
        self.session = session
        self.priority = priority
        self.deadline = deadline
        self.since = since
        self.number = 0
        self.retries = 0
        self.seat: Seat | None = None
        self.state: Literal["new", "queued", "sent", "over"] = "new"


class Seat:
    """A replica as the caller sees it. ``running``: how many of the caller's requests it has."""

    __slots__ = (
        "full_until",
        "heard_at",
        "id",
        "is_gone",
        "is_silent",
        "limit",
        "models",
        "refusals",
        "row",
        "running",
    )

    def __init__(self, row: ReplicaRow, limit: int) -> None:
        self.id = row.id
        self.row = row
        self.limit = limit
        self.running = 0
        self.models = set(row.model_ids)
        self.full_until = 0.0
        #: When the replica has said something last: the shell keeps it.
        self.heard_at = 0.0
        self.refusals = 0
        self.is_silent = False
        self.is_gone = False

    def has_room(self, now: float) -> bool:
        """Whether it may be given one more."""
        return self.running < self.limit and not self.is_silent and not self.is_gone and self.full_until <= now


Assigned = list[tuple[Request, Seat]]


class RouterMachine:
    """The requests of one caller for one deployment, and the replicas for them."""

    def __init__(
        self,
        rng: random.Random,
        home: Home = AT_HOME,
        policy: Policy = "two_choices",
        backoff: Backoff = PATIENT,
        model_wait_s: float = MODEL_WAIT_S,
    ) -> None:
        self._rng = rng
        self.home = home
        self.policy = policy
        self._backoff = backoff
        self._model_wait_s = model_wait_s
        self.max_queued = -1
        #: Somebody else chooses for those that wait.
        self.is_manual = False
        self.version = -1
        self.seats: dict[str, Seat] = {}
        #: Near ones first: of this node, of this zone, all.
        self._tiers: list[list[Seat]] = [[]]
        self._gone: set[str] = set()
        #: By priority, the highest first.
        self._queues: dict[int, deque[Request]] = {0: deque()}
        self._order: list[int] = [0]
        self._deadlines: list[tuple[float, int, Request]] = []
        self._count = 0
        self.queued = 0
        self._budget = self._most_budget = RETRY_RESERVE * RETRY_EACH

    # -------------------------------------------------------------- replicas

    def update(self, table: DeploymentTable, now: float) -> Assigned:
        """The controller says which replicas there are; an older word than the last changes nothing."""
        if table.version <= self.version:
            return []
        self.version = table.version
        self.max_queued = table.max_queued_requests
        before, self.seats = self.seats, {}
        for row in table.replicas:
            if row.id in self._gone:
                continue
            limit = row.max_ongoing or table.max_ongoing_requests
            seat = before.get(row.id)
            if seat is None:
                seat = Seat(row, limit)
            else:
                if seat.row != row:
                    seat.models = set(row.model_ids)
                seat.row, seat.limit = row, limit
            self.seats[row.id] = seat
        for ident, seat in before.items():
            seat.is_gone = ident not in self.seats
        self._gone &= {row.id for row in table.replicas}
        self._cover()
        self._sort()
        return self.drain(now)

    def _cover(self) -> None:
        """Have the retries that are left at once be enough for the loss of any node."""
        rooms: dict[str, int] = {}
        for seat in self.seats.values():
            rooms[seat.row.node] = rooms.get(seat.row.node, 0) + seat.limit
        before, self._most_budget = self._most_budget, max(RETRY_RESERVE, *rooms.values(), 0) * RETRY_EACH
        self._budget = min(self._most_budget, self._budget + max(0, self._most_budget - before))

    def clear(self) -> None:
        """There are no replicas; the next table is the first one."""
        for seat in self.seats.values():
            seat.is_gone = True
        self.seats = {}
        self.version = -1
        self._sort()

    def lost(self, ident: str) -> None:
        """A replica is dead, whatever the table says: it gets no request any more."""
        self._gone.add(ident)
        seat = self.seats.pop(ident, None)
        if seat is not None:
            seat.is_gone = True
            self._sort()

    def silent(self, seat: Seat, is_silent: bool, now: float) -> Assigned:
        """A replica says nothing, or speaks again."""
        seat.is_silent = is_silent
        return [] if is_silent else self.drain(now)

    def _sort(self) -> None:
        everyone = list(self.seats.values())
        home, tiers = self.home, []
        if home.prefers_node:
            tiers.append([seat for seat in everyone if seat.row.node == home.node])
        if home.prefers_zone and home.zone:
            tiers.append([seat for seat in everyone if seat.row.zone == home.zone])
        self._tiers = [tier for tier in tiers if tier and len(tier) < len(everyone)] + [everyone]

    # -------------------------------------------------------------- requests

    def offer(self, request: Request, now: float) -> Seat | None:
        """A new request: the replica to which it is to be sent now, or None while it waits.

        Raises QueueFull if it would have to wait and the queue has its length."""
        if self._budget < self._most_budget:
            self._budget += 1
        if not self.queued or self._overtakes(request):
            seat = self._choose(request, now, None)
            if seat is not None:
                return self._assign(request, seat)
        if 0 <= self.max_queued <= self.queued:
            raise QueueFull(self.queued, self.max_queued)
        self._enqueue(request, now, front=False)
        return None

    def _overtakes(self, request: Request) -> bool:
        """Whether nothing waits that comes before it: those that wait for their model hold up nobody else."""
        for priority in self._order:
            if priority < request.priority:
                return True
            if any(not other.model for other in self._queues[priority]):
                return False
        return not request.model

    def take(self, request: Request, seat: Seat) -> None:
        """A request goes to this replica because somebody else has chosen it."""
        self._assign(request, seat)

    def wait(self, request: Request, now: float, front: bool = False) -> None:
        """A request waits, whatever is free: somebody else chooses for it."""
        self._enqueue(request, now, front)

    def done(self, request: Request, now: float) -> Assigned:
        """A request has its answer: what goes out now instead."""
        seat = self._leave(request)
        request.state = "over"
        if seat is None:
            return []
        seat.refusals, seat.full_until = 0, 0.0
        return self.drain(now, seat) if self.queued else []

    def rejected(self, request: Request, now: float, is_draining: bool = False) -> Assigned:
        """The replica did not take it: it waits at the front, and the replica is left alone for a while."""
        seat = self._leave(request)
        if seat is not None:
            backoff = self._backoff
            pause_s = min(backoff.max_s, backoff.initial_s * backoff.factor ** min(seat.refusals, 30))
            seat.refusals += 1
            seat.full_until = now + pause_s
            if is_draining:
                self.lost(seat.id)
        self._enqueue(request, now, front=True)
        return self.drain(now)

    def again(self, request: Request, now: float) -> Assigned:
        """A request comes back from a replica that has ended, and waits at the front."""
        self._leave(request)
        self._enqueue(request, now, front=True)
        return self.drain(now)

    def served_beside(self, count: int) -> None:
        """A number of requests were served without this machine: they allow retries as its own do."""
        self._budget = min(self._most_budget, self._budget + count)

    def may_retry(self, request: Request) -> bool:
        """Whether a request that may have begun is sent once more; the caller knows that it is safe. Counts it."""
        if request.retries >= MAX_RETRIES or self._budget < RETRY_EACH:
            return False
        self._budget -= RETRY_EACH
        request.retries += 1
        return True

    def withdraw(self, request: Request) -> None:
        """Nobody wants the answer any more. One that was sent is counted until `done`."""
        if request.state == "queued":
            self._queues[request.priority].remove(request)
            self.queued -= 1
            request.state = "over"

    def tick(self, now: float) -> tuple[Assigned, list[Request]]:
        """Time has passed: what goes out now, and whose time is over while it waited."""
        late: list[Request] = []
        heap = self._deadlines
        while heap and heap[0][0] <= now:
            request = heapq.heappop(heap)[2]
            if request.state == "queued":
                self.withdraw(request)
                late.append(request)
        assigned = self.drain(now)
        self._forget_deadlines()
        return assigned, late

    def next_at(self, now: float) -> float | None:
        """When `tick` has something to do, if nothing else happens before. A request whose time to load its model
        elsewhere has come waits for room alone."""
        times: list[float] = []
        if self.queued:
            times += [seat.full_until for seat in self.seats.values()]
            for queue in self._queues.values():
                times += [one.since + self._model_wait_s for one in _first(queue) if one.model]
            times = [at for at in times if at > now]
        if self._deadlines:
            times.append(self._deadlines[0][0])
        return max(now, min(times)) if times else None

    def waiting(self) -> Iterable[Request]:
        """The requests that wait, in the order in which they are served."""
        for priority in self._order:
            yield from self._queues[priority]

    def drain(self, now: float, free: Seat | None = None) -> Assigned:
        """Give those that wait to replicas that have room. ``free``: the one that has it, where that is known."""
        assigned: Assigned = []
        if not self.queued or not self.seats or self.is_manual:
            return assigned
        for priority in self._order:
            queue = self._queues[priority]
            kept: list[Request] = []
            looked = 0
            while queue and looked < LOOK_AHEAD:
                request = queue[0]
                seat = self._choose(request, now, free)
                if seat is not None:
                    queue.popleft()
                    self.queued -= 1
                    self._assign(request, seat)
                    assigned.append((request, seat))
                    continue
                if not request.model:
                    break  # nothing is free for anybody
                kept.append(queue.popleft())
                looked += 1
            blocked = bool(queue)
            queue.extendleft(reversed(kept))
            if blocked and looked < LOOK_AHEAD:
                break
        return assigned

    # -------------------------------------------------------------- inside

    def _enqueue(self, request: Request, now: float, front: bool) -> None:
        queue = self._queues.get(request.priority)
        if queue is None:
            queue = self._queues[request.priority] = deque()
            self._order = sorted(self._queues, reverse=True)
        if front:
            queue.appendleft(request)
        else:
            queue.append(request)
        self.queued += 1
        if request.state == "new":
            request.since = now
        request.state = "queued"
        if request.deadline is not None:
            self._count += 1
            heapq.heappush(self._deadlines, (request.deadline, self._count, request))
            self._forget_deadlines()

    def _forget_deadlines(self) -> None:
        """Drop those of requests that do not wait any more: their answers would be kept until then."""
        if len(self._deadlines) > 2 * self.queued + FEW_DEADLINES:
            waiting = {id(row[2]): row for row in self._deadlines if row[2].state == "queued"}
            self._deadlines = list(waiting.values())
            heapq.heapify(self._deadlines)

    def _assign(self, request: Request, seat: Seat) -> Seat:
        request.state = "sent"
        request.seat = seat
        seat.running += 1
        if request.model:
            if len(seat.models) >= MOST_MODELS:
                seat.models = set(seat.row.model_ids)
            seat.models.add(request.model)
        return seat

    def _leave(self, request: Request) -> Seat | None:
        seat, request.seat = request.seat, None
        if seat is not None:
            seat.running -= 1
        return seat

    def _choose(self, request: Request, now: float, free: Seat | None) -> Seat | None:
        if request.model:
            return self._with_model(request, now)
        if request.session:
            return self._of_session(request.session, now)
        if free is not None and free.has_room(now):
            return free
        for tier in self._tiers:
            seat = self._least(tier, now) if self.policy == "least" else self._two_choices(tier, now)
            if seat is not None:
                return seat
        return None

    def _two_choices(self, seats: Sequence[Seat], now: float) -> Seat | None:
        count = len(seats)
        if count == 0:
            return None
        if count == 1:
            return seats[0] if seats[0].has_room(now) else None
        at = int(self._rng.random() * count)
        other = int(self._rng.random() * (count - 1))
        first, second = seats[at], seats[other + (other >= at)]
        if second.has_room(now) and (second.running < first.running or not first.has_room(now)):
            return second
        if first.has_room(now):
            return first
        return self._least(seats, now) if count > 2 else None

    def _least(self, seats: Iterable[Seat], now: float) -> Seat | None:
        """The one with the fewest requests; of several any."""
        best: list[Seat] = []
        for seat in seats:
            if seat.has_room(now):
                if best and seat.running < best[0].running:
                    best = [seat]
                elif not best or seat.running == best[0].running:
                    best.append(seat)
        return best[int(self._rng.random() * len(best))] if len(best) > 1 else best[0] if best else None

    def _with_model(self, request: Request, now: float) -> Seat | None:
        """One that has the model. Where all that have it are full, the request waits for a while. Then, and where none
        has it, one that has few models loads it."""
        everyone = self._tiers[-1]
        having = [seat for seat in everyone if request.model in seat.models and not seat.is_silent]
        if having:
            seat = self._two_choices(having, now)
            if seat is not None or (request.state == "new" or now < request.since + self._model_wait_s):
                return seat
        free = [seat for seat in everyone if seat.has_room(now)]
        if not free:
            return None
        fewest = min(len(seat.models) for seat in free)
        return self._two_choices([seat for seat in free if len(seat.models) == fewest], now)

    def _of_session(self, session: str, now: float) -> Seat | None:
        """Always the same one while it has room (rendezvous hashing: few sessions move when replicas come or go)."""
        best: Seat | None = None
        most = -1
        for seat in self._tiers[-1]:
            weight = zlib.crc32(f"{session}/{seat.id}".encode())
            if weight > most and seat.has_room(now):
                best, most = seat, weight
        return best


def _first(queue: deque[Request]) -> list[Request]:
    return [queue[at] for at in range(min(len(queue), LOOK_AHEAD))]
