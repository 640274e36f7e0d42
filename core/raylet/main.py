"""The raylet's process: sockets, workers and memory around `RayletMachine`.

Frames are routed by their header. Those for the raylet itself go to the machine, those for a process of this node to
its stream. All others go unread to the link of their node.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
from typing import Any, Literal

from hpc.core.accelerators.base import ids_by_resource
from hpc.core.crashpoints import arm
from hpc.core.ids import HEAD_NODE, Address, raylet_of
from hpc.core.islands import islands_of
from hpc.core.net.accept import accept_on
from hpc.core.net.curve import AllowList, KeyPair
from hpc.core.net.frames import encode_frames, log_instead
from hpc.core.net.links import Links
from hpc.core.net.reactor import Reactor, Timer
from hpc.core.net.stream import Frame, Stream, StreamError, check_peer, listen
from hpc.core.node.control import Control
from hpc.core.node.settings import setting, switch
from hpc.core.node.spec import NodeSpec
from hpc.core.node.times import fault_times
from hpc.core.policy.labels import ACCELERATOR
from hpc.core.raylet.bulk import Bulk
from hpc.core.raylet.exit_words import describe_exit
from hpc.core.raylet.files import Files
from hpc.core.raylet.host import Host
from hpc.core.raylet.leaving import LAST_WORDS_S
from hpc.core.raylet.logs import LogTail
from hpc.core.raylet.machine import RayletMachine
from hpc.core.raylet.node_resources import labels_of, node_totals
from hpc.core.raylet.pids import Pids
from hpc.core.raylet.pressure import MAX_UNSENT_BYTES, Pressure, Strangers
from hpc.core.raylet.store_shell import StoreShell, open_arena
from hpc.core.raylet.tables import Proc
from hpc.core.raylet.watchdog import Watchdog
from hpc.core.raylet.writers import Writers
from hpc.core.resources import UNIT, NodeResources
from hpc.core.store.arena import MAX_SLOTS, SLOTS_BYTES
from hpc.core.store.layout import Layout
from hpc.core.wire import (
    HEADER,
    HEADER_BYTES,
    WIRE_VERSION,
    DecodeError,
    Message,
    NodeInfo,
    Register,
    Registered,
    Retire,
    Shutdown,
    Unroutable,
    decode_body,
    encode_frame,
)

log = logging.getLogger("hpc.raylet")
TOO_LARGE = log_instead(log.error)

LOG_INTERVAL_S = 0.1
#: Workers that may end before they are ready, one after the other, before the node gives up.
MAX_START_FAILURES = 5


class Raylet:
    """One node's raylet."""

    def __init__(self, spec: NodeSpec, control: socket.socket) -> None:
        self.spec = spec
        self.reactor = Reactor()
        self.control = Control(control)
        self.keys = KeyPair.make()
        self.allow = AllowList()
        self.links = self._open_links(spec.config, self._from_link)
        self.bulk = Bulk(spec, self.reactor, self._open_links, self._send_outbox)
        self.arena, place = open_arena(spec)
        size = self.arena.size_bytes
        totals = node_totals(spec, size)
        host = socket.gethostname()
        labels = labels_of(spec, host, os.environ)
        if labels.get(ACCELERATOR):
            totals[f"accelerator_type:{labels[ACCELERATOR]}"] = UNIT
        info = NodeInfo(
            spec.node, host, self.links.endpoint, self.keys.public, totals, labels,
            spec.gateway, os.getpid(), spec.dir, bulk=self.bulk.links.endpoint,
        )  # fmt: skip
        prestart = 0 if spec.gateway else max(1, int(spec.cpus))
        config = spec.config
        times = fault_times(config)
        self.store_shell = StoreShell(spec, self.arena, place, self.reactor)
        self.machine = RayletMachine(
            info,
            NodeResources(totals, ids_by_resource(spec.devices), islands_of(spec.devices)),
            Layout(size, SLOTS_BYTES),
            self.arena,
            now=self.reactor.now(),
            prestart=min(prestart, 64),
            heartbeat_s=times.heartbeat_s,
            fence_s=times.fence_s,
            spiller=self.store_shell.spiller,
            full_timeout_s=self.store_shell.full_timeout_s,
        )
        self.bulk.attach(self.machine, self.arena)
        self.links.on_restart = self._node_restarted
        self.pressure = Pressure(self._set_reading)
        self.strangers = Strangers(self._close_stranger)
        self.links.on_limit = self.pressure.on_limit
        arm("raylet", self.machine, config, spec.node, spec.dir)
        self.zygote = Control(socket.socket(fileno=spec.zygote_fd)) if spec.zygote_fd >= 0 else None
        self.store_shell.attach(self.machine.store)
        self.streams: dict[int, Stream] = {}
        self.slots: dict[int, int] = {}
        self.free_slots = list(range(MAX_SLOTS - 1, -1, -1))
        self.exited: dict[int, str] = {}
        self.pids = Pids(self.reactor, self.machine.memory_gone)
        writers = Writers(self.arena, self.slots, self.free_slots, self.machine.leasing.procs)
        self.logs = LogTail(spec, self.machine, writers.name)
        self.files = Files(self.machine.leasing, self.free_slots)
        self.dialed: set[int] = set()
        self.ready_said = self.stopping = False
        self.start_failures = 0
        self._timer: Timer | None = None
        self.watchdog = Watchdog(
            self.reactor, self.arena, self.machine.leasing.procs, self.slots,
            self._kill, lambda: self.machine.store.used_bytes,
            threshold=0.0 if spec.gateway else setting("memory_usage_threshold", config, os.environ),
            interval_s=setting("memory_watch_interval_s", config, os.environ),
            limit_bytes=int(setting("memory_limit_bytes", config, os.environ)),
        )  # fmt: skip
        self.machine.reports["usage"] = self.watchdog.report
        self.machine.metrics.attach(Host(spec.cpus, spec.devices).samples, switch("metrics", {}, os.environ))
        reactor = self.reactor
        self.acceptor = accept_on(reactor, listen(spec.raylet_sock), self._accept, log.error)
        reactor.add_reader(self.control.fileno(), self._on_control)
        if self.zygote is not None:
            reactor.add_reader(self.zygote.fileno(), self._on_zygote)
        reactor.at_end_of_turn(self._settle)
        reactor.call_later(LOG_INTERVAL_S, self._tail_logs)

    def _open_links(self, config: dict[str, Any], deliver: Any) -> Links:
        return Links(
            self.reactor,
            node=self.spec.node,
            keys=self.keys,
            allow=self.allow,
            bind_addr=self.spec.interface_addr,
            deliver=deliver,
            config=config,
        )

    def run(self) -> None:
        """Until the session ends."""
        self.control.send(
            {"op": "bound", "pk": self.keys.public, "ep": self.links.endpoint, "bulk": self.bulk.links.endpoint}
        )
        self.machine.leasing.start_workers_ahead()
        signal.signal(signal.SIGTERM, lambda *_: setattr(self.machine, "signalled_at", self.reactor.now()))
        self.reactor.run()

    def close(self) -> None:
        """Close the links, so that nothing of ZeroMQ outlives the session."""
        self.store_shell.close()
        self.links.close()
        self.bulk.close()

    # -------------------------------------------------------------- supervisor

    def _node_restarted(self, node: int, lost: int) -> None:
        if node == HEAD_NODE:
            log.info("the head was started again; %d messages to the one before are dropped", lost)
            self.machine.head_restarted()

    def _on_control(self) -> None:
        for message in self.control.receive():
            op = message.get("op")
            if op == "welcome":
                self.allow.add(message["head_pk"], HEAD_NODE)
                self.links.dial(HEAD_NODE, message["head_ep"], message["head_pk"])
                self.machine.join()
            elif op == "ping":
                self.control.send({"op": "pong"})
            elif op == "stop":
                self._stop(message.get("why", ""), alone=bool(message.get("alone")))
        if self.control.eof:
            self._stop("the supervisor has ended")

    def _stop(self, why: str, alone: bool = False) -> None:
        if not self.stopping:
            self.stopping = True
            log.info("stopping: %s", why)
            if left := self.machine.departure.left:
                self.control.send({"op": "left", "objects": len(left), "bytes": sum(move.size for move in left)})
            has_left = self.machine.leave(alone)
            self._send_outbox()
            self.reactor.call_later(LAST_WORDS_S if has_left else 0.0, self.reactor.stop)

    # -------------------------------------------------------------- workers

    def _on_zygote(self) -> None:
        assert self.zygote is not None
        for message in self.zygote.receive():
            op, number = message.get("op"), int(message.get("proc", 0))
            proc = self.machine.leasing.procs.get(number)
            if op == "forked" and proc is not None:
                proc.pid = message["pid"]
            elif op == "exited":
                self._worker_exited(number, message.get("status", 0))
            elif op == "error":
                log.error("worker %d was not started: %s", number, message.get("why"))
                self.machine.process_gone(number, str(message.get("why")))
        if self.zygote.eof:
            self.reactor.remove(self.zygote.fileno())
            self._stop("the zygote has ended")

    def _worker_exited(self, number: int, status: int) -> None:
        stream = self.streams.get(number)
        if stream is not None:
            self._drain(number, stream)
        slot = self.slots.get(number)
        task, attempt = self.arena.published(slot) if slot is not None else (b"", 0)
        how = describe_exit(status)
        tail = self.logs.last_lines(number)
        told = bool(tail) and not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status) != 0
        words = "; its last words: " + " | ".join(tail[-3:]) if told else ""
        self.exited[number] = how + words
        proc = self.machine.leasing.procs.get(number)
        if proc is not None and proc.state == "starting":
            self._start_failed(proc, how + words)
        no_memory = self.watchdog.why_ended(number, os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)
        how, words = (no_memory, "") if no_memory else (f"its process (pid {proc.pid if proc else 0}) {how}", words)
        self.logs.close(number, proc, how, words, clean=status == 0 and not no_memory, task=task, attempt=attempt)
        self.machine.process_gone(number, how + words, task, attempt, "oom" if no_memory else "crash")
        if number not in self.streams:
            self._forget(number)

    def _start_failed(self, proc: Proc, why: str) -> None:
        """A worker ended before it was ready. When that happens again and again the node is of no use: say so."""
        if proc.env:  # that is a matter of those who want this environment
            from hpc.core.runenv.setup import why_failed  # with all that makes environments

            return self.machine.env_failed(proc.env, why_failed(self.spec, proc.proc, why))
        self.start_failures += 1
        log.error("worker %d ended before it was ready: it %s", proc.proc, why)
        if self.start_failures >= MAX_START_FAILURES and not self.stopping:
            problem = f"{self.start_failures} workers in a row ended before they were ready; the last one {why}"
            self.control.send({"op": "error", "why": problem})
            self._stop(problem)

    def _drain(self, number: int, stream: Stream) -> None:
        """Read what a process said before it ended."""
        while not stream.eof:
            try:
                frames = stream.receive()
            except StreamError:
                break
            if not frames and not stream.eof:
                break
            self._route_all(number, frames)
        if stream.eof:
            self._drop_stream(number, stream)

    def _forget(self, number: int) -> None:
        """The process has ended and nobody holds its socket: its memory and slot can be used again."""
        self.exited.pop(number, None)
        self.machine.memory_gone(number)
        slot = self.slots.pop(number, None)
        if slot is not None:
            self.free_slots.append(slot)
        try:
            os.unlink(self.spec.worker_sock(number))
        except OSError:
            pass

    # -------------------------------------------------------------- processes of this node

    def _accept(self) -> None:
        sock = self.acceptor.take()
        if sock is None:
            return
        try:
            pid = check_peer(sock)
        except OSError as error:
            log.warning("refused a connection: %s", error)
            sock.close()
            return
        stream = Stream(sock)
        self.reactor.add_reader(stream.fd, lambda: self._first_frame(stream, pid))
        self.strangers.add(stream)

    def _close_stranger(self, stream: Stream) -> None:
        self.strangers.remove(stream)
        self.reactor.remove(stream.fd)
        stream.close()

    def _set_reading(self, number: int, on: bool) -> None:
        stream = self.streams.get(number)
        if stream is not None:
            self.reactor.set_reader(stream.fd, (lambda: self._read(number, stream)) if on else None)

    def _first_frame(self, stream: Stream, pid: int) -> None:
        try:
            frames = stream.receive()
            messages = decode_body(frames[0][2]) if frames else []
        except (StreamError, DecodeError) as error:
            log.warning("process %d sent no registration: %s", pid, error)
            messages, stream.eof = [], True
        register = messages[0] if messages else None
        if isinstance(register, Register) and register.version == WIRE_VERSION:
            self._register(stream, register, pid)
        elif stream.eof or register is not None:
            self._close_stranger(stream)

    def _register(self, stream: Stream, msg: Register, pid: int) -> None:
        machine = self.machine
        proc: Proc | None
        if msg.kind == "driver":
            proc = machine.driver_joined(pid, msg.job)
        else:
            proc = machine.leasing.procs.get(msg.proc)
            if proc is None or proc.state != "starting":
                self._close_stranger(stream)
                return
        self.strangers.remove(stream)
        slot = self.free_slots.pop() if msg.kind != "driver" and self.free_slots else 0
        number = proc.proc
        if msg.kind != "driver":
            self.slots[number] = slot
            self.arena.clear_slot(slot)
        else:
            self.pids.watch(number, pid)
        self.streams[number] = stream
        stream.peer = number
        config = {k: v for k, v in self.spec.config.items() if isinstance(v, (int, float, str, bool))}
        answer = Registered(
            self.spec.node, number, slot, self.arena.size_bytes, self.spec.session, config, self.arena.overflow_bytes,
            machine.ending(self.reactor.now()),
        )  # fmt: skip
        stream.sock.setblocking(True)
        frame = encode_frame(Address(self.spec.node, number), raylet_of(self.spec.node), [answer])
        sent = socket.send_fds(stream.sock, [frame], self.arena.descriptors())
        if sent < len(frame):
            stream.sock.sendall(frame[sent:])
        stream.sock.setblocking(False)
        self.reactor.set_reader(stream.fd, lambda: self._read(number, stream))
        if msg.kind != "driver":
            machine.worker_joined(number, pid, self.spec.worker_sock(number))
            self.logs.open(number)
            self.start_failures = 0

    def _read(self, number: int, stream: Stream) -> None:
        try:
            frames = stream.receive()
        except StreamError as error:
            self._cut(number, stream, f"its raylet cut the connection: {error}")
            return
        self._route_all(number, frames)
        if stream.eof:
            self._drop_stream(number, stream)

    def _cut(self, number: int, stream: Stream, why: str) -> None:
        """Have done with a process; it is told why if it reads, and so are those who need it."""
        log.warning("process %d: %s", number, why)
        me = raylet_of(self.spec.node)
        stream.send(encode_frame(Address(self.spec.node, number), me, [Shutdown(why)]))
        proc = self.machine.leasing.procs.get(number)
        if proc is not None and not proc.exit_why:
            proc.exit_why = why
        self._drop_stream(number, stream)

    def _drop_stream(self, number: int, stream: Stream) -> None:
        if self.streams.get(number) is not stream:
            return
        del self.streams[number]
        self.pressure.gone(number)
        self.reactor.remove(stream.fd)
        stream.close()
        proc = self.machine.leasing.procs.get(number)
        if proc is not None and proc.kind == "driver":
            self.machine.process_gone(number, "the driver has ended")
            if number not in self.pids:
                self._forget(number)
        elif number in self.exited:
            self._forget(number)
        elif proc is not None:
            # Most likely it has just ended; the zygote will say how. A process that lives on without us is ended.
            self.reactor.call_later(1.0, lambda: self._kill_if_there(proc))

    # -------------------------------------------------------------- routing

    def _route_all(self, number: int, frames: list[Frame]) -> None:
        me = self.spec.node
        for dst, src, body in frames:
            if src[0] != me or src[1] != number:
                log.warning("process %d spoke as %s: dropped", number, src)
                continue
            if dst[0] == me and dst[1] == 0:
                self._handle(src, body)
            else:
                self._forward(dst, src, body)

    def _handle(self, src: Address, body: bytes | memoryview) -> None:
        try:
            messages = decode_body(body)
        except DecodeError as error:
            log.warning("a message of %s could not be decoded: %s", src, error)
            return
        self.machine.handle(src, messages)
        self._send_outbox()

    def _forward(self, dst: Address, src: Address, body: bytes | memoryview) -> None:
        """Pass a frame on, unread."""
        frame = HEADER.pack(len(body), dst[0], dst[1], src[0], src[1]) + body
        if dst[0] == self.spec.node:
            if src[0] != dst[0]:
                self._expose(dst[1])
            self._to_process(dst, src, frame)
        elif self._dial(dst[0]):
            self._expose(src[1])
            self.links.send(dst[0], frame)
            if self.pressure.full:
                self.pressure.sent(src[1], dst[0])
        else:
            self._bounce(dst, src)

    def _expose(self, number: int) -> None:
        proc = self.machine.leasing.procs.get(number)
        if proc is not None:
            proc.exposed = True

    def _to_process(self, dst: Address, src: Address, frame: bytes) -> None:
        stream = self.streams.get(dst[1])
        if stream is None:
            self._bounce(dst, src)
            return
        stream.send(frame)
        if stream.unsent_bytes > MAX_UNSENT_BYTES:
            why = (
                f"it does not read what it is sent, and {stream.unsent_bytes} bytes wait: its raylet cut the connection"
            )
            self._cut(dst[1], stream, why)
        elif stream.wants_write:
            self.reactor.set_writer(stream.fd, lambda: self._flush_stream(stream))

    def _flush_stream(self, stream: Stream) -> None:
        stream.flush()
        if not stream.wants_write:
            self.reactor.set_writer(stream.fd, None)

    def _bounce(self, dst: Address, src: Address) -> None:
        """Tell the sender that there is nobody; never about a bounced message itself."""
        if dst[1] == 0 and src[1] == 0:
            return
        me = raylet_of(self.spec.node)
        self._send(src, [Unroutable(dst)], me)

    def _dial(self, node: int) -> bool:
        """Whether the node can be reached; the link is made when first needed."""
        if node == HEAD_NODE or node in self.dialed:
            return True
        info = self.machine.nodes.get(node)
        if info is None:
            return False
        if info.gateway and not self.spec.gateway:
            return True
        self.dialed.add(node)
        self.links.dial(node, info.endpoint, info.key)
        self.bulk.links.dial(node, info.bulk, info.key)
        return True

    def _from_link(self, node: int, body: bytes | memoryview) -> None:
        if len(body) < HEADER_BYTES:
            return
        size, dst_node, dst_proc, src_node, src_proc = HEADER.unpack_from(body)
        if src_node != node or size != len(body) - HEADER_BYTES or dst_node != self.spec.node:
            log.warning("node %d sent a frame that is not its own or not for here: dropped", node)
            return
        dst, src = Address(dst_node, dst_proc), Address(src_node, src_proc)
        if dst_proc == 0:
            self._handle(src, body[HEADER_BYTES:])
        else:
            self._expose(dst_proc)
            self._to_process(dst, src, bytes(body))

    def _send(self, dst: Address, messages: list[Message], src: Address) -> None:
        if dst[0] == self.spec.node:
            if dst[1] == 0:
                self.machine.handle(src, messages)
            elif dst[1] in self.streams:
                for frame in encode_frames(dst, src, messages, TOO_LARGE):
                    self._to_process(dst, src, frame)
            elif dst[1] not in self.machine.leasing.procs:
                self.machine.handle(dst, [Unroutable(dst)])
        elif self._dial(dst[0]):
            for frame in encode_frames(dst, src, messages, TOO_LARGE):
                self.links.send(dst[0], frame)
        elif dst[1]:
            self.machine.handle(raylet_of(dst[0]), [Unroutable(dst)])

    def _send_outbox(self) -> None:
        machine = self.machine
        me = raylet_of(self.spec.node)
        while machine.outbox:
            batches: dict[Address, list[Message]] = {}
            for dst, msg in machine.outbox:
                batches.setdefault(dst, []).append(msg)
            machine.outbox.clear()
            for dst, messages in batches.items():
                self._send(dst, messages, me)
        while machine.bulk:
            bulk, machine.bulk[:] = list(machine.bulk), []
            for node, msg in bulk:
                if self._dial(node):
                    self.bulk.send(node, msg)

    # -------------------------------------------------------------- turns and time

    def _settle(self) -> None:
        """At the end of each turn: do what the machine decided, and see when it wants to be asked again."""
        machine = self.machine
        next_at = machine.tick(self.reactor.now())
        self._send_outbox()
        self.store_shell.settle()
        leasing = machine.leasing
        if leasing.to_start:
            self._start_workers()
        while leasing.to_retire:
            proc = leasing.to_retire.pop()
            self._send(Address(self.spec.node, proc.proc), [Retire()], raylet_of(self.spec.node))
        while leasing.to_kill:
            proc, why = leasing.to_kill.pop()
            self._kill(proc)
            log.info("ending worker %d (pid %d): %s", proc.proc, proc.pid, why)
        while machine.links:
            what, info = machine.links.pop(0)
            self._link_changed(what, info)
        if machine.registered and not self.ready_said:  # workers follow within milliseconds
            self.ready_said = True
            self.control.send({"op": "ready"})
        if machine.has_drained():
            self._send_outbox()
            self.control.send({"op": "drained"})
        if machine.fenced and not self.stopping:
            self.control.send({"op": "fenced", "why": machine.fenced})
            self._stop(machine.fenced)
        if self._timer is None or not self._timer.active or self._timer.when > next_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.reactor.call_at(next_at, lambda: None)

    def _link_changed(self, what: Literal["dial", "forget"], info: NodeInfo) -> None:
        if what == "dial":
            self.allow.add(info.key, info.node)
            if self.spec.gateway:
                self._dial(info.node)
        else:
            self.allow.remove(info.key)
            self.dialed.discard(info.node)
            self.links.forget(info.node)
            self.pressure.forget(info.node)
            self.bulk.forget(info.node)

    def _start_workers(self) -> None:
        leasing = self.machine.leasing
        for proc in leasing.to_start:
            if self.zygote is None or self.zygote.eof:
                self.machine.process_gone(proc.proc, "there is no zygote to start it")
            else:
                self.zygote.send({"op": "fork", "proc": proc.proc, "env": dict(proc.env)})
        leasing.to_start.clear()

    def _kill(self, proc: Proc) -> None:
        if proc.pid and proc.kind != "driver":
            with contextlib.suppress(ProcessLookupError):
                os.kill(proc.pid, signal.SIGKILL)

    def _kill_if_there(self, proc: Proc) -> None:
        if proc.proc in self.machine.leasing.procs:
            self._kill(proc)

    def _tail_logs(self) -> None:
        self.logs.poll()
        self.files.look()
        self.reactor.call_later(LOG_INTERVAL_S, self._tail_logs)


def raylet_main(spec: NodeSpec, control: socket.socket) -> None:
    """What the supervisor's child runs; returns when the session has ended."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s.%(msecs)03d %(name)s %(message)s", datefmt="%H:%M:%S"
    )
    sys.setswitchinterval(0.001)
    raylet = Raylet(spec, control)
    try:
        raylet.run()
    finally:
        raylet.close()
        log.info("raylet of node %d ends", spec.node)
