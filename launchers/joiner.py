"""The other end of the door: a node on this machine for a session that was begun on another.

The process starts a supervisor, as a launcher would, and passes on what it and whoever drives the session say to each
other. It ends with the node; the node ends with it, with the session, and when nothing was heard from there for 30 s.

As a program (`main`) it is one rank of a group whose nodes dial in (dial_in.py). The join file is named on the command
line, and may come later than this process.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from hpc.core.net.curve import AllowList
from hpc.core.net.links import Links
from hpc.core.net.reactor import Reactor
from hpc.core.node.bootstrap import CommandDecoder, Noise, ReportDecoder
from hpc.core.node.process import redirect, set_name
from hpc.launchers.door import ATTACH, DATA, DOOR_NODE, END, JOINER_NODES, PING, PING_S, SILENT_S
from hpc.launchers.joinfile import JoinFile, JoinFileError, await_join_file, parse_join
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.node_group import HERE, Surroundings

READ_BYTES = 1 << 16
LAST_WORDS_S = 2.0
STOP_TIMEOUT_S = 20.0
FLUSH_S = 0.05
FILE_S = 60.0
DESERTED = 3

Tell = Callable[[dict[str, Any]], None]


class Joiner:
    """Passes on what a supervisor here and the launcher there say. `tell` hears once how the start went."""

    def __init__(
        self,
        join: JoinFile,
        wishes: Mapping[str, Any],
        tell: Tell,
        timeout_s: float,
        rank: int = 0,
        *,
        apart: bool = False,
        owned: str = "",
    ) -> None:
        self.join = join
        self.rank = rank
        self.tell: Tell | None = tell
        self.group = LocalGroup(1, fork=True, first_rank=rank, apart=apart, owned=owned)
        self.group.start()  # before ZeroMQ has threads
        (self.channel,) = self.group.channels
        self.reactor = Reactor()
        self.reports, self.commands = ReportDecoder(), CommandDecoder()
        self.node = 0
        self.dir = ""
        self.why = ""
        self.deserted = False  # nothing is heard any more
        self.lines: list[str] = []
        self.heard = self.reactor.now()
        self.silent_s = timeout_s  # until the first answer
        self.links = Links(
            self.reactor, node=JOINER_NODES + secrets.randbelow(1 << 30), keys=join.keys, allow=AllowList(),
            bind_addr=None, deliver=self._deliver,
        )  # fmt: skip
        self.links.dial(DOOR_NODE, join.endpoint, join.server_key)
        self.links.send(DOOR_NODE, ATTACH + json.dumps(dict(wishes)).encode())
        self.reactor.add_reader(self.channel.stdout_fd, self._from_supervisor)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._signals: list[int] = []
        self.reactor.add_reader(self._wake_read, self._on_signal)
        self.reactor.call_later(PING_S, self._tick)

    def run(self, ignored: Sequence[signal.Signals] = ()) -> int:
        """Until the node has ended; 0 when it was told to. ignored: signals that do not end it."""
        set_name("hpc-joiner")
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, lambda number, _frame: self._signals.append(number))
        for signum in ignored:
            signal.signal(signum, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self.reactor.run()
        signal.set_wakeup_fd(-1)
        self.links.close()
        failed = self.tell is not None
        self._tell({"ok": False, "why": "\n".join([self.why or "the node ended", *self.lines])})
        return 1 if failed else 0

    def _tell(self, news: dict[str, Any]) -> None:
        tell, self.tell = self.tell, None
        if tell is not None:
            tell(news)

    # -------------------------------------------------------------- from there

    def _deliver(self, _node: int, body: bytes | memoryview) -> None:
        self.heard, self.silent_s = self.reactor.now(), SILENT_S
        kind, data = bytes(body[:1]), bytes(body[1:])
        if kind == DATA:
            for message in self.commands.feed(data):
                if message["op"] == "start":
                    self.node = int(message["first_node"]) + self.rank
                elif message["op"] in ("stop", "refused"):
                    self.why = self.why or str(message.get("why", ""))
                    if message["op"] == "refused":
                        self._end(self.why)
            self.channel.queue(data)
        elif kind == END:
            self._end("the session closed the connection")

    def _end(self, why: str) -> None:
        """End of file for the supervisor: it ends the node, and then its stream ends."""
        self.why = self.why or why
        self.channel.close_stdin()
        self.reactor.call_later(STOP_TIMEOUT_S, self._give_up)

    def _give_up(self) -> None:
        self.group.kill()
        self.reactor.call_later(LAST_WORDS_S, self.reactor.stop)

    # -------------------------------------------------------------- from here

    def _from_supervisor(self) -> None:
        try:
            data = os.read(self.channel.stdout_fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.reactor.remove(self.channel.stdout_fd)
            self.links.send(DOOR_NODE, END)
            self._leave(self.reactor.now() + LAST_WORDS_S)
            return
        self.links.send(DOOR_NODE, DATA + data)
        for item in self.reports.feed(data):
            if isinstance(item, Noise):
                self.lines = [*self.lines[-19:], item.text]
            elif item.message["op"] == "hello":
                self.dir = str(item.message.get("dir", ""))
            elif item.message["op"] == "ready":
                row = {"node": self.node, "dir": self.dir, "pid": os.getpid()}
                self._tell({"ok": True, "session": self.join.session, **row})
            elif item.message["op"] in ("error", "exit"):
                message = item.message
                self.why = self.why or str(message.get("why") or f"its {message.get('what')} ended")
                self.lines += [str(line) for line in message.get("tail", [])]

    def _leave(self, deadline: float) -> None:
        """Once the last words have arrived, or after a while."""
        if (self.group.poll() is not None and not self.links.pending_bytes(DOOR_NODE)) or self.reactor.now() > deadline:
            self.reactor.stop()
        else:
            self.reactor.call_later(FLUSH_S, lambda: self._leave(deadline))

    def _on_signal(self) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass
        if self._signals:
            self._end(signal.Signals(self._signals.pop()).name)

    def _tick(self) -> None:
        now = self.reactor.now()
        if now - self.heard > self.silent_s:
            self.deserted = True
            self._end(
                f"nothing was heard from {self.join.endpoint} for {now - self.heard:.0f} s: is the session there, the "
                "join file of now, and the way free of firewalls?"
            )
            self.heard = now + STOP_TIMEOUT_S
        if self.silent_s == SILENT_S:
            self.links.send(DOOR_NODE, PING)
        self.channel.flush()
        self.reactor.call_later(PING_S, self._tick)


def join_session(
    join: JoinFile, wishes: Mapping[str, Any], tell: Tell, timeout_s: float, *, quiet: bool = False, rank: int = 0
) -> int:
    """Be a node of the session until it ends; returns an exit code. quiet: keep nothing of the terminal. rank: of the
    machine, where those that may come are named."""
    if quiet:
        redirect(os.devnull, os.devnull)
    _leave_session()
    return Joiner(join, wishes, tell, timeout_s, rank).run()


def _leave_session() -> None:
    """This process may have been started within another session, which must not be taken for the new node's."""
    for name in ("HPC_SESSION_DIR", "HPC_ADDRESS", "HPC_JOB_ID", "HPC_JOB_RUNTIME_ENV"):
        os.environ.pop(name, None)
    sys.stdout.flush()


