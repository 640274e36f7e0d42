"""Which worker goes to whom: the node's resources, its workers, and the demands that wait.

A demand that this node cannot serve is told to the head, per shape and as an absolute number. The head answers with
tickets for nodes, and the demand is forwarded there. A node may refuse: the head's view is always a little old.
"""

from __future__ import annotations

from collections import deque

from hpc.core.causes import LostCause
from hpc.core.ids import HEAD, HEAD_NODE, Address, raylet_of
from hpc.core.policy.labels import matches
from hpc.core.raylet.bundles import Bundles
from hpc.core.raylet.closing import Closing
from hpc.core.raylet.pool import Pool
from hpc.core.raylet.reservations import Reservations, bundles_of
from hpc.core.raylet.sharing import Sharing
from hpc.core.raylet.tables import Demand, Lease, Proc
from hpc.core.resources import NodeResources, fits
from hpc.core.runenv.spec import has_setup
from hpc.core.wire import (
    Blocked,
    BundleCommit,
    BundlePrepare,
    BundlePrepared,
    BundleReturn,
    Cleared,
    KillWorker,
    LeaseFailed,
    LeaseGrant,
    LeaseInfeasible,
    LeaseLost,
    LeaseReclaim,
    LeaseRefused,
    LeaseRequest,
    LeaseReturn,
    Message,
    NodeDemand,
    ProcessKind,
    Tickets,
    Unblocked,
)

#: Demand that could not be served here is told to the head after this time: a burst of short tasks is over by then.
DEMAND_DELAY_S = 0.005
#: Demand that stays is repeated to the head this often.
REPEAT_DEMAND_S = 1.0
#: A demand that the head sent to a full node waits there for so long.
PATIENT_S = 2.0
#: How often to check whether a demand has waited long enough to get a reservation.
KEEP_EVERY_S = 0.05
#: Workers that are being started at the same time, at most; those that first set up an environment count apart.
MAX_STARTING = 16
#: The largest demand of one shape that is taken; owners ask for no more at a time.
MAX_WANT = 100_000

Env = tuple[tuple[str, str], ...]


