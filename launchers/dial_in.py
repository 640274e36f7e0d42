"""A group of nodes that dial in: for schedulers that start processes elsewhere without a way to speak to them.

The first node is a process of this machine, as in `LocalGroup`. The others are started by the scheduler, or by `_call`,
as the program of joiner.py. They read the join file, which only this user can read. They come to the door (door.py), a
process beside this one. Each rank has a socket pair. The session speaks to one end as to the pipes of any supervisor.
The door connects the other end with the joiner that shows the key and names the rank. What the session says before a
node has dialed in waits in that socket.

A rank that has come and gone does not come again: its socket has ended, and with it the node.
Rejected: the supervisors' own sockets on the network: the keys of all nodes go over them, so they need CURVE. Rejected
too: the key in an environment or on a command line, which schedulers and ps show.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from hpc.core.node.address import InterfaceError, node_address
from hpc.core.node.bootstrap import Noise, Report
from hpc.launchers.joinfile import remove_join_file
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.node_group import HERE, Channel, NodeGroup, Surroundings

_DOOR_PROGRAM = "import sys; sys.path[:]=[p for p in sys.path if p]; from hpc.launchers.dial_in import main; main()"
_NO_MORE = b"\n"
DOOR_END_S = 2.0
LAST_WORDS = 12


class DialInGroup(NodeGroup):
    """`size` nodes: rank 0 on this machine, the others come by the join file `join_path`, in any order.

    fork, apart: as in `LocalGroup`. command: the program of the first node, instead of the usual one (tests).
    hosts: whose ranks are known by the names of their machines.
    A subclass may have a method `_call`, and a poll and a kill that add to these.
    """

    def __init__(
        self,
        size: int,
        join_path: str,
        *,
        fork: bool = False,
        apart: bool = False,
        command: Sequence[str] | None = None,
        hosts: Sequence[str] = (),
        around: Surroundings | None = None,
    ) -> None:
        super().__init__(size)
        self.join_path = join_path
        self._named = ",".join(hosts)
        self.last_words: deque[str] = deque(maxlen=LAST_WORDS)
        self._name = secrets.token_hex(6)
        self.around = around or HERE
        self._first = LocalGroup(1, fork=fork, share=1, apart=apart, command=command, around=self.around)
        self._door: subprocess.Popen[bytes] | None = None

    def _call(self) -> None:
        """Whatever makes the other nodes come; called once the door is being opened. OSError where it is impossible."""

    def describe(self) -> str:
        return f"{self.size} node{'s' if self.size > 1 else ''} that dial in"

    # -------------------------------------------------------------- what NodeGroup asks for

    def _launch(self) -> list[Channel]:
        addr = self._address() if self.size > 1 else ""
        self._first.start()  # before anything else is: it may be forked
        channels = list(self._first.channels)
        if self.size == 1:
            return channels
        pairs = {rank: socket.socketpair() for rank in range(1, self.size)}
        theirs = {rank: pair[1].fileno() for rank, pair in pairs.items()}
        order = {
            "name": self._name, "join_path": self.join_path, "fds": theirs,
            "addr": addr, "hosts": self._named,
        }  # fmt: skip
        try:
            self._door = subprocess.Popen(
                [sys.executable, "-c", _DOOR_PROGRAM],
                stdin=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=tuple(theirs.values()), start_new_session=True,
            )  # fmt: skip
            assert self._door.stdin is not None and self._door.stderr is not None
            self._door.stdin.write(json.dumps(order).encode() + b"\n")  # stdin stays open: its end is ours
            self._door.stdin.flush()
            with self._door.stderr as words:
                channels.insert(0, _DoorWords(self.last_words, os.dup(words.fileno())))
            for rank, (ours, _theirs) in pairs.items():
                channels.append(Channel(os.dup(ours.fileno()), os.dup(ours.fileno()), [rank]))
            self._call()
        except OSError:
            self.kill()
            raise
        finally:
            for pair in pairs.values():
                for end in pair:
                    end.close()
        return channels

    @property
    def silent(self) -> bool:
        return all(channel.eof for channel in self.channels if channel.ranks)

    def send(self, message: Mapping[str, Any]) -> None:
        super().send(message)
        if message["op"] == "stop" and "only" not in message and self._door is not None:
            assert self._door.stdin is not None
            with contextlib.suppress(OSError):  # it has ended: nobody can come
                self._door.stdin.write(_NO_MORE)
                self._door.stdin.flush()

    def _address(self) -> str:
        """Where the door listens. OSError where the interface that was asked for is not there."""
        try:
            return node_address(wanted=self.interface, loopback=False, many_nodes=True).addr
        except InterfaceError as error:
            raise OSError(str(error)) from None

    def poll(self) -> int | None:
        code = self._first.poll()
        if code is None or not self.silent:
            return None
        self._end_door()
        return code

    def kill(self) -> None:
        """The first node by force; the others end because their connection does."""
        self._first.kill()
        self._end_door()

    def close(self) -> None:
        super().close()
        self._end_door()

    def _end_door(self) -> None:
        """What its sockets still hold goes out first: a word that ends a node may be among it."""
        door, self._door = self._door, None
        if door is None:
            return
        assert door.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended by itself, with words of ours unread
            door.stdin.close()
        try:
            door.wait(DOOR_END_S)
        except subprocess.TimeoutExpired:
            door.kill()
            door.wait()
        remove_join_file(self.join_path, self._name)


class _DoorWords(Channel):
    """What the door says, in words for people. Its other direction leads nowhere."""

    def __init__(self, last_words: deque[str], stderr_fd: int) -> None:
        super().__init__(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), stderr_fd, ())
        self._last_words = last_words

    def read(self) -> list[Report | Noise]:
        found = super().read()
        self._last_words.extend(item.text.strip() for item in found if isinstance(item, Noise))
        return found


class _Ranks:
    """The sockets of the ranks that have not come yet."""

    def __init__(self, fds: Mapping[int, int]) -> None:
        self.waiting = {rank: socket.socket(fileno=fd) for rank, fd in fds.items()}

    def connect(self, wishes: dict[str, object]) -> socket.socket:
        """The socket of the rank that a joiner names, once."""
        rank = wishes.get("rank")
        if not isinstance(rank, int) or rank not in self.waiting:
            raise ValueError(f"no rank {rank!r} is waited for")
        return self.waiting.pop(rank)

    def close(self) -> None:
        """A rank that has not come by now is not waited for any more."""
        while self.waiting:
            self.waiting.popitem()[1].close()


def main() -> NoReturn:
    """The door of a group. Its order is the first line of stdin, and a second line lets nobody in any more. It ends
    with the end of stdin."""
    from hpc.core.node.process import set_name
    from hpc.launchers.door import open_door
    from hpc.launchers.joinfile import JoinFileError

    set_name("hpc-door")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(message)s")
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        order: dict[str, Any] = json.loads(stdin.readline())
    ranks = _Ranks({int(rank): int(fd) for rank, fd in order["fds"].items()})
    try:
        door = open_door(order["name"], ranks.connect, order["addr"], order["join_path"], order["hosts"])
    except (JoinFileError, OSError) as error:
        print(f"no node can come in: {error}", file=sys.stderr, flush=True)
        sys.exit(1)

    def on_stdin() -> None:
        ranks.close()
        if not os.read(0, len(_NO_MORE)):
            door.reactor.remove(0)
            door.leave()

    door.reactor.add_reader(0, on_stdin)
    door.reactor.run()
    sys.exit(0)
