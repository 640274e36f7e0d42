"""What a further job of a session runs: it starts the nodes of its job, and passes on what they and the session say.

The job has an order, a file that only its user can read: which session, by which token, with what options. Where the
session is over (its join file is gone, or nobody answers there) the job ends at once. Else it ends with its nodes, and
they with it, with the session, and when nothing was heard from there for 30 s.

The nodes are a group like any other, started by whatever the scheduler of this job has for it. So a job of any
scheduler can join, and its nodes are as good as those that the session began with.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hpc.core.net.curve import AllowList
from hpc.core.net.links import Links
from hpc.core.net.reactor import Reactor
from hpc.core.node.bootstrap import CommandDecoder, Report, encode_report
from hpc.core.node.process import become_subreaper, set_name
from hpc.core.node.reap import end_descendants
from hpc.launchers.door import ATTACH, DATA, DOOR_NODE, END, JOINER_NODES, PING, PING_S, SILENT_S
from hpc.launchers.joinfile import JoinFile, JoinFileError, read_join_file
from hpc.launchers.node_group import Channel, NodeGroup
from hpc.launchers.registry import find_place, job_of, make_group

_PROGRAM = "import sys; sys.path[:]=[p for p in sys.path if p]; from hpc.launchers.relay import main; main()"
ANSWER_S = 30.0
STOP_TIMEOUT_S = 20.0
LAST_WORDS_S = 2.0
LEFTOVERS_S = 5.0
LOOK_S = 0.05
OVER = "the session that this job was for is over"


class Relay:
    """Between the nodes of this job and the session."""

    def __init__(self, join: JoinFile, token: str, group: NodeGroup, *, silent_s: float = ANSWER_S) -> None:
        self.group = group
        self.why = ""
        self.joined = False
        self._warned = False
        group.start()  # before ZeroMQ has threads
        self.reactor = Reactor()
        self._commands = CommandDecoder()
        self._number = 0
        self._gone: set[int] = set()
        self._heard, self._silent_s = self.reactor.now(), silent_s
        self._kill_at: float | None = None
        self._leaving = False
        self._endpoint = join.endpoint
        self.links = Links(
            self.reactor, node=JOINER_NODES + secrets.randbelow(1 << 30), keys=join.keys, allow=AllowList(),
            bind_addr=None, deliver=self._deliver,
        )  # fmt: skip
        self.links.dial(DOOR_NODE, join.endpoint, join.server_key)
        hosts = [group.host_of(rank) or "" for rank in range(group.size)]
        job = job_of(os.environ)
        fields = {"base_dir": None, "allocation": job, **group.start_fields()}
        said = {"token": token, "hosts": hosts, "fields": fields, "job_id": job.get("job_id", "")}
        self.links.send(DOOR_NODE, ATTACH + json.dumps(said).encode())
        for channel in group.channels:
            self.reactor.add_reader(channel.stdout_fd, lambda channel=channel: self._from_nodes(channel))  # type: ignore[misc]
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._signals: list[int] = []
        self.reactor.add_reader(self._wake_read, self._on_signal)
        self.reactor.call_later(LOOK_S, self._look)
        self.reactor.call_later(PING_S, self._tick)

    def run(self) -> int:
        """Until nothing of the nodes is left; 0 where they were part of the session and told to end."""
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, lambda number, _frame: self._signals.append(number))
        for signum in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(signum, signal.SIG_IGN)  # warnings for a script; how long this job lasts the session asks
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self.reactor.run()
        signal.set_wakeup_fd(-1)
        self.links.close()
        self.group.close()
        return 0 if self.joined and not self.why else 1

    # -------------------------------------------------------------- from the session

    def _deliver(self, _node: int, body: bytes | memoryview) -> None:
        self._heard, self._silent_s = self.reactor.now(), SILENT_S
        kind, data = bytes(body[:1]), bytes(body[1:])
        if kind == DATA:
            self.joined = True
            for message in self._commands.feed(data):
                self.group.send(message)
        elif kind == END and not self._leaving:  # what was said after our own END is answered so, too
            self._end(OVER)

    def _end(self, why: str) -> None:
        """End of file for the supervisors: they end their nodes, and then their streams end."""
        if self._kill_at is None:
            self.why = self.why or why
            self._kill_at = self.reactor.now() + STOP_TIMEOUT_S
            for channel in self.group.channels:
                channel.close_stdin()

    # -------------------------------------------------------------- from the nodes

    def _from_nodes(self, channel: Channel) -> None:
        fd = channel.stdout_fd
        for item in channel.read():
            if isinstance(item, Report):
                if item.message["op"] == "bye":
                    self._gone.add(item.rank)
                self._pass_on(item.rank, item.message)
            else:
                self.links.send(DOOR_NODE, DATA + item.text.encode() + b"\n")
        if channel.eof:
            self.reactor.remove(fd)
            for rank in channel.ranks:
                if rank not in self._gone:
                    self._gone.add(rank)
                    self._pass_on(rank, {"op": "bye", "code": 1, "why": "its supervisor ended"})

    def _pass_on(self, rank: int, message: Mapping[str, Any]) -> None:
        self._number += 1
        self.links.send(DOOR_NODE, DATA + encode_report(rank, self._number, message))

    # -------------------------------------------------------------- time

    def _look(self) -> None:
        """What no stream tells of: processes that have ended, bytes that wait for room in a pipe."""
        now = self.reactor.now()
        for channel in self.group.channels:
            channel.flush()
        if self._kill_at is not None and now > self._kill_at:
            self._kill_at = now + STOP_TIMEOUT_S
            self.group.kill()
        if self.group.silent and self.group.poll() is not None and not self._leaving:
            self._leaving = True
            self.links.send(DOOR_NODE, END)
            self._leave(now + LAST_WORDS_S)
        self.reactor.call_later(LOOK_S, self._look)

    def _leave(self, deadline: float) -> None:
        """Once the last words have arrived, or after a while."""
        if not self.links.pending_bytes(DOOR_NODE) or self.reactor.now() > deadline:
            self.reactor.stop()
        else:
            self.reactor.call_later(LOOK_S, lambda: self._leave(deadline))

    def _tick(self) -> None:
        silent_s = self.reactor.now() - self._heard
        if silent_s > self._silent_s:
            self._end(f"nothing was heard from {self._endpoint} for {silent_s:.0f} s: {OVER}, or cannot be reached")
        if self.joined and not self._leaving:
            self.links.send(DOOR_NODE, PING)
        self.reactor.call_later(PING_S, self._tick)

    def _on_signal(self) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass
        for number in self._signals:
            name = signal.Signals(number).name
            if self._warned or not self.joined:
                self._end(name)
            else:
                self._warn(name)
            self._warned = True
        self._signals.clear()

    def _warn(self, name: str) -> None:
        """Somebody wants this job to end. As each node would, it asks the session what to do, which knows how long they
        have, and ends them."""
        for rank in range(self.group.size):
            if rank not in self._gone:
                self._pass_on(rank, {"op": "warned", "signal": name})


def relay_command(order_path: str) -> list[str]:
    """What a further job runs, on its first node."""
    return [sys.executable, "-c", _PROGRAM, order_path]


def write_order(path: Path, order: Mapping[str, Any]) -> None:
    """The order of a further job: "join", "token", "nodes", "env", and options of `make_group` and of the group."""
    path.unlink(missing_ok=True)  # of a run of this job before it was put back into the queue
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(dict(order), file)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """ORDER: the program of a further job."""
    (path,) = sys.argv[1:] if argv is None else argv
    set_name("hpc-relay")
    try:
        with open(path) as file:
            order: dict[str, Any] = json.load(file)
        join = read_join_file(str(order["join"]))
    except (OSError, JoinFileError):
        print(f"hpc: {OVER}: this job ends", flush=True)
        sys.exit(0)
    become_subreaper()
    os.environ.update(order["env"])
    place = find_place()
    nodes = int(order["nodes"]) if place.alloc is None else None
    group = make_group(place, nodes, fork=True, step_args=order["step_args"], base_dir=order["base_dir"])
    group.interface = order["interface"]
    relay = Relay(join, str(order["token"]), group)
    code = relay.run()
    if relay.why:
        print(f"hpc: {relay.why}", flush=True)
    end_descendants(LEFTOVERS_S)
    sys.exit(code)
