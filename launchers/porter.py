"""The end of a carried folder where the job was submitted: a process beside the command that follows the job.

It listens on the network, and answers whoever shows the key of its join file. It says which files there are and what is
in them, and takes others. Each question is whole in itself and may be asked twice. So a porter that is started again
later (`hpc attach`) goes on where the one before ended. Its keys and its port are in a file of the folder, mode 0600.

A process of its own, because ZeroMQ has threads. It ends with the stdin that its starter holds; the job's first
process may have some last words even then.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import zmq

from hpc.core.net.curve import AllowList, KeyPair, ZapHandler, guard_server
from hpc.core.net.reactor import Reactor
from hpc.core.node.address import InterfaceError, node_address
from hpc.launchers.carried import CHUNK_BYTES, OUTPUT, Writing, append, forget, scan, version_of, within
from hpc.launchers.joinfile import JoinFile, JoinFileError, parse_join

KEPT = ".porter"  # in the job's folder
LAST_WORDS_S, LOOK_S = 5.0, 0.05
_PROGRAM = "import sys; sys.path[:]=[p for p in sys.path if p]; from hpc.launchers.porter import main; main()"

Answer = tuple[dict[str, Any], bytes]


class Shelf:
    """The folder itself. output: where the job's output is to go, if not into it."""

    def __init__(self, folder: Path, output: Path | None = None) -> None:
        self.folder = folder
        self.output = output

    def path(self, name: str) -> Path:
        return self.output if name == OUTPUT and self.output is not None else within(self.folder, name)

    def answer(self, asked: dict[str, Any], data: bytes) -> Answer:
        """Do what is asked. ValueError, KeyError, TypeError or OSError where that is impossible."""
        op = asked["op"]
        if op == "end":
            return {}, b""
        if op == "list":
            return {"files": scan(self.folder)}, b""
        name = str(asked["name"])
        path = self.path(name)
        if op == "get":
            return self._get(path, int(asked["offset"]))
        if op == "put":
            writing = Writing(path)
            version = writing.piece(int(asked["offset"]), data, last=bool(asked["last"]), mode=int(asked["mode"]))
            return {"version": version}, b""
        if op == "append":
            return {"size": append(path, int(asked["offset"]), data)}, b""
        if op == "drop":
            forget(self.folder, name)
            return {}, b""
        raise ValueError(f"unknown: {op!r}")

    def _get(self, path: Path, offset: int) -> Answer:
        version = version_of(path)
        if version is None:
            return {"version": None}, b""
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            file.seek(offset)
            return {"version": version, "mode": mode}, file.read(CHUNK_BYTES)


class Porter:
    """The shelf on the network."""

    def __init__(self, shelf: Shelf, addr: str, port: int, keys: KeyPair, carrier_key: str) -> None:
        self.shelf = shelf
        self.asked = False
        self.told_all = False  # the job's first process has ended, and everything of it is here
        self.reactor = Reactor()
        self.context: zmq.Context[Any] = zmq.Context()
        self._zap = ZapHandler(self.context, self.reactor, AllowList({carrier_key: None}))
        self.socket: zmq.Socket[bytes] = self.context.socket(zmq.ROUTER)
        guard_server(self.socket, keys)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(f"tcp://{addr}:{port or '*'}")
        self.endpoint = str(self.socket.getsockopt_string(zmq.LAST_ENDPOINT)).rstrip("\0")
        self.reactor.add_zmq(self.socket, self._on_question)

    def _on_question(self) -> None:
        try:
            route, *frames = self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
        try:
            number, question, data = frames
            asked = json.loads(question)
            self.asked = True
            self.told_all |= asked["op"] == "end"
            said, more = self.shelf.answer(asked, data)
        except (ValueError, KeyError, TypeError, OSError) as error:
            if len(frames) != 3:
                return
            said, more = {"error": f"{type(error).__name__}: {error}"}, b""
        try:
            self.socket.send_multipart([route, number, json.dumps(said).encode(), more], zmq.NOBLOCK)
        except zmq.ZMQError:  # it has gone
            return
        self.reactor.touch(self.socket)

    def leave(self) -> None:
        """Nobody follows the job any more: end soon."""
        self.reactor.remove(0)
        self._end_when_told(self.reactor.now() + (LAST_WORDS_S if self.asked else 0.0))

    def _end_when_told(self, deadline: float) -> None:
        if self.told_all or self.reactor.now() >= deadline:
            self.reactor.call_later(LOOK_S, self.reactor.stop)  # its last answer is on the way
        else:
            self.reactor.call_later(LOOK_S, lambda: self._end_when_told(deadline))

    def close(self) -> None:
        self.reactor.remove_zmq(self.socket)
        self.socket.close(0)
        self._zap.close()
        self.context.term()
        self.reactor.close()


def keys_of(folder: Path) -> dict[str, Any]:
    """What an earlier porter of this folder has kept; new keys where there was none."""
    try:
        found: dict[str, Any] = json.loads((folder / KEPT).read_text())
        return found
    except (OSError, ValueError):
        server, carrier = KeyPair.make(), KeyPair.make()
        keys = {"public": server.public, "secret": server.secret}
        return {"server": keys, "carrier": {"public": carrier.public, "secret": carrier.secret}, "port": 0}


def keep(folder: Path, kept: dict[str, Any]) -> None:
    """For a later porter of this folder."""
    part = folder / f"{KEPT}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(kept, file)
    part.replace(folder / KEPT)


def main() -> NoReturn:
    """FOLDER OUTPUT INTERFACE: a porter until the end of stdin. Its join file's text is its first line of output."""
    from hpc.core.node.process import set_name

    folder, output, interface = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    set_name("hpc-porter")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(message)s")
    kept = keys_of(folder)
    server = KeyPair(**kept["server"])
    try:
        addr = node_address(wanted=interface or None, loopback=False, many_nodes=True).addr
        shelf = Shelf(folder, Path(output) if output else None)
        porter = Porter(shelf, addr, int(kept["port"]), server, kept["carrier"]["public"])
        port = int(porter.endpoint.rpartition(":")[2])
        keep(folder, {**kept, "port": port})
    except (OSError, InterfaceError, zmq.ZMQError) as error:
        print(f"no file of this job can be carried: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    join = JoinFile("carried", porter.endpoint, server.public, kept["carrier"]["public"], kept["carrier"]["secret"])
    print(join.text, flush=True)
    porter.reactor.add_reader(0, lambda: None if os.read(0, 1) else porter.leave())
    porter.reactor.run()
    porter.close()
    sys.exit(0)


class PorterProcess:
    """A porter of a job's folder. It ends when this is closed, and with this process."""

    def __init__(self, folder: Path, output: Path | None = None, interface: str | None = None) -> None:
        argv = [sys.executable, "-c", _PROGRAM, str(folder), str(output or ""), interface or ""]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None and self._process.stderr is not None
        said = self._process.stdout.readline()
        if not said:
            why = self._process.stderr.read().strip()
            self.close()
            raise JoinFileError(why or "the process that carries the job's files ended without a word")
        self.join = parse_join(said, "what a porter says")

    def close(self) -> None:
        """End it, when it has heard the last of a job that has ended."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(2 * LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
