"""How the nodes of further jobs come to a session that runs: by a door of its own, each job as one group.

The door (door.py) is a process beside this one. A further job runs the program of relay.py. It starts the nodes of its
job, dials in by the join file, and names the token that it was given. The door makes a pair of sockets for it. One of
them it hands on to us, with what the relay says of its nodes. The session speaks to that socket as to the pipes of any
supervisor.

Rejected: the sockets' path in a directory, since it may be longer than such a path can be.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from hpc.launchers.joinfile import remove_join_file
from hpc.launchers.loop import SessionLoop
from hpc.launchers.node_group import Channel, NodeGroup

_PROGRAM = "import sys; sys.path[:]=[p for p in sys.path if p]; from hpc.launchers.arrivals import main; main()"
MAX_WORDS = 1 << 17
LISTENING = {"listening": True}
DOOR_END_S = 2.0


class ArrivedGroup(NodeGroup):
    """The nodes of a further job, at the other end of a socket. They end when it is closed.

    hosts: by their ranks. fields: of the start message. job_id: by which its scheduler knows the job, "" for none.
    """

    def __init__(self, sock: socket.socket, hosts: Sequence[str], fields: Mapping[str, Any], job_id: str) -> None:
        super().__init__(len(hosts))
        self.hosts = tuple(hosts)
        self.job_id = job_id
        self.fields = dict(fields)
        self._sock = sock

    def _launch(self) -> list[Channel]:
        with self._sock as sock:
            return [Channel(os.dup(sock.fileno()), os.dup(sock.fileno()), range(self.size))]

    def start_fields(self) -> dict[str, Any]:
        return self.fields

    def host_of(self, rank: int) -> str | None:
        return self.hosts[rank] or None

    def describe(self) -> str:
        return f"{self.size} node{'s' if self.size > 1 else ''} of the further job {self.job_id}".rstrip()

    def poll(self) -> int | None:
        return 0 if self.silent else None

    def kill(self) -> None:
        for channel in self.channels:
            if not channel.eof:
                with socket.socket(fileno=os.dup(channel.stdout_fd)) as sock:
                    sock.shutdown(socket.SHUT_RDWR)


class Arrivals:
    """Opens the door, and tells of those that have come in.

    `came` is given the token that a relay names, and its group; it returns whether that is let in. `closed` is told
    why, when nobody can come in any more. addr: where the door listens.
    """

    def __init__(
        self,
        loop: SessionLoop,
        join_path: str,
        addr: str,
        came: Callable[[str, ArrivedGroup], bool],
        closed: Callable[[str], object],
    ) -> None:
        self.join_path = join_path
        self._loop, self._came, self._closed = loop, came, closed
        self.listening = threading.Event()  # a job that starts earlier would find nobody
        self._name = secrets.token_hex(6)
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        order = {"name": self._name, "join_path": join_path, "addr": addr, "fd": theirs.fileno()}
        try:
            with theirs:
                self._door = subprocess.Popen(
                    [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )  # fmt: skip
                assert self._door.stdin is not None
                self._door.stdin.write(json.dumps(order).encode() + b"\n")  # stdin stays open: its end is ours
                self._door.stdin.flush()
        except OSError:
            self._ours.close()
            raise
        self._ours.setblocking(False)
        loop.watch(self._ours.fileno(), self._hear)

    def _hear(self) -> None:
        try:
            data, fds, _flags, _address = socket.recv_fds(self._ours, MAX_WORDS, 1, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        socks = [socket.socket(fileno=fd) for fd in fds]
        if not data:
            self.close()
            self._closed("the door for further nodes has ended")
            return
        said = json.loads(data)
        if said == LISTENING:
            self.listening.set()
        elif "why" in said:
            self._closed(str(said["why"]))
        for sock in socks:
            try:
                group = ArrivedGroup(sock, [str(h) for h in said["hosts"]], said["fields"], str(said["job_id"]))
                token = str(said["token"])
            except (ValueError, KeyError, TypeError):
                sock.close()
                continue
            if not self._came(token, group):
                sock.close()

    def close(self) -> None:
        """Nobody comes in any more; what was said last to those who are in goes out first."""
        if self._ours.fileno() < 0:
            return
        self._loop.unwatch(self._ours.fileno())
        self._ours.close()
        assert self._door.stdin is not None
        self._door.stdin.close()
        try:
            self._door.wait(DOOR_END_S)
        except subprocess.TimeoutExpired:
            self._door.kill()
            self._door.wait()
        remove_join_file(self.join_path, self._name)


def main() -> NoReturn:
    """The door. Its order is the first line of stdin, whose end is its own."""
    from hpc.core.node.process import set_name
    from hpc.launchers.door import open_door
    from hpc.launchers.joinfile import JoinFileError

    set_name("hpc-door")
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)  # they may come to all processes of a job, and are for hpc-launch
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(message)s")
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        order: dict[str, Any] = json.loads(stdin.readline())
    owner = socket.socket(fileno=int(order["fd"]))

    def connect(wishes: dict[str, object]) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(owner, [json.dumps(wishes).encode()], [theirs.fileno()])
        return ours

    try:
        door = open_door(order["name"], connect, order["addr"], order["join_path"])
    except (JoinFileError, OSError) as error:
        owner.send(json.dumps({"why": f"no further node can come in: {error}"}).encode())
        sys.exit(1)
    owner.send(json.dumps(LISTENING).encode())
    door.reactor.add_reader(0, lambda: door.leave() if not os.read(0, 1) else None)
    door.reactor.run()
    sys.exit(0)
