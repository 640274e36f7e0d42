"""A whole cluster in one process: one head, raylets, drivers and workers as machines, under virtual time.

Everything that happens follows from the seed. Tasks are little programs (see `programs`); faults are deaths of workers,
nodes and drivers, lossy links and delays. The machines are the ones that run in production; only their shells are
replaced.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence

from hpc.core.causes import LostCause
from hpc.core.head.group import Group
from hpc.core.head.groups import Groups
from hpc.core.head.journal import MAGIC, Began, Part, decode, encode
from hpc.core.head.machine import HeadMachine
from hpc.core.head.restore import restore
from hpc.core.ids import HEAD, HEAD_NODE, Address, raylet_of
from hpc.core.net.frames import encode_bodies
from hpc.core.owner.machine import OwnerMachine
from hpc.core.policy.labels import node_labels
from hpc.core.raylet.machine import RayletMachine
from hpc.core.raylet.spill import WRITE, DiskJob, Spiller
from hpc.core.raylet.tables import Proc
from hpc.core.resources import UNIT, NodeResources
from hpc.core.sim.digest import Digest
from hpc.core.sim.network import Clock, LossyLink, Streams
from hpc.core.sim.processes import NodeSim, NoMemory, Process, has_left, taken
from hpc.core.store.layout import Layout
from hpc.core.wire import (
    HEADER,
    MAX_FRAME_BYTES,
    Chunk,
    Done,
    LeaseLost,
    Message,
    NodeInfo,
    Retire,
    Unroutable,
    decode_body,
    encode_body,
)

TICK_S = 0.005
TURN_S = 0.002
#: When all has ended and only things that lapse are waited for.
LATE_TICK_S = 0.05
ARENA_BYTES = 64 << 20
#: In some seeds the arena has room for a few objects only, so that they move to disk and back.
SMALL_ARENA_BYTES = 900 << 10
DISK_BYTES = 1 << 40
#: What a process asks for to place objects in by itself. In a small arena that is nearly half of it.
SPAN_BYTES = 2 << 20
SMALL_SPAN_BYTES = 420 << 10
#: A process says within so many ticks what its raylet waits for.
SILENT_TICKS = 8
#: A frame's limit here, and that of the values in one message: such that the values of these small programs meet them.
FRAME_BYTES = 6000
VALUES_BYTES = 1000
#: Messages of this size are those that all nodes are sent.
SHARED_BYTES = 10_000
#: Runs are short: room is kept for those who wait sooner, and not for long.
PATIENCE_S = 0.05
#: Between a connection that was refused and the belief that nobody is there any more.
TRY_S = 0.3
HOLD_S = 0.3


def _sorted_rows(part: Part) -> list[tuple[bytes, object]]:
    """What a part would be after it was read from the journal."""
    return sorted((key, Group.from_row(row).row() if isinstance(part, Groups) else row) for key, row in part.rows())


class World:
    """The cluster. ``make_worker(process)`` is called for each worker that starts."""

    def __init__(
        self,
        seed: int,
        nodes: int,
        cpus: int,
        loss: float,
        make_worker: Callable[[World, Process], None],
        arena_bytes: int = ARENA_BYTES,
        plain: bool = False,
    ) -> None:
        self.rng = random.Random(seed)
        #: For thousands of nodes: nothing is lost between them, and they have one table of nodes together.
        self.plain = plain
        #: Devices of each node, which some tasks share or take whole.
        self.gpus = 2 if seed % 3 == 2 and not plain else 0
        self.table: dict[int, NodeInfo] = {}
        self._decoded: tuple[bytes, Sequence[Message]] = (b"", [])
        #: The head serves what has come within so long in one go, as its shell does; 0: each message at once.
        self.turn_s = TURN_S if plain or seed % 2 else 0.0
        self._in_turn = self._gone_in_turn = False
        self.frame_bytes = MAX_FRAME_BYTES if plain else FRAME_BYTES
        self.clock = Clock()
        self.digest = Digest()
        self.streams = Streams(self.clock, self.rng)
        self.head = self._new_head()
        self.head_up = True
        self.head_restarts = 0
        self.journal = bytearray(MAGIC + encode(Began(1)))
        #: Called with a node that has drained, ahead of its end.
        self.before_end: Callable[[int], object] = lambda number: None
        self.lost_nodes, self.draining = list[int](), dict[int, float]()  # those that drain with the time of their end
        #: Whether anything is lost or killed, and the processes and nodes that were killed.
        self.faults = False
        self.deaths = 0
        #: Promises that were seen to be broken on the way.
        self.broken: list[str] = []
        #: How often a path was taken that few programs lead to.
        self.processes: dict[Address, Process] = {}
        #: Attempts of tasks and calls that have begun, those of which it was said that they never will, and those whose
        #: outcome was sent.
        self.begun: set[tuple[bytes, int]] = set()
        self.never_begun: set[tuple[bytes, int]] = set()
        self._silent: Counter[Address] = Counter()
        self.answered: set[tuple[bytes, int]] = set()
        self.paths: Counter[str] = Counter()
        self.nodes: dict[int, NodeSim] = {}
        self.links: dict[tuple[int, int], LossyLink] = {}
        self.loss = loss
        self.arena_bytes = arena_bytes
        self.small = arena_bytes < ARENA_BYTES
        self.boxes: dict[tuple[Address, Address], deque[bytes]] = defaultdict(deque)
        self.story: list[str] = []
        #: The processes in which an actor's constructor has begun.
        self.hosts: dict[bytes, list[Process]] = defaultdict(list)
        self.make_worker = make_worker
        self.quiet = False
        self.tick_s = TICK_S
        for number in range(1, nodes + 1):
            self._add_node(number, cpus)
        self.clock.after(self.tick_s, self._tick)

    def tell(self, text: str) -> None:
        """A line of the story."""
        self.story.append(f"{self.clock.now:9.4f}  {text}")

    # -------------------------------------------------------------- nodes and processes

    def _add_node(self, number: int, cpus: int) -> None:
        totals = {"CPU": cpus * UNIT, **({"GPU": self.gpus * UNIT} if self.gpus else {})}
        switches = "root", f"s{number % 2}"
        info = NodeInfo(
            number, f"n{number}", "", "", totals, node_labels({}, number, f"n{number}", "", switches), False, 0, ""
        )
        machine = RayletMachine(
            info,
            NodeResources(totals),
            Layout(self.arena_bytes),
            NoMemory(),
            prestart=cpus,
            spiller=Spiller(DISK_BYTES),
            full_timeout_s=2.0,
        )
        if self.plain:
            machine.nodes = self.table
        machine.leasing.reservations.after_s, machine.leasing.reservations.reserve_s = PATIENCE_S, HOLD_S
        if self.small:
            machine.store.writing.spans_share, machine.store.writing.free_share = 2, 100
        self.nodes[number] = NodeSim(number, machine)
        machine.leasing.start_workers_ahead()
        machine.join()
        self._flush_raylet(number)

    def nodes_died(self) -> bool:
        """Whether a node has died."""
        return not all(node.alive for node in self.nodes.values())

    def new_driver(self, number: int, on_message: Callable[[Address, Message], None]) -> Process:
        """A driver on a node."""
        node = self.nodes[number]
        proc = node.machine.driver_joined(0, b"")
        return self._connect(node, proc, on_message)

    def _connect(self, node: NodeSim, proc: Proc, on_message: Callable[[Address, Message], None]) -> Process:
        addr = Address(node.number, proc.proc)
        process = Process(addr, OwnerMachine(addr, idle_lease_s=0.02), on_message)
        process.machine.state.max_values_bytes = VALUES_BYTES
        span = process.machine.pins.span
        span.most, span.object_share = (SMALL_SPAN_BYTES, 2) if self.small else (SPAN_BYTES, 4)
        node.processes[proc.proc] = self.processes[addr] = process
        return process

    def _start_worker(self, node: NodeSim, proc: Proc) -> None:
        def born() -> None:
            if not node.alive or proc.proc not in node.machine.leasing.procs:
                return
            process = self._connect(node, proc, lambda src, msg: None)
            self.make_worker(self, process)
            node.machine.worker_joined(proc.proc, 0, f"w{proc.proc}")
            self._flush_raylet(node.number)

        self.clock.after(0.003 + self.rng.random() * 0.01, born)

    def strikes(self, path: str, chance: float) -> bool:
        """Whether a process is to be killed at this place, as one is where it hurts."""
        if not self.faults or self.quiet or self.rng.random() >= chance:
            return False
        self.paths[path] += 1
        self.deaths += 1
        return True

    def process_at(self, addr: Address) -> Process:
        """The process that has, or had, this address."""
        return self.processes[addr]

    def kill_process(self, process: Process, why: str = "was killed by SIGKILL", cause: LostCause = "crash") -> None:
        """A process ends; what it wrote to its sockets before is still read, then its raylet notices."""
        if not process.alive:
            return
        process.alive = False
        self.tell(f"process {process.addr} ends")
        node, task = self.nodes[process.addr.node], process.published()

        def noticed() -> None:
            if node.alive:
                node.processes.pop(process.addr.proc, None)
                node.machine.process_gone(process.addr.proc, why, *task, cause)
                node.machine.memory_gone(process.addr.proc)
                self._flush_raylet(node.number)

        self.streams.send(("up", process.addr), noticed)

    def suspend(self, length_s: float) -> None:
        """The whole job is stopped, and goes on later."""
        self.tell(f"all is suspended for {length_s:.1f} s")
        self.clock.pause(length_s)
        self.streams.pause(length_s)

    def kill_node(self, number: int, silently: bool = False) -> None:
        """A node ends with all its processes. The head is told, or has to find out. Where the node's number is even the
        machine lives on and refuses connections, else nothing comes from it any more."""
        node = self.nodes[number]
        if not node.alive:
            return
        self.tell(f"node {number} dies{' silently' if silently else ''}")
        node.alive = False
        for process in node.processes.values():
            process.alive = False
        for ends, link in self.links.items():
            if number in ends:
                link.cut = True
        if not silently:
            self.clock.after(0.02, lambda: self._head_loses(number))

    def drain_node(self, number: int, lasts_s: float) -> None:
        """A node is about to be taken away: it drains, and dies at its end."""
        if self.nodes[number].alive and number not in self.draining:
            self.tell(f"node {number} drains: it has {lasts_s:.2f} s")
            self.draining[number] = self.clock.now + lasts_s
            if self.head_up:
                self._head_drains(number)
            self.clock.after(lasts_s, lambda: self._end_drained(number))

    def _end_drained(self, number: int) -> None:
        if self.nodes[number].alive:
            self.before_end(number)
        self.kill_node(number)

    def _head_drains(self, number: int) -> None:
        if self.nodes[number].alive:
            self.head.learn_end(self.draining[number], [number], "it is taken away", now=self.clock.now)
        self._flush_head()

    def _new_head(self) -> HeadMachine:
        head = HeadMachine(try_s=TRY_S, suspect_s=2.0, dead_s=5.0, now=self.clock.now)
        head.groups.patience_s, head.groups.hold_s = PATIENCE_S, HOLD_S
        return head

    def kill_head(self, absent_s: float) -> None:
        """The head ends; another reads its journal and takes its place after a while."""
        if not self.head_up:
            return
        self.tell("the head ends")
        self.head_up = False
        self._gone_in_turn, self._in_turn = self._in_turn, False
        self.head_restarts += 1
        for ends, link in self.links.items():
            if HEAD_NODE in ends:
                link.down.add(HEAD_NODE)
        self.clock.after(absent_s, self._head_begins)

    def _head_begins(self) -> None:
        self.tell("another head begins")
        ops, good = decode(bytes(self.journal))
        assert good == len(self.journal)
        self.head_up = True
        gone, self.head = self.head, self._new_head()
        restore(self.head, ops)
        for name, part in gone.parts.items():
            if not self._gone_in_turn and _sorted_rows(part) != _sorted_rows(self.head.parts[name]):
                self.broken.append(f"the journal does not have the {name} as they were")
        self.head.begin(self.head.epoch + 1)
        self.journal += encode(Began(self.head.epoch))
        for ends, link in self.links.items():
            if HEAD_NODE in ends:
                link.restart(HEAD_NODE)
        self._flush_head()  # over its own links: what went over those of the head before would be lost
        for number in self.draining:
            self._head_drains(number)
        for number in self.lost_nodes:
            self._head_loses(number)

    def _head_restarted(self, node: int, peer: int) -> None:
        """A raylet's link has met another head."""
        if peer == HEAD_NODE:
            self.nodes[node].machine.head_restarted()
            self._flush_raylet(node)

    def _head_loses(self, number: int) -> None:
        if number not in self.lost_nodes:
            self.lost_nodes.append(number)
        if not self.head_up:
            return
        self.head.now = self.clock.now
        self.head.lose_node(number, "its supervisor has ended")
        self._flush_head()

    # -------------------------------------------------------------- sending

    def flush(self, process: Process, everything: bool = False) -> None:
        """What a process's shell does after each step: let go of memory, send, wake."""
        if not process.alive:
            return
        self.send_left(process, everything)
        woken = list(process.machine.woken)
        process.machine.woken.clear()
        for waiter in woken:
            if waiter.callback is not None:
                waiter.callback()

    def send_left(self, process: Process, everything: bool) -> None:
        """Send what the machine left."""
        machine = process.machine
        if machine.unpinned or machine.pins.unviewed:
            machine.pins.let_go()
        for dst, messages in machine.take_outbox(everything):
            self._from_process(process, dst, messages)

    def _from_process(self, process: Process, dst: Address, messages: list[Message]) -> None:
        src = process.addr
        node = self.nodes[src.node]
        self.answered.update((msg.task, msg.attempt) for msg in messages if type(msg) is Done)
        other = node.processes.get(dst.proc) if dst.node == src.node and dst.proc else None
        for body in encode_bodies(messages, self._too_large, self.frame_bytes):
            if other is not None and (dst in process.machine.state.paths or dst in process.direct):
                other.direct.add(src)
                self.boxes[(src, dst)].append(body)
                self.streams.send((src, dst), lambda: self._read_direct(other, src))
            else:
                self.streams.send(("up", src), lambda body=body: self._route(src.node, dst, src, body))  # type: ignore[misc]

    def _too_large(self, msg: Message, size: int) -> None:
        self.broken.append(f"a message of {size} bytes is too large for a frame: {str(msg)[:200]}")

    def _route(self, at: int, dst: Address, src: Address, body: bytes) -> None:
        """A raylet routes a frame by its header, unread."""
        node = self.nodes[at]
        if not node.alive:
            return
        if dst.node != at:
            if src.node == at and src.proc in node.machine.leasing.procs:
                node.machine.leasing.procs[src.proc].exposed = True
            if dst.node != HEAD_NODE and dst.node not in node.machine.nodes:
                self._bounce(at, dst, src)
                return
            self._between(at, dst.node, dst, src, body)
        elif dst.proc == 0:
            self.digest.add(self.clock.now, dst, src, body)
            node.machine.handle(src, self._decode(body))
            self._flush_raylet(at)
        else:
            if src.node != at and dst.proc in node.machine.leasing.procs:
                node.machine.leasing.procs[dst.proc].exposed = True
            process = node.processes.get(dst.proc)
            if process is None:
                self._bounce(at, dst, src)
                return
            self.streams.send(("down", dst), lambda: self._to_process(process, src, body))

    def _bounce(self, at: int, dst: Address, src: Address) -> None:
        if dst.proc == 0 and src.proc == 0:
            return
        if src.node == at and src.proc == 0:
            self.nodes[at].machine.handle(dst, [Unroutable(dst)])
            self._flush_raylet(at)
        else:
            self._route(at, src, raylet_of(at), encode_body([Unroutable(dst)]))

    def _decode(self, body: bytes) -> Sequence[Message]:
        """As `decode_body`; what many are told is decoded once."""
        if not self.plain or len(body) < SHARED_BYTES:
            return decode_body(body)
        if self._decoded[0] is not body:
            self._decoded = (body, decode_body(body))
        return self._decoded[1]

    def _between(self, a: int, b: int, dst: Address, src: Address, body: bytes) -> None:
        if self.plain:
            self.streams.send((a, b), lambda: self._received(dst, src, body))
            return
        frame = HEADER.pack(len(body), *dst, *src) + body
        key = (min(a, b), max(a, b))
        link = self.links.get(key)
        if link is None:
            link = self.links[key] = LossyLink(self.clock, self.rng, key, self._arrived)
            link.loss = 0.0 if self.quiet else self.loss
            link.admits = self._admits
            link.on_restart = self._head_restarted
            if HEAD_NODE in key and not self.head_up:
                link.down.add(HEAD_NODE)
        link.send(a, frame)

    def _admits(self, receiver: int, sender: int) -> bool:
        return HEAD_NODE in (receiver, sender) or sender in self.nodes[receiver].machine.nodes

    def _arrived(self, src_node: int, dst_node: int, frame: bytes) -> None:
        _, dn, dp, sn, sp = HEADER.unpack_from(frame)
        self._received(Address(dn, dp), Address(sn, sp), frame[HEADER.size :])

    def _received(self, dst: Address, src: Address, body: bytes) -> None:
        if dst.node != HEAD_NODE:
            self._route(dst.node, dst, src, body)
            return
        self.digest.add(self.clock.now, dst, src, body)
        if not self.turn_s:
            self.head.handle(src, decode_body(body), self.clock.now)
            self._flush_head()
        else:
            self.head.handle(src, decode_body(body), self.clock.now, serve=False)
            if not self._in_turn:
                self._in_turn = True
                self.clock.after(self.turn_s, self._head_turn)

    def _head_turn(self) -> None:
        """The head's turn ends: unless it has ended before."""
        if self._in_turn and self.head_up:
            self._in_turn = False
            self.head.tick(self.clock.now)
            self._flush_head()

    def _flush_raylet(self, number: int) -> None:
        machine = self.nodes[number].machine
        while machine.outbox:
            out, machine.outbox[:] = list(machine.outbox), []
            for dst, msg in out:
                if dst == raylet_of(number):
                    machine.handle(dst, [msg])
                else:
                    for body in encode_bodies([msg], self._too_large, self.frame_bytes):
                        self._route(number, dst, raylet_of(number), body)
        for node, msg in taken(machine.bulk):
            body = encode_body([msg])  # of one object several pieces are on their way, and come in order
            self.streams.send(("bulk", number, node), lambda node=node, body=body: self._bulk(number, node, body))  # type: ignore[misc]
        for job in taken(machine.store.spiller.jobs):
            self._to_disk(number, job)
        leasing = machine.leasing
        for proc in taken(leasing.to_start):
            self._start_worker(self.nodes[number], proc)
        for proc in taken(leasing.to_retire):
            self._route(number, Address(number, proc.proc), raylet_of(number), encode_body([Retire()]))
        for proc, why in taken(leasing.to_kill):
            process = self.nodes[number].processes.get(proc.proc)
            if process is not None:
                self.kill_process(process, why)
        machine.links.clear()

    def _to_disk(self, number: int, job: DiskJob) -> None:
        """The disk takes its time, and sometimes cannot write."""
        error = "no space left" if job.kind == WRITE and not self.quiet and self.rng.random() < 0.05 else ""

        def ended() -> None:
            if self.nodes[number].alive:
                self.nodes[number].machine.store.disk_ended(job, error)
                self._flush_raylet(number)

        self.clock.after(self.rng.random() * 0.03, ended)

    def _bulk(self, src: int, dst: int, body: bytes) -> None:
        node = self.nodes[dst]
        if node.alive and self.nodes[src].alive:
            self.digest.add(self.clock.now, raylet_of(dst), raylet_of(src), body)
            for msg in decode_body(body):
                if type(msg) is Chunk:
                    self._place(node, src, msg)
                else:
                    node.machine.handle_bulk(src, (msg,))
            self._flush_raylet(dst)

    def _place(self, node: NodeSim, src: int, msg: Chunk) -> None:
        """A piece of an object: this is where its bytes would be written."""
        pulls = node.machine.store.pulls
        pull = pulls.expects(src, msg.ident, msg.offset, len(msg.data))
        if pull is not None:
            pulls.advance(src, pull, len(msg.data))

    def _flush_head(self) -> None:
        self.head.journal_parts()
        ops, self.head.journal = self.head.journal, []
        for op in ops:
            record = encode(op)
            self.digest.add(self.clock.now, HEAD, HEAD, record)
            self.journal += record
        outbox = list(self.head.outbox)
        self.head.outbox.clear()
        self.head.cut.clear()
        tried, self.head.to_try[:] = list(self.head.to_try), []
        for number in tried:
            if self.nodes[number].alive or number % 2 == 0:
                self.clock.after(0.001, lambda number=number: self._port_answers(number))  # type: ignore[misc]
        bodies: dict[int, bytes] = {}
        for dst, msg in outbox:
            if self.nodes[dst.node].alive:
                body = bodies.get(id(msg))
                if body is None:
                    body = bodies[id(msg)] = encode_body([msg])
                self._between(HEAD_NODE, dst.node, dst, HEAD, body)

    def _port_answers(self, number: int) -> None:
        if self.head_up:
            self.head.port_tried(number, refused=not self.nodes[number].alive)
            self._flush_head()

    def _to_process(self, process: Process, src: Address, body: bytes) -> None:
        if not process.alive:
            return
        self.digest.add(self.clock.now, process.addr, src, body)
        messages = decode_body(body)
        for msg in messages:
            if type(msg) is LeaseLost:
                self._drain(process, msg.worker)
        for other in process.machine.handle(src, messages):
            process.on_message(src, other)
        process.on_frame()
        self.flush(process)

    def _read_direct(self, process: Process, src: Address) -> None:
        box = self.boxes[(src, process.addr)]
        if box:
            self._to_process(process, src, box.popleft())

    def _drain(self, process: Process, worker: Address) -> None:
        """A dead worker's stream is read to its end before the death is believed in."""
        box = self.boxes[(worker, process.addr)]
        while box:
            body = box.popleft()
            self.digest.add(self.clock.now, process.addr, worker, body)
            process.machine.handle(worker, decode_body(body))
        process.direct.discard(worker)

    # -------------------------------------------------------------- time

    def _tick(self) -> None:
        now = self.clock.now
        for node in self.nodes.values():
            if node.alive:
                node.machine.tick(now)
                self._flush_raylet(node.number)
                if node.machine.fenced:
                    self.broken.append(f"node {node.number} ended itself: {node.machine.fenced}")
                    self.kill_node(node.number)
                    continue
                for process in list(node.processes.values()):
                    if process.alive:
                        machine = process.machine
                        machine.objects.drain_dropped()
                        machine.tick(now)
                        process.on_background(now)
                        if has_left(machine):  # few have: to flush all of them took a tenth of the time of a seed
                            self.flush(process, everything=True)
                        self._check_word(node, process)
        if self.head_up:
            self.head.tick(now)
            self._flush_head()
        self.clock.after(self.tick_s, self._tick)

    def _check_word(self, node: NodeSim, process: Process) -> None:
        """What a raylet wants to hear of a process of its node it hears within some ticks."""
        proc, raylet = process.addr.proc, node.machine
        known = raylet.leasing.procs.get(proc)
        if proc in raylet.store.asking.unanswered:
            silent = "what it does not read"
        elif known is not None and known.blocked and not process.waits():
            silent = "that it goes on"
        else:
            if self._silent:
                self._silent.pop(process.addr, None)
            return
        self._silent[process.addr] += 1
        if self._silent[process.addr] > SILENT_TICKS:
            self.broken.append(f"process {process.addr} does not say {silent}")
