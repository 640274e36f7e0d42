"""The end of a carried folder on a node: a process that keeps the folder like the porter's, and the job beside it.

    python -c "... carrier ..." KEY BASE NUMBER WHICH -- COMMAND...

KEY is a file with the text of the porter's join file, or a descriptor. The folder is BASE/NUMBER on this node's own
disk. The command runs when the folder has what the porter's has. WHICH is the number of this process of the job. In the
first all files go both ways; the others take what they need to come in, and say where they are.

A porter that does not answer is asked again: the job goes on, and what it has written waits. When the command has
ended, the rest is carried for a while. What could not be carried of the output is written to this process's own, which
the scheduler keeps.
Rejected: following changes by inotify (folders are small, and a look at them costs less than a millisecond).
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn

from hpc.launchers.carried import CHUNK_BYTES, FILES, LOGS, OUTPUT, Version, Writing, forget, scan, version_of, within
from hpc.launchers.joinfile import JoinFile, JoinFileError, parse_join

ANSWER_S = 10.0
LOOK_S, MOST_LOOK_S = 0.1, 0.5
OTHERS_LOOK_S = 2.0  # so seldom, in the end, those look that are not the job's first process
FIRST_S = 300.0  # so long the folder may take to come
LAST_S = 30.0  # so long what is left is carried after the end
PASSED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)
#: The variable that says to the job where the folder is.
CARRIED = "HPC_CARRIED"
#: The key's text, in the folder for the nodes that its first process starts.
KEY_FILE = ".key"
PROGRAM = "import sys; sys.path[:]=[p for p in sys.path if p]; from hpc.launchers.carrier import main; main()"

ALL = ("*",)
#: What a process that is not the job's first gives and takes.
OTHERS_GIVE = ("*/hosts-*",)
OTHERS_TAKE = ("*/join", "job.*", f"{FILES}/*")


class Silent(Exception):
    """The porter does not answer."""


class Asker:
    """Questions to a porter, one after the other."""

    def __init__(self, join: JoinFile, answer_s: float = ANSWER_S) -> None:
        self.join = join
        self.answer_s = answer_s
        self._number = 0
        self._socket: Any = None
        import zmq

        self._zmq = zmq
        self._context = zmq.Context()

    def ask(self, question: dict[str, Any], data: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """The answer; Silent where none comes. OSError for what the porter could not do."""
        zmq = self._zmq
        if self._socket is None:
            from hpc.core.net.curve import guard_client

            self._socket = self._context.socket(zmq.DEALER)
            self._socket.setsockopt(zmq.LINGER, 0)
            guard_client(self._socket, self.join.keys, self.join.server_key)
            self._socket.connect(self.join.endpoint)
        self._number += 1
        mark = str(self._number).encode()
        self._socket.send_multipart([mark, json.dumps(question).encode(), data])
        end = time.monotonic() + self.answer_s
        while self._socket.poll(max(0.0, end - time.monotonic()) * 1000):
            number, said, more = self._socket.recv_multipart()
            if number == mark:
                answer = json.loads(said)
                if "error" in answer:
                    raise OSError(answer["error"])
                return answer, more
        self.close()  # what it may still say is about nothing any more
        raise Silent

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close(0)
            self._socket = None


class Carrier:
    """One folder that is kept like the porter's. drops: what is removed here is removed there, too."""

    def __init__(
        self, asker: Asker, folder: Path, gives: Sequence[str] = ALL, takes: Sequence[str] = ALL, *, drops: bool = True
    ) -> None:
        self.asker = asker
        self.folder = folder
        self.gives, self.takes, self.drops = gives, takes, drops
        self.known: dict[str, tuple[Version, Version]] = {}  # as it was here and there when both were alike
        self.sent = dict.fromkeys(LOGS, 0)  # how much of a file that only grows is there

    def turn(self) -> bool:
        """Carry what has changed since the last turn; whether there was anything. Silent."""
        listed = self.asker.ask({"op": "list"})[0]["files"]
        there: dict[str, Version] = {name: (int(v[0]), int(v[1])) for name, v in listed.items()}
        here = scan(self.folder)
        moved = False
        for name in sorted({*here, *there, *self.known}):
            try:
                moved |= self._settle(name, here.get(name), there.get(name))
            except FileNotFoundError:  # gone in the meantime: the next turn sees that
                moved = True
        return moved

    def _settle(self, name: str, here: Version | None, there: Version | None) -> bool:
        gives = any(fnmatchcase(name, pattern) for pattern in self.gives)
        takes = any(fnmatchcase(name, pattern) for pattern in self.takes)
        known = self.known.get(name)
        if name in LOGS:
            return gives and here is not None and self._send_rest(name, here[1])
        if known is None:
            if here is not None and gives:
                return self._give(name)
            return there is not None and takes and self._take(name)
        if here is None or there is None:
            del self.known[name]
            if here is None and there is not None and self.drops:
                self.asker.ask({"op": "drop", "name": name})
            if there is None and here is not None:
                forget(self.folder, name)
            return True
        if here != known[0] and gives:
            return self._give(name)
        return there != known[1] and takes and self._take(name)

    def _send_rest(self, name: str, size: int) -> bool:
        moved = False
        with within(self.folder, name).open("rb") as file:
            while self.sent[name] < size:
                file.seek(self.sent[name])
                data = file.read(CHUNK_BYTES)
                question = {"op": "append", "name": name, "offset": self.sent[name]}
                size_there = int(self.asker.ask(question, data)[0]["size"])
                if size_there < self.sent[name]:  # somebody has cut it
                    self.sent[name] = size_there
                    continue
                self.sent[name] += len(data)
                moved = True
        return moved

    def _give(self, name: str) -> bool:
        path = within(self.folder, name)
        before = version_of(path)
        offset = 0
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            while True:
                data = file.read(CHUNK_BYTES)
                last = len(data) < CHUNK_BYTES
                question = {"op": "put", "name": name, "offset": offset, "last": last, "mode": mode}
                said, _ = self.asker.ask(question, data)
                offset += len(data)
                if last:
                    break
        if before is not None and said["version"] is not None:
            self.known[name] = (before, (int(said["version"][0]), int(said["version"][1])))
        return True

    def _take(self, name: str) -> bool:
        writing = Writing(within(self.folder, name))
        offset, first = 0, None
        while True:
            said, data = self.asker.ask({"op": "get", "name": name, "offset": offset})
            if said["version"] is None or (first is not None and said["version"] != first):
                writing.part.unlink(missing_ok=True)
                return True  # it was changed meanwhile: the next turn takes it
            first = said["version"]
            last = len(data) < CHUNK_BYTES
            here = writing.piece(offset, data, last=last, mode=int(said["mode"]))
            offset += len(data)
            if last:
                break
        if here is not None:
            self.known[name] = (here, (int(first[0]), int(first[1])))
        return True