class Leasing:
    """The pure part of a raylet that hands out workers."""

    def __init__(self, node: int, resources: NodeResources, *, prestart: int = 0, now: float = 0.0) -> None:
        self.addr = raylet_of(node)
        self.node = node
        self.resources = resources
        self.labels: dict[str, str] = {}
        self.bundles = Bundles(resources, self._end_in_bundle)
        self.sharing = Sharing()
        self.closing = Closing()
        self.now = now
        self.outbox: list[tuple[Address, Message]] = []
        self.to_start: list[Proc] = []
        self.to_kill: list[tuple[Proc, str]] = []
        self.to_retire: list[Proc] = []
        self.procs: dict[int, Proc] = {}
        self.idle = Pool()
        self.starting: dict[int, Proc] = {}
        self.awaiting: deque[Lease] = deque()
        self.leases: dict[int, Lease] = {}
        self.reservations = Reservations(resources, self.bundles, self.procs, self.leases, node)
        self.demands: dict[tuple[Address, int], Demand] = {}
        self.by_shape: dict[int, Demand] = {}
        self.guests: dict[tuple[Address, int], Demand] = {}
        self.spent_tickets: list[int] = []
        #: What the head was told lately of its own workers' ends: a head that is gone may not have acted on it.
        self.lost_of_head: deque[LeaseLost] = deque(maxlen=1024)
        self.prestart = prestart
        self.max_procs = 1 << 30  # the shell counts what they need
        self._next_proc = 0
        #: Leases so far; the number of the last one.
        self.granted = 0
        self._next_shape = 0
        self._room_at = 0.0

    # -------------------------------------------------------------- processes

    def new_proc(self, kind: ProcessKind, env: Env = ()) -> Proc:
        """Give a number to a process that is being started (workers) or has connected (drivers)."""
        self._next_proc += 1
        proc = Proc(self._next_proc, kind, "driver" if kind == "driver" else "starting", env=env, started=self.now)
        self.procs[proc.proc] = proc
        return proc

    def start_worker(self, env: Env) -> None:
        proc = self.new_proc("worker", env)
        self.starting[proc.proc] = proc
        self.to_start.append(proc)

    def worker_ready(self, proc: Proc) -> None:
        """A worker has registered and can be leased."""
        self.starting.pop(proc.proc, None)
        self.idle.add(proc, self.now)
        self.schedule()

    def worker_gone(
        self, proc: Proc, why: str, task: bytes = b"", attempt: int = 0, cause: LostCause = "crash"
    ) -> None:
        """A worker's process has ended; who leased it is told what it was running."""
        self.procs.pop(proc.proc, None)
        self.starting.pop(proc.proc, None)
        self.idle.discard(proc)
        self._release_ending(proc)
        lease = proc.lease
        if lease is not None:
            proc.lease = None
            self.release(lease)
            cause, why = proc.exit_cause or self.closing.cause(cause), proc.exit_why or why
            lost = LeaseLost(lease.ident, Address(self.node, proc.proc), cause, why, task, attempt)
            if lease.owner == HEAD:
                self.lost_of_head.append(lost)
            self._send(lease.owner, lost)
        self.schedule()

    def owner_gone(self, owner: Address) -> None:
        """A submitter has ended: its demands lapse, its workers are ended (they work for nobody)."""
        for key in [k for k in self.demands if k[0] == owner]:
            demand = self.demands.pop(key)
            self.guests.pop(key, None)
            self.by_shape.pop(demand.shape, None)
            if demand.told_head:
                demand.want = 0
                self._tell_head(demand)
        for lease in [le for le in self.leases.values() if le.owner == owner]:
            self._end_lease(lease, kill=True)
        self.sharing.forget(owner)
        self.schedule()

    def _send(self, dst: Address, msg: Message) -> None:
        self.outbox.append((dst, msg))

    # -------------------------------------------------------------- demands

    def on_lease_request(self, src: Address, msg: LeaseRequest) -> None:
        if not 0 <= msg.count <= MAX_WANT or min([0, *msg.held.values(), *msg.placement.values()]) < 0:
            return  # no owner of ours says so
        if msg.ticket:
            self._forwarded(src, msg)
            return
        key = (msg.owner, msg.req)
        demand = self.demands.get(key)
        if demand is None:
            if not msg.count:
                return
            self._next_shape += 1
            env = tuple(sorted(msg.env.items()))
            demand = Demand(
                msg.owner, msg.req, self._next_shape, msg.held, msg.placement, msg.strategy, env, msg.actor, msg.driver,
                time_s=msg.time_s,
            )  # fmt: skip
            self.demands[key] = self.by_shape[demand.shape] = demand
        demand.depth = msg.depth
        if not demand.want:
            demand.since = self.now
        demand.target = msg.count + msg.seen
        demand.want = max(0, demand.target - demand.sent)
        self.schedule()

    def _forwarded(self, src: Address, msg: LeaseRequest) -> None:
        """The head chose this node for part of another node's demand; what has no room goes back."""
        self.spent_tickets.append(msg.ticket)
        env = tuple(sorted(msg.env.items()))
        demand = Demand(msg.owner, msg.req, 0, msg.held, msg.placement, msg.strategy, env, msg.actor, msg.driver)
        demand.time_s = msg.time_s
        granted, admitted = 0, self.closing.admits(demand, self.now)
        while admitted and granted < msg.count and self._grant(demand):
            granted += 1
        if granted < msg.count and msg.patient and admitted:
            demand.depth, demand.asker, demand.until = msg.depth, src, self.now + PATIENT_S
            demand.want = demand.here = msg.count - granted
            key = (msg.owner, -msg.ticket)
            self.demands[key] = self.guests[key] = demand
            self.schedule()
        elif granted < msg.count:
            self._send(src, LeaseRefused(msg.req, msg.owner, msg.ticket, msg.count - granted))
        self._start_needed()

    def _end_guests(self, now: float) -> float:
        """Demands of other nodes that were served, or have waited here long enough; when to look again."""
        for key, demand in list(self.guests.items()):
            if demand.want and now >= demand.until and demand.asker is not None and not self.reservations.has(demand):
                self._send(demand.asker, LeaseRefused(demand.req, demand.owner, -key[1], demand.want))
                demand.want = 0
            if not demand.want:
                del self.guests[key], self.demands[key]
        return min((max(now + 0.05, demand.until) for demand in self.guests.values()), default=now + 1.0)

    def on_lease_refused(self, src: Address, msg: LeaseRefused) -> None:
        demand = self.demands.get((msg.owner, msg.req))
        if demand is not None:
            demand.sent -= msg.count
            demand.want = max(0, demand.target - demand.sent)
            demand.told_head = 0
            demand.since = self.now + DEMAND_DELAY_S
            self.schedule()

    def on_tickets(self, src: Address, msg: Tickets) -> None:
        demand = self.by_shape.get(msg.shape)
        if demand is None:
            self.spent_tickets += [ticket for _, _, ticket in msg.grants]
            return
        if msg.infeasible:
            self._send(demand.owner, LeaseInfeasible(demand.req, msg.infeasible, msg.final))
            if msg.final:
                # The owner will withdraw it; if instead it wants more, the head is asked again.
                demand.told_head = 0
                demand.since = self.now + DEMAND_DELAY_S
        for node, count, ticket in msg.grants:
            demand.told_head -= count
            demand.tickets_seen += count
            take = min(count, demand.want)
            if not take:
                self.spent_tickets.append(ticket)
                continue
            if node == self.node and not msg.patient:
                self.spent_tickets.append(ticket)
                demand.here += take
                continue
            demand.want -= take
            demand.sent += take
            request = LeaseRequest(
                demand.req, demand.owner, demand.held, demand.placement, take, 0, demand.actor, demand.strategy,
                dict(demand.env), demand.depth, ticket, demand.driver, msg.patient, demand.time_s,
            )  # fmt: skip
            self._send(raylet_of(node), request)
        demand.told_head = max(0, demand.told_head)
        self.schedule()
        if demand.here:
            # The head's view of this node was too old: there is no room after all, so it is asked again.
            demand.here = 0
            demand.since = self.now + DEMAND_DELAY_S

    def _may_stay(self, demand: Demand) -> bool:
        """Whether the demand can be served here without asking the head."""
        if not self.closing.admits(demand, self.now):
            return False
        strategy = demand.strategy
        if strategy == "DEFAULT" or demand.here > 0:
            return True
        if not isinstance(strategy, (list, tuple)):
            return False
        if strategy[0] in ("node", "near"):
            return bool(strategy[1] == self.node)
        if strategy[0] == "where":
            return bool(strategy[1] == "DEFAULT" and matches(self.labels, strategy[2][0]))
        return strategy[0] == "pg" and self.bundles.can_serve(strategy, demand.placement)

    def schedule(self) -> None:
        """Serve the demands that wait, as far as there is room. The driver that has least comes first, and within a
        driver the children of blocked tasks."""
        if self.reservations.waiting:
            self._serve_reservations()
        while self._serve():
            pass
        self._start_needed()

    def _serve(self) -> bool:
        """One pass over the demands that wait; True if the next lease may be due to somebody else."""
        waiting = [d for d in self.demands.values() if d.want]
        if len(waiting) > 1:
            self.sharing.order(waiting, self.leases.values())
        for demand in waiting:
            while demand.want and self._may_stay(demand) and self._grant(demand):
                demand.want -= 1
                demand.sent += 1
                demand.here = max(0, demand.here - 1)
                self.sharing.granted(demand)
                if demand.want and len(waiting) > 1 and any(demand.held.values()):
                    return True
            if demand.want:
                self._reclaim(demand)
        return False

    def _grant(self, demand: Demand) -> bool:
        """Take the resources for one lease, and a worker as soon as there is one."""
        inside = self._is_inside(demand)
        if self.reservations.waiting and not inside and not self.reservations.allows(demand):
            return False
        if len(self.procs) + len(self.awaiting) - len(self.starting) - len(self.idle) >= self.max_procs:
            return False
        kept = self.reservations.withheld(demand) if self.reservations.waiting and not inside else None
        found = next(
            (
                (pool, bundle, grant)
                for pool, bundle in self.bundles.pools(demand)
                if fits(pool.free, demand.placement) and (grant := pool.acquire(demand.held, kept=kept)) is not None
            ),
            None,
        )
        if found is None:
            return False
        pool, bundle, grant = found
        self.granted += 1
        ident = self.node << 32 | self.granted
        lease = Lease(
            ident, demand.owner, demand.req, grant, demand.actor, demand.env, demand.driver, pool, since=self.now
        )
        self.bundles.leased(bundle, lease)
        if demand.time_s:
            self.closing.timed[ident] = demand.time_s
        self.leases[lease.ident] = lease
        worker = self.idle.take(lease)
        if worker is None:
            self.awaiting.append(lease)
        else:
            self._hand_out(lease, worker)
        return True

    @staticmethod
    def _is_inside(demand: Demand) -> bool:
        """Whether it is served from bundles only."""
        return isinstance(demand.strategy, (list, tuple)) and demand.strategy[0] == "pg"

    def _hand_out(self, lease: Lease, worker: Proc) -> None:
        worker.state = "leased"
        worker.lease = lease
        worker.driver = lease.driver
        lease.worker = worker
        addr = Address(self.node, worker.proc)
        path = worker.path if lease.owner.node in (self.node, HEAD_NODE) else ""
        self._send(lease.owner, LeaseGrant(lease.req, lease.ident, addr, path, lease.grant.instances()))

    def _start_needed(self) -> None:
        """Give workers to leases that wait for one, and start as many as are missing. A lease whose environment is
        still being set up does not hold up those behind it."""
        if not self.awaiting:
            return
        passed: list[Lease] = []
        while self.awaiting and self.idle:
            lease = self.awaiting.popleft()
            if lease.ident in self.leases:
                worker = self.idle.take(lease)
                if worker is None:
                    passed.append(lease)
                else:
                    self._hand_out(lease, worker)
        self.awaiting.extendleft(reversed(passed))
        missing: dict[Env, int] = {}
        for lease in self.awaiting:
            if lease.ident in self.leases:
                missing[lease.env] = missing.get(lease.env, 0) + 1
        room = {False: MAX_STARTING, True: MAX_STARTING}
        for proc in self.starting.values():
            room[has_setup(proc.env)] -= 1
            if proc.env in missing:
                missing[proc.env] -= 1
        for env, count in missing.items():
            slow = has_setup(env)
            for _ in range(min(count, room[slow], self.max_procs - len(self.procs))):
                room[slow] -= 1
                self.start_worker(env)

    def env_failed(self, env: Env, why: str) -> None:
        """A worker's environment could not be set up here: who waits for one like it is told, once per request. The
        request is void then; its owner makes a new one for what is submitted later."""
        failed: dict[tuple[Address, int], None] = {}
        for lease in [le for le in self.awaiting if le.env == env]:
            self.awaiting.remove(lease)
            if lease.ident in self.leases:
                self.release(lease)
                failed[(lease.owner, lease.req)] = None
        for demand in self.demands.values():
            if demand.env == env and demand.want:
                demand.want = demand.here = 0
                demand.target = demand.sent
                failed[(demand.owner, demand.req)] = None
        for owner, req in failed:
            self._send(owner, LeaseFailed(req, why))

    def _reclaim(self, demand: Demand) -> None:
        """Somebody waits: ask the others to return what they keep without using it."""
        owners: dict[Address, None] = {}
        for lease in self.leases.values():
            if lease.worker is not None and not lease.actor and not lease.reclaim_asked:
                lease.reclaim_asked = True
                owners[lease.owner] = None
        for owner in owners:
            self._send(owner, LeaseReclaim(self.node))

    def _share(self, now: float) -> float:
        """Recall leases from those who have more than their share while others wait; when to look again."""
        waiting = [d for d in self.demands.values() if d.want and self._may_stay(d)]
        recalls, next_at = self.sharing.recalls(waiting, self.leases, now)
        for owner, leases in recalls.items():
            self._send(owner, LeaseReclaim(self.node, leases))
        return next_at

    # -------------------------------------------------------------- placement groups

    def on_bundle_prepare(self, src: Address, msg: BundlePrepare) -> None:
        self.spent_tickets.append(msg.ticket)
        if refusal := self.closing.refusal:
            self._send(src, BundlePrepared(msg.group, msg.attempt, False, refusal))
            return
        reservations = self.reservations
        if reservations.waiting and not reservations.leaves(bundles_of(msg)):
            why = "what is free is kept for others who have waited longer"
        else:
            kept = reservations.kept_devices() if reservations.waiting else None
            why = self.bundles.prepare(msg.group, msg.attempt, msg.bundles, kept)
        if why and msg.patient:
            why = reservations.never(bundles_of(msg), self.leases.values())
            if not why:
                reservations.wait_for(src, msg)
                self.schedule()
                return
        self._send(src, BundlePrepared(msg.group, msg.attempt, not why, why))

    def _serve_reservations(self) -> None:
        """Reserve the bundles for which there is room now."""
        for reservation in self.reservations.ready():
            msg = reservation.msg
            if msg is not None and reservation.src is not None:
                kept = self.reservations.kept_devices(reservation)
                why = self.bundles.prepare(msg.group, msg.attempt, msg.bundles, kept)
                if not why:
                    self.reservations.waiting.remove(reservation)
                    self._send(reservation.src, BundlePrepared(msg.group, msg.attempt, True))

    def _keep_room(self, now: float) -> float:
        """Begin and end reservations, and ask for the workers whose room they need; when to look again."""
        if now < self._room_at and not self.reservations.waiting:
            return self._room_at
        self._room_at = now + KEEP_EVERY_S
        stay = [k for k, d in self.demands.items() if d.want and not self._is_inside(d) and self._may_stay(d)]
        if not stay and not self.reservations.waiting:
            return now + 1.0
        before = list(self.reservations.waiting)
        next_at = self.reservations.look(self.demands, stay, self.leases.values(), now)
        if any(reservation not in self.reservations.waiting for reservation in before):
            self.schedule()  # what was kept is free for others
        for reservation in [h for h in self.reservations.waiting if h.msg is not None]:
            msg = reservation.msg
            why = self.reservations.never(reservation.parts, self.leases.values())
            if why and msg is not None and reservation.src is not None:
                self.reservations.waiting.remove(reservation)
                self._send(reservation.src, BundlePrepared(msg.group, msg.attempt, False, why))
        if self.reservations.waiting:
            for owner, leases in self.reservations.recalls(self.leases.values(), now).items():
                self._send(owner, LeaseReclaim(self.node, leases))
            next_at = min(next_at, now + 0.5)
        return next_at

    def on_bundle_commit(self, src: Address, msg: BundleCommit) -> None:
        self.bundles.commit(msg.group, msg.attempt)
        self.schedule()

    def on_bundle_return(self, src: Address, msg: BundleReturn) -> None:
        self.reservations.cancel(msg.group, msg.attempt)
        self.bundles.give_back(msg.group, msg.attempt, "group_removed" if msg.removed else "crash", msg.why)
        self.schedule()

    def _end_in_bundle(self, ident: int, cause: LostCause, why: str) -> None:
        """A bundle is given back: the worker of a lease in it is ended, and its death tells the owner why."""
        lease = self.leases.get(ident)
        if lease is None:
            return  # it is over, and its worker ends
        worker = lease.worker
        if worker is None:
            self.release(lease)
            # Its owner does not know of it yet: it is as if there had been no room.
            self._send(raylet_of(lease.owner.node), LeaseRefused(lease.req, lease.owner, 0, 1))
        else:
            worker.exit_cause, worker.exit_why, worker.doomed = cause, why, True
            self.to_kill.append((worker, why))

    # -------------------------------------------------------------- leases

    def on_lease_return(self, src: Address, msg: LeaseReturn) -> None:
        lease = self.leases.get(msg.lease)
        if lease is not None and lease.owner == src:
            self._end_lease(lease, retire=msg.retire)
            self.schedule()

    def _end_lease(self, lease: Lease, retire: bool = False, kill: bool = False) -> None:
        """The worker is used again, or ends: at once with its actor and with ``kill``, else when nobody needs what it
        owns. A process that has seen one set of accelerators cannot be shown another."""
        retire = retire or bool(lease.grant.shares)
        worker = lease.worker
        if worker is None:
            self.release(lease)
            return
        worker.lease = None
        worker.blocked = False
        if not (worker.doomed or kill or lease.actor or retire):
            self.release(lease)
            self.idle.add(worker, self.now)
            return
        del self.leases[lease.ident]
        worker.ending = lease  # what it held goes on when the process, or what runs below it, has ended
        if worker.doomed:
            return
        if kill or lease.actor:
            worker.retired = True
            self.to_kill.append((worker, "its lease has ended"))
        else:
            worker.retired = True
            self.to_retire.append(worker)

    def on_cleared(self, src: Address, msg: Cleared) -> None:
        """Nothing runs any more below a worker that stays for what it owns."""
        if src.proc in self.procs:
            self._release_ending(self.procs[src.proc])
            self.schedule()

    def _release_ending(self, proc: Proc) -> None:
        if proc.ending is not None:
            self.release(proc.ending)
            proc.ending = None

    def release(self, lease: Lease) -> None:
        """The lease is over: what it held is free again, in the pool that it came from."""
        self.leases.pop(lease.ident, None)
        self.closing.timed.pop(lease.ident, None)
        lease.pool.release(lease.grant)
        self.bundles.ended(lease)

    def on_blocked(self, src: Address, msg: Blocked) -> None:
        proc = self.procs.get(src.proc)
        if proc is not None and proc.lease is not None:
            proc.blocked = True
            proc.lease.pool.lend_cpu(proc.lease.grant)
            self.bundles.changed = True
            self.schedule()

    def on_unblocked(self, src: Address, msg: Unblocked) -> None:
        proc = self.procs.get(src.proc)
        if proc is not None and proc.lease is not None:
            proc.blocked = False
            proc.lease.pool.resume_cpu(proc.lease.grant)
            self.bundles.changed = True

    def on_kill_worker(self, src: Address, msg: KillWorker) -> None:
        lease = self.leases.get(msg.lease)
        worker = lease.worker if lease is not None and lease.owner == src else None
        if worker is not None:
            worker.doomed = True
            if not worker.exit_cause:
                worker.exit_cause, worker.exit_why = "killed", msg.why
            self.to_kill.append((worker, msg.why))

    # -------------------------------------------------------------- time

    def tick(self, now: float) -> float:
        """Tell the head of demand that stays, end surplus idle workers; returns the time of the next tick."""
        self.now = now
        next_at = now + 1.0
        for demand in self.demands.values():
            target = demand.want - demand.here if demand.want else 0
            if target and target == demand.told_head:
                # Saying it again costs little and heals whatever went wrong.
                due = demand.told_at + REPEAT_DEMAND_S
                if due <= now:
                    self._tell_head(demand)
                    due = now + REPEAT_DEMAND_S
                next_at = min(next_at, due)
            elif target != demand.told_head:
                due = demand.since + (DEMAND_DELAY_S if self._may_stay(demand) else 0.0)
                if target < demand.told_head or due <= now:
                    self._tell_head(demand)
                else:
                    next_at = min(next_at, due)
        next_at = min(next_at, self._share(now), self._keep_room(now))
        if self.guests:
            next_at = min(next_at, self._end_guests(now))
        keep = max(self.prestart, self.resources.totals.get("CPU", 0) // 10_000)
        for worker in self.idle.take_surplus(keep, now):
            worker.retired = True
            self.to_retire.append(worker)
        return next_at

    def _tell_head(self, demand: Demand) -> None:
        demand.told_head = max(0, demand.want - demand.here)
        demand.told_at = self.now
        told = NodeDemand(
            self.node, demand.shape, demand.held, demand.placement, demand.strategy, demand.told_head,
            demand.tickets_seen, demand.time_s,
        )  # fmt: skip
        self._send(HEAD, told)

    def start_workers_ahead(self) -> None:
        """Have as many workers ready as there are CPUs, so that first tasks start in milliseconds."""
        for _ in range(min(self.prestart, MAX_STARTING)):
            self.start_worker(())
