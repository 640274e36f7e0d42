"""The head's process: its links around `HeadMachine`."""

from __future__ import annotations

import logging
import socket
import sys
import threading

from hpc.core.head.machine import HeadMachine
from hpc.core.ids import HEAD, HEAD_NODE, Address
from hpc.core.net.curve import AllowList, KeyPair
from hpc.core.net.links import Links
from hpc.core.net.reactor import Reactor, Timer
from hpc.core.node.control import Control
from hpc.core.node.spec import NodeSpec
from hpc.core.wire import HEADER, HEADER_BYTES, DecodeError, Message, decode_body, encode_frame

log = logging.getLogger("hpc.head")


class Head:
    """The head of a session."""

    def __init__(self, spec: NodeSpec, control: socket.socket) -> None:
        self.reactor = Reactor()
        self.control = Control(control)
        self.keys = KeyPair.make()
        self.allow = AllowList()
        self.admitted: dict[int, str] = {}
        config = spec.config
        self.machine = HeadMachine(
            suspect_s=float(config.get("suspect_s", 10.0)),
            dead_s=float(config.get("dead_s", 60.0)),
            now=self.reactor.now(),
        )
        if spec.time_left_s is not None:
            self.machine.ends_at = spec.started_at + spec.time_left_s
        self.links = Links(
            self.reactor,
            node=HEAD_NODE,
            keys=self.keys,
            allow=self.allow,
            bind_addr=spec.interface_addr,
            deliver=self._deliver,
            config=config,
        )
        self._timer: Timer | None = None
        self.reactor.add_reader(self.control.fileno(), self._on_control)
        self.reactor.at_end_of_turn(self._settle)
        self._importing = False

    def run(self) -> None:
        """Until the session ends."""
        self.control.send({"op": "bound", "pk": self.keys.public, "ep": self.links.endpoint})
        self.reactor.run()

    def _on_control(self) -> None:
        for message in self.control.receive():
            op = message.get("op")
            if op == "admit":
                for node, key in message["keys"].items():
                    self.allow.add(key, int(node))
                    self.admitted[int(node)] = key
            elif op == "lost":
                self.machine.lose_node(int(message["node"]), str(message.get("why", "it has ended")))
            elif op == "stop":
                self.reactor.stop()
        if self.control.eof:
            self.reactor.stop()

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
        self.machine.handle(Address(src_node, src_proc), messages, self.reactor.now())
        self._send_outbox()

    def _send_outbox(self) -> None:
        machine = self.machine
        batches: dict[Address, list[Message]] = {}
        for dst, msg in machine.outbox:
            batches.setdefault(dst, []).append(msg)
        machine.outbox.clear()
        for dst, messages in batches.items():
            self.links.send(dst.node, encode_frame(dst, HEAD, messages))

    def _settle(self) -> None:
        machine = self.machine
        if machine.nodes and not self._importing:
            self._importing = True
            threading.Thread(target=_import_policy, name="hpc-import", daemon=True).start()
        next_at = machine.tick(self.reactor.now())
        self._send_outbox()
        while machine.cut:
            node = machine.cut.pop()
            log.info("node %d is lost: %s", node, machine.dead[node].why)
            self.reactor.call_later(1.0, lambda node=node: self._cut(node))  # type: ignore[misc]
        if machine.shutdown_why:
            self.control.send({"op": "shutdown", "why": machine.shutdown_why})
            machine.shutdown_why = ""
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
    import hpc.core.policy.placement  # noqa: F401


def head_main(spec: NodeSpec, control: socket.socket) -> None:
    """What the supervisor's child runs; returns when the session has ended."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s.%(msecs)03d %(name)s %(message)s", datefmt="%H:%M:%S"
    )
    head = Head(spec, control)
    try:
        head.run()
    finally:
        head.links.close()
        log.info("head ends")