def join_group(
    path: str,
    rank: int,
    *,
    file_s: float,
    answer_s: float,
    ignored: Sequence[signal.Signals] = (),
    apart: bool = False,
    owned: str = "",
) -> int:
    """Be the node `rank` of a group until it ends. Returns 0 when it was told to end, 1 when it never was part of the
    session. When nothing was heard from there any more, it is `DESERTED`.

    path: of the join file, or the number of an open descriptor that its text can be read from. file_s: how long the
    file may take to be there. answer_s: how long the first answer may take. apart: the node
    is in a session of its own; where this process is killed with all of its session, the node still clears up.
    """
    told: list[dict[str, Any]] = []
    try:
        join = _handed_over(int(path)) if path.isdigit() else await_join_file(path, file_s)
    except JoinFileError as error:
        print(f"hpc: {error}", file=sys.stderr, flush=True)
        return 1
    _leave_session()
    joiner = Joiner(join, {"rank": rank}, told.append, answer_s, rank, apart=apart, owned=owned)
    code = joiner.run(ignored)
    for news in told:
        if not news["ok"]:
            print(f"hpc: this node was no part of the session: {news['why']}", file=sys.stderr, flush=True)
    return DESERTED if joiner.deserted else code


def _handed_over(fd: int) -> JoinFile:
    """The join file's text, from a descriptor that is read once."""
    with os.fdopen(fd) as file:
        return parse_join(file.read(), "what was handed over")


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """[OWNED] FILE RANK: be that rank of the group with this join file (or descriptor); OWNED goes with the node."""
    *owned, path, rank = sys.argv[1:] if argv is None else argv
    sys.exit(join_group(path, int(rank), file_s=FILE_S, answer_s=SILENT_S, apart=True, owned="".join(owned)))


#: Empty entries leave sys.path, as in a node's own program.
_PROGRAM = "import sys; sys.path[:]=[p for p in sys.path if p]; from hpc.launchers.joiner import main; main()"


def joiner_command(join_path: str, rank: int | None, around: Surroundings = HERE) -> list[str]:
    """What is to be run, on any machine that sees the join file, to be that rank of its group; None: a rank follows."""
    owned = [around.owned] if around.owned else []
    return around.command(_PROGRAM, *owned, join_path, *([] if rank is None else [str(rank)]))


#: The variables by which a scheduler that gives each process variables of its own hands over the join file's text, and
#: the key to a carried folder.
JOIN_VARIABLE, KEY_VARIABLE = "HPC_JOIN", "HPC_CARRIED_KEY"
#: Takes them out of the environment, where they would stay to be read as long as the process lives. The words that have
#: their names become the descriptors from which they can be read.
_TAKES_OVER = """\
import os, sys
folder, *words = sys.argv[1:]
for name in ("HPC_JOIN", "HPC_CARRIED_KEY"):
    text = os.environ.pop(name, None)
    if text is not None:
        fd, end = os.pipe()
        os.write(end, text.encode())
        os.close(end)
        os.set_inheritable(fd, True)
        words = [str(fd) if word == name else word for word in words]
if os.path.isdir(folder):
    os.chdir(folder)
os.execv(words[0], words)
"""


def handed_over_command(cwd: str, rank: int, around: Sequence[str] = ()) -> list[str]:
    """What is to be run, in that folder where there is one, with the text of the join file in `JOIN_VARIABLE`. around:
    a command that is given the joiner's as its last words."""
    joiner = [sys.executable, "-c", _PROGRAM, JOIN_VARIABLE, str(rank)]
    return [sys.executable, "-I", "-S", "-c", _TAKES_OVER, cwd, *around, *joiner]
