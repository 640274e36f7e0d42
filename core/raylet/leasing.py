"""Which worker goes to whom: the node's resources, its workers, and the demands that wait.

A demand that this node cannot serve is told to the head, per shape and as an absolute number; the head answers with
tickets for nodes, and the demand is forwarded there. A node may refuse: the head's view is always a little old.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from hpc.core.ids import HEAD, Address, raylet_of
from hpc.core.raylet.tables import Demand, Lease, Proc
from hpc.core.resources import NodeResources, fits, show
from hpc.core.runenv.spec import has_setup
from hpc.core.wire import (
    Blocked,
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
    Tickets,
    Unblocked,
)
from hpc.core.wire import Demand as DemandMsg

#: Demand that could not be served here is told to the head after this time: a burst of short tasks is over by then.
DEMAND_DELAY_S = 0.005
#: Demand that stays is repeated to the head this often.
REPEAT_DEMAND_S = 1.0
#: Workers that are being started at the same time, at most; those that first set up an environment count apart.
MAX_STARTING = 16
#: An idle worker beyond the node's CPUs is ended after this time.
IDLE_WORKER_S = 30.0

Env = tuple[tuple[str, str], ...]


class Leasing:
    """The pure part of a raylet that hands out workers."""

    def __init__(self, node: int, resources: NodeResources, *, prestart: int = 0, now: float = 0.0) -> None:
        self.addr = raylet_of(node)
        self.node = node
        self.resources = resources
        self.now = now
        self.outbox: list[tuple[Address, Message]] = []
        self.to_start: list[Proc] = []
        self.to_kill: list[tuple[Proc, str]] = []
        self.to_retire: list[Proc] = []
        self.procs: dict[int, Proc] = {}
        self.idle: list[Proc] = []
        self.starting: dict[int, Proc] = {}
        self.awaiting: deque[Lease] = deque()
        self.leases: dict[int, Lease] = {}
        self.demands: dict[tuple[Address, int], Demand] = {}
        self.by_shape: dict[int, Demand] = {}
        self.spent_tickets: list[int] = []
        self.prestart = prestart
        self.draining = False
        self._next_proc = 0
        self._next_lease = 0
        self._next_shape = 0

    # -------------------------------------------------------------- processes

    def new_proc(self, kind: str, env: Env = ()) -> Proc:
        """Give a number to a process that is being started (workers) or has connected (drivers)."""
        self._next_proc += 1
        proc = Proc(self._next_proc, kind, "driver" if kind == "driver" else "starting", env=env, started=self.now)
        self.procs[proc.proc] = proc
        return proc

    def _start_worker(self, env: Env) -> None:
        proc = self.new_proc("worker", env)
        self.starting[proc.proc] = proc
        self.to_start.append(proc)

    def worker_ready(self, proc: Proc) -> None:
        """A worker has registered and can be leased."""
        self.starting.pop(proc.proc, None)
        proc.state = "idle"
        proc.idle_since = self.now
        self.idle.append(proc)
        self.schedule()

    def worker_gone(self, proc: Proc, why: str, task: bytes = b"", attempt: int = 0, oom: bool = False) -> None:
        """A worker's process has ended; who leased it is told what it was running."""
        self.procs.pop(proc.proc, None)
        self.starting.pop(proc.proc, None)
        if proc in self.idle:
            self.idle.remove(proc)
        lease = proc.lease
        if lease is not None:
            proc.lease = None
            self.leases.pop(lease.ident, None)
            self.resources.release(lease.grant)
            if proc.exit_why:
                why = ("exit:" if proc.exit_intended else "") + proc.exit_why
            addr = Address(self.node, proc.proc)
            self._send(lease.owner, LeaseLost(lease.ident, addr, why, task, attempt, oom))
        self.schedule()

    def owner_gone(self, owner: Address) -> None:
        """A submitter has ended: its demands lapse, its workers are ended (they work for nobody)."""
        for key in [k for k in self.demands if k[0] == owner]:
            demand = self.demands.pop(key)
            self.by_shape.pop(demand.shape, None)
            if demand.told_head:
                demand.want = 0
                self._tell_head(demand)
        for lease in [le for le in self.leases.values() if le.owner == owner]:
            self._end_lease(lease, retire=True)
        self.schedule()

    def _send(self, dst: Address, msg: Message) -> None:
        self.outbox.append((dst, msg))

    # -------------------------------------------------------------- demands

    def on_lease_request(self, src: Address, msg: LeaseRequest) -> None:
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
                msg.owner, msg.req, self._next_shape, msg.held, msg.placement, msg.strategy, env, msg.actor, msg.driver
            )
            self.demands[key] = self.by_shape[demand.shape] = demand
        demand.depth = msg.depth
        if not demand.want:
            demand.since = self.now
        demand.want = max(0, msg.count - (demand.sent - msg.seen))
        self.schedule()

    def _forwarded(self, src: Address, msg: LeaseRequest) -> None:
        """The head chose this node for part of another node's demand; what has no room goes back."""
        self.spent_tickets.append(msg.ticket)
        env = tuple(sorted(msg.env.items()))
        demand = Demand(msg.owner, msg.req, 0, msg.held, msg.placement, msg.strategy, env, msg.actor, msg.driver)
        granted = 0
        while granted < msg.count and not self.draining and self._grant(demand):
            granted += 1
        if granted < msg.count:
            self._send(src, LeaseRefused(msg.req, msg.owner, msg.ticket, msg.count - granted))
        self._start_needed()

    def on_lease_refused(self, src: Address, msg: LeaseRefused) -> None:
        demand = self.demands.get((msg.owner, msg.req))
        if demand is not None:
            demand.sent -= msg.count
            demand.want += msg.count
            demand.told_head = 0
            demand.since = self.now
            self.schedule()

    def on_tickets(self, src: Address, msg: Tickets) -> None:
        demand = self.by_shape.get(msg.shape)
        if demand is None:
            return
        if msg.infeasible:
            self._send(demand.owner, LeaseInfeasible(demand.req, msg.infeasible))
        for node, count, ticket in msg.grants:
            demand.told_head -= count
            demand.tickets_seen += count
            take = min(count, demand.want)
            if not take:
                self.spent_tickets.append(ticket)
                continue
            if node == self.node:
                self.spent_tickets.append(ticket)
                demand.here += take
                continue
            demand.want -= take
            demand.sent += take
            request = LeaseRequest(
                demand.req, demand.owner, demand.held, demand.placement, take, 0, demand.actor, demand.strategy,
                dict(demand.env), demand.depth, ticket, demand.driver,
            )  # fmt: skip
            self._send(raylet_of(node), request)
        demand.told_head = max(0, demand.told_head)
        self.schedule()
        if demand.here:
            # The head's view of this node was too old: there is no room after all, so it is asked again.
            demand.here = 0
            demand.since = self.now

    def _may_stay(self, demand: Demand) -> bool:
        """Whether the demand can be served here without asking the head."""
        strategy = demand.strategy
        if strategy == "DEFAULT" or demand.here > 0:
            return True
        if isinstance(strategy, (list, tuple)) and strategy[0] == "node":
            return bool(strategy[1] == self.node)
        return False

    def schedule(self) -> None:
        """Serve the demands that wait, children of blocked tasks first, as far as there is room."""
        waiting = [d for d in self.demands.values() if d.want]
        if len(waiting) > 1:
            waiting.sort(key=lambda d: -d.depth)
        for demand in waiting:
            while demand.want and not self.draining and self._may_stay(demand) and self._grant(demand):
                demand.want -= 1
                demand.sent += 1
                demand.here = max(0, demand.here - 1)
            if demand.want:
                self._reclaim(demand)
        self._start_needed()

    def _grant(self, demand: Demand) -> bool:
        """Take the resources for one lease, and a worker as soon as there is one."""
        if not fits(self.resources.free, demand.placement) or not self.resources.fits(demand.held):
            return False
        grant = self.resources.acquire(demand.held)
        if grant is None:
            return False
        self._next_lease += 1
        lease = Lease(
            self.node << 32 | self._next_lease, demand.owner, demand.req, grant, demand.actor, demand.env, demand.driver
        )
        self.leases[lease.ident] = lease
        worker = self._idle_worker(demand.env)
        if worker is None:
            self.awaiting.append(lease)
        else:
            self._hand_out(lease, worker)
        return True

    def _idle_worker(self, env: Env) -> Proc | None:
        for at in range(len(self.idle) - 1, -1, -1):
            if self.idle[at].env == env:
                return self.idle.pop(at)
        return None

    def _hand_out(self, lease: Lease, worker: Proc) -> None:
        worker.state = "leased"
        worker.lease = lease
        lease.worker = worker
        addr = Address(self.node, worker.proc)
        path = worker.path if lease.owner.node == self.node else ""
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
                worker = self._idle_worker(lease.env)
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
            for _ in range(min(count, room[slow])):
                room[slow] -= 1
                self._start_worker(env)

    def env_failed(self, env: Env, why: str) -> None:
        """A worker's environment could not be set up here: who waits for one like it is told, once per request. The
        request is void then; its owner makes a new one for what is submitted later."""
        failed: dict[tuple[Address, int], None] = {}
        for lease in [le for le in self.awaiting if le.env == env]:
            self.awaiting.remove(lease)
            if self.leases.pop(lease.ident, None) is not None:
                self.resources.release(lease.grant)
                failed[(lease.owner, lease.req)] = None
        for demand in self.demands.values():
            if demand.env == env and demand.want:
                demand.want = demand.here = 0
                failed[(demand.owner, demand.req)] = None
        for owner, req in failed:
            self._send(owner, LeaseFailed(req, why))

    def _reclaim(self, demand: Demand) -> None:
        """Somebody waits: ask the others to return what they keep without using it."""
        owners = set()
        for lease in self.leases.values():
            if lease.worker is not None and not lease.actor and not lease.reclaim_asked:
                lease.reclaim_asked = True
                owners.add(lease.owner)
        for owner in owners:
            self._send(owner, LeaseReclaim(self.node))

    # -------------------------------------------------------------- leases

    def on_lease_return(self, src: Address, msg: LeaseReturn) -> None:
        lease = self.leases.get(msg.lease)
        if lease is not None and lease.owner == src:
            self._end_lease(lease, msg.retire)
            self.schedule()

    def _end_lease(self, lease: Lease, retire: bool) -> None:
        del self.leases[lease.ident]
        used_instances = bool(lease.grant.shares)
        self.resources.release(lease.grant)
        worker = lease.worker
        if worker is None:
            return
        worker.lease = None
        if retire or lease.actor:
            worker.retired = True
            self.to_kill.append((worker, "its lease has ended"))
            return
        if used_instances:
            # A process that has seen one set of accelerators cannot be shown another; what it owns may be needed yet.
            worker.retired = True
            self.to_retire.append(worker)
            return
        worker.state = "idle"
        worker.idle_since = self.now
        self.idle.append(worker)

    def on_blocked(self, src: Address, msg: Blocked) -> None:
        proc = self.procs.get(src.proc)
        if proc is not None and proc.lease is not None:
            self.resources.lend_cpu(proc.lease.grant)
            self.schedule()

    def on_unblocked(self, src: Address, msg: Unblocked) -> None:
        proc = self.procs.get(src.proc)
        if proc is not None and proc.lease is not None:
            self.resources.resume_cpu(proc.lease.grant)

    def on_kill_worker(self, src: Address, msg: KillWorker) -> None:
        lease = self.leases.get(msg.lease)
        if lease is not None and lease.owner == src and lease.worker is not None:
            lease.worker.exit_why = msg.why
            self.to_kill.append((lease.worker, msg.why))

    def unreachable_owner(self, owner: Address) -> None:
        """A grant could not be delivered."""
        self.owner_gone(owner)

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
                due = demand.since + DEMAND_DELAY_S
                if target < demand.told_head or due <= now:
                    self._tell_head(demand)
                else:
                    next_at = min(next_at, due)
        keep = max(self.prestart, self.resources.totals.get("CPU", 0) // 10_000)
        while len(self.idle) > keep and now - self.idle[0].idle_since > IDLE_WORKER_S:
            worker = self.idle.pop(0)
            worker.retired = True
            self.to_retire.append(worker)
        return next_at

    def _tell_head(self, demand: Demand) -> None:
        demand.told_head = max(0, demand.want - demand.here)
        demand.told_at = self.now
        self._send(
            HEAD,
            DemandMsg(
                self.node,
                demand.shape,
                demand.held,
                demand.placement,
                demand.strategy,
                demand.told_head,
                demand.tickets_seen,
            ),
        )

    def start_workers_ahead(self) -> None:
        """Have as many workers ready as there are CPUs, so that first tasks start in milliseconds."""
        for _ in range(min(self.prestart, MAX_STARTING)):
            self._start_worker(())

    def why_waiting(self) -> list[dict[str, Any]]:
        """For people: each demand that waits, and why."""
        out = []
        for demand in self.demands.values():
            if demand.want:
                out.append(
                    {
                        "owner": str(demand.owner),
                        "waiting": demand.want,
                        "wants": show(demand.placement),
                        "free_here": show(self.resources.free),
                    }
                )
        return out
