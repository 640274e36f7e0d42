"""The head's process: its links around `HeadMachine`."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time

from hpc.core.crashpoints import arm
from hpc.core.head.journal import Began, JournalDamaged
from hpc.core.head.journal_file import JournalFile
from hpc.core.head.machine import HeadMachine
from hpc.core.head.ports import Ports
from hpc.core.head.restore import restore, snapshot
from hpc.core.ids import HEAD, HEAD_NODE, Address, is_address
from hpc.core.net.curve import AllowList, KeyPair
from hpc.core.net.frames import encode_bodies, log_instead
from hpc.core.net.links import Links
from hpc.core.net.reactor import Reactor, Timer
from hpc.core.node.control import Control
from hpc.core.node.imports import import_threadless
from hpc.core.node.spec import NodeSpec
from hpc.core.node.times import fault_times
from hpc.core.wire import HEADER, HEADER_BYTES, DecodeError, Message, decode_body

log = logging.getLogger("hpc.head")
TOO_LARGE = log_instead(log.error)
#: What waits is said to the launcher no more often than this, whatever it asks for.
MIN_REPORT_S = 0.1


class Head:
    """The head of a session."""

    def __init__(self, spec: NodeSpec, control: socket.socket) -> None:
        self.reactor = Reactor()
        self.control = Control(control)
        self.keys = KeyPair.make() if spec.head_keys is None else KeyPair(*spec.head_keys)
        self.allow = AllowList()
        self.admitted: dict[int, str] = {}
        config = spec.config
        times = fault_times(config)
        self.machine = HeadMachine(
            try_s=times.try_s, suspect_s=times.suspect_s, dead_s=times.dead_s, now=self.reactor.now()
        )
        self.ports = Ports(self.reactor, self.machine.port_tried)
        self.machine.detached.enter(spec.session)
        self.machine.metrics.own_cpu_s = time.process_time
        self.machine.events.wall_ahead_s = time.time() - self.reactor.now()
        arm("head", self.machine, config, spec.node, spec.dir)
        self.machine.allocation = spec.allocation
        if spec.time_left_s is not None:
            self.machine.endings.learn(spec.started_at + spec.time_left_s)
        self.journal: JournalFile | None = JournalFile(spec.dir)
        self._replay(self.journal)
        self.links = Links(
            self.reactor,
            node=HEAD_NODE,
            keys=self.keys,
            allow=self.allow,
            bind_addr=spec.interface_addr,
            deliver=self._deliver,
            config=config,
            listen_fd=spec.head_fd if spec.head_fd >= 0 else None,
        )
        self._timer: Timer | None = None
        self.reactor.add_reader(self.control.fileno(), self._on_control)
        self.reactor.at_end_of_turn(self._settle)
        self._importing = False
        self._report_s = 0.0

    def run(self) -> None:
        """Until the session ends. The supervisor alone is told the secret key: for the head that may come after us."""
        self.control.send({"op": "bound", "pk": self.keys.public, "ep": self.links.endpoint, "sk": self.keys.secret})
        self.reactor.run()

    # -------------------------------------------------------------- the journal

    def _replay(self, journal: JournalFile) -> None:
        """Know what the head before us knew, and begin under the next number."""
        ops = journal.read()
        machine = self.machine
        restore(machine, ops)
        machine.begin(machine.epoch + 1 if ops else 1)
        journal.append([Began(machine.epoch)])
        if ops:
            known = f"{len(machine.nodes)} nodes, {len(machine.names)} names, {len(machine.kv)} keys"
            log.info("head %d of this session: read %d records: %s", machine.epoch, len(ops), known)

    def _write_journal(self) -> None:
        """What has changed is on disk before anybody hears of it."""
        ops, self.machine.journal = self.machine.journal, []
        if self.journal is None:
            return
        try:
            self.journal.append(ops)
            if self.journal.has_grown:
                self.journal.compact(snapshot(self.machine))
        except OSError as error:
            why = f"its journal cannot be written: {error}"
            log.error("a restart of the head is not possible any more: %s", why)
            self.control.send({"op": "no_restart", "why": why})
            self.journal.close()
            self.journal = None

    def _on_control(self) -> None:
        for message in self.control.receive():
            op = message.get("op")
            if op == "admit":
                for node, key in message["keys"].items():
                    if int(node) in self.machine.dead:
                        continue
                    self.allow.add(key, int(node))
                    self.admitted[int(node)] = key
            elif op == "lost":
                self.machine.lose_node(int(message["node"]), str(message.get("why", "it has ended")))
            elif op == "time":
                left_s = message["left_s"]
                ends_at = None if left_s is None else float(message["at"]) + left_s
                self.machine.learn_end(
                    ends_at, message.get("nodes"), str(message.get("drain", "")), now=self.reactor.now(),
                    taken=bool(message.get("taken")),
                )  # fmt: skip
            elif op == "watch":
                self._report_every(float(message["every_s"]))
            elif op == "vacate":
                self.machine.upward.vacate(message["nodes"])
            elif op == "growth":
                self.machine.growth = message["facts"]
            elif op == "happened":
                self.machine.events.told(str(message["kind"]), str(message["text"]))
            elif op == "ping":
                self.control.send({"op": "pong"})
            elif op == "stop":
                self.reactor.stop()
        if self.control.eof:
            self.reactor.stop()

    def _report_every(self, every_s: float) -> None:
        """Say upward what waits and which nodes are not used, from now on: when that has changed, so often at most."""
        first, self._report_s = not self._report_s, max(MIN_REPORT_S, every_s)
        if first:
            self._report_upward()

    def _report_upward(self) -> None:
        report = self.machine.upward.report(self.reactor.now())
        if report is not None:
            self.control.send({"op": "demand", **report})
        self.reactor.call_later(self._report_s, self._report_upward)

    def _deliver(self, node: int, body: bytes | memoryview) -> None:
        if len(body) < HEADER_BYTES:
            return
        size, dst_node, _, src_node, src_proc = HEADER.unpack_from(body)
        if src_node != node or dst_node != HEAD_NODE or size != len(body) - HEADER_BYTES:
            log.warning("node %d sent a frame that is not its own or not for the head: dropped", node)
            return
        try:
            messages = decode_body(body[HEADER_BYTES:])
        except DecodeError as error:
            log.warning("node %d sent a message that cannot be decoded: %s", node, error)
            return
        # What follows is done at the end of the turn, once for all that has come: see _settle.
        self.machine.handle(Address(src_node, src_proc), messages, self.reactor.now(), serve=False)

    def _send_outbox(self) -> None:
        machine = self.machine
        if not machine.outbox and not machine.journal:
            return
        machine.journal_parts()
        if machine.journal:
            self._write_journal()
        batches: dict[Address, list[Message]] = {}
        for dst, msg in machine.outbox:
            batches.setdefault(dst, []).append(msg)
        machine.outbox.clear()
        # What all nodes are told is encoded once.
        bodies: dict[tuple[int, ...], list[bytes]] = {}
        for dst, messages in batches.items():
            if not is_address(dst):  # nobody's: the others hear what is for them all the same
                log.warning("what is for %s has no way to go: dropped", dst)
                continue
            which = tuple(map(id, messages))
            parts = bodies.get(which)
            if parts is None:
                parts = bodies[which] = encode_bodies(messages, TOO_LARGE)
            for body in parts:
                self.links.send(dst.node, HEADER.pack(len(body), *dst, *HEAD) + body)

    def _settle(self) -> None:
        machine = self.machine
        if machine.nodes and not self._importing:
            self._importing = True
            threading.Thread(target=_import_policy, name="hpc-import", daemon=True).start()
        machine.events.wall_ahead_s = time.time() - self.reactor.now()
        next_at = machine.tick(self.reactor.now())
        while machine.to_try:
            node = machine.to_try.pop()
            if node in machine.nodes:
                self.ports.attempt(node, machine.nodes[node].info.endpoint)
        self._send_outbox()
        while machine.cut:
            node = machine.cut.pop()
            why = machine.dead[node].why
            log.info("node %d is lost: %s", node, why)
            self.control.send({"op": "node_lost", "lost": node, "why": why})
            self.reactor.call_later(1.0, lambda node=node: self._cut(node))  # type: ignore[misc]
        if self._timer is None or not self._timer.active or self._timer.when > next_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.reactor.call_at(next_at, lambda: None)

    def _cut(self, node: int) -> None:
        key = self.admitted.pop(node, None)
        if key is not None:
            self.allow.remove(key)
        self.links.forget(node)


def _import_policy() -> None:
    """Placement needs numpy, whose import takes 0.1 s: neither the start nor the first placement waits for it."""
    import_threadless(["hpc.core.policy.placement"])


def head_main(spec: NodeSpec, control: socket.socket) -> None:
    """What the supervisor's child runs; returns when the session has ended."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s.%(msecs)03d %(name)s %(message)s", datefmt="%H:%M:%S"
    )
    try:
        head = Head(spec, control)
    except (JournalDamaged, OSError) as error:
        log.error("%s", error)
        Control(control).send({"op": "error", "why": str(error)})
        return
    try:
        head.run()
    finally:
        head.ports.close()
        head.links.close()
        log.info("head ends")