def keep_alike(carrier: Carrier, ready_fd: int, end_fd: int) -> int:
    """What the child process does: turns until `end_fd` ends, then the rest. 0 when all was carried.

    Says on `ready_fd` when the folder is here.
    """
    deadline: float | None = None
    ready = False
    wait_s = LOOK_S
    while True:
        try:
            moved = carrier.turn()
            if not moved and not ready:
                os.write(ready_fd, b"1")
                ready = True
            if not moved and deadline is not None:
                carrier.asker.ask({"op": "end"})
                return 0
            wait_s = LOOK_S if moved else min(MOST_LOOK_S if carrier.drops else OTHERS_LOOK_S, wait_s * 1.2)
        except Silent:
            moved = False
        except OSError as error:
            print(f"hpc: a file of the job could not be carried: {error}", file=sys.stderr, flush=True)
            moved = False
        if deadline is not None:
            if time.monotonic() > deadline:
                return 1
            time.sleep(0 if moved else LOOK_S)
        elif select.select([end_fd], [], [], 0 if moved else wait_s)[0]:
            if not carrier.drops:  # nothing of it is waited for
                return 0
            deadline = time.monotonic() + LAST_S


def carrier_command(key: str, folder: str, which: int) -> list[str]:
    """What carries that folder to another node, and runs there what follows these words, as that process of the job."""
    base, _, number = folder.rpartition("/")
    return [sys.executable, "-c", PROGRAM, key, base, number, str(which), "--"]


def key_in(folder: str) -> str:
    """The key's text, where a folder is carried. OSError."""
    return Path(folder, KEY_FILE).read_text()


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """See the text of this module."""
    words = list(sys.argv[1:] if argv is None else argv)
    key, base, number, which = words[:4]
    command = words[words.index("--") + 1 :]
    try:
        with open(int(key) if key.isdigit() else key) as file:
            if not key.isdigit():
                os.unlink(key)
            join = parse_join(file.read(), key)
        os.mkdir(base, 0o700)
    except FileExistsError:
        print(f"hpc: {base} is there: this job runs on this node already, and does not run twice", flush=True)
        sys.exit(0)
    except (OSError, JoinFileError) as error:
        sys.exit(f"hpc: what this job needs did not come with it: {error}")
    folder = Path(base, number)
    folder.mkdir(mode=0o700)
    (folder / FILES).mkdir(mode=0o700)
    os.environ[CARRIED] = str(folder)
    join.write(str(folder / KEY_FILE))
    try:
        sys.exit(run(join, folder, command, first=which == "1"))
    finally:
        shutil.rmtree(base, ignore_errors=True)


def run(join: JoinFile, folder: Path, command: Sequence[str], *, first: bool) -> int:
    """Run the command beside its folder; its exit code."""
    from hpc.core.node.process import fork_child

    for signum in PASSED:  # they come to all processes of the job: the command has its own
        signal.signal(signum, lambda *_: None)
    ready_read, ready_write = os.pipe()
    end_read, end_write = os.pipe()

    parent = os.getpid()

    def child() -> int:
        os.setsid()
        for signum in PASSED:
            signal.signal(signum, signal.SIG_IGN)
        os.close(end_write)
        more = () if first else (OTHERS_GIVE, OTHERS_TAKE)
        code = keep_alike(Carrier(Asker(join), folder, *more, drops=first), ready_write, end_read)
        if os.getppid() != parent:  # it was killed, and cannot clear up
            shutil.rmtree(folder.parent, ignore_errors=True)
        return code

    pid = fork_child(child, name="hpc-carrier", keep=(ready_write, end_read, end_write), death_signal=None)
    os.close(ready_write)
    os.close(end_read)
    if not select.select([ready_read], [], [], FIRST_S)[0] or not os.read(ready_read, 1):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        print(f"hpc: {join.endpoint}, where this job was submitted, does not answer: is it reached from here, and "
              "does the command that submitted the job still run?", file=sys.stderr, flush=True)  # fmt: skip
        return 1
    with (folder / OUTPUT).open("ab", buffering=0) as out:
        said = out if first else None
        # close_fds: what was handed over to the command goes on to it.
        with subprocess.Popen(
            list(command), cwd=folder / FILES, close_fds=False, stdout=said, stderr=said
        ) as process:  # fmt: skip
            code = process.wait()
    os.close(end_write)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) and first:
        shutil.copyfileobj((folder / OUTPUT).open("rb"), sys.stdout.buffer)
        sys.stdout.flush()
    return 128 - code if code < 0 else code
