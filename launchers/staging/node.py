"""What runs on each node to bring an environment to its own disk: a check, one copy of the archive, unpacking.

It needs the standard library alone, and Python starts it without looking for packages (-I -S). So a node reads nothing
of the environment from the shared file system while it fetches it. It prints one JSON object a line: the host, whether
all is well, and what is wrong.

    check FOLDER BYTES    make the folder (0700) on this node's disk, with room for so much
    unpack FOLDER DIGEST  what was put there as `archive.tar`, if it is the archive of this digest, for this place
    clean FOLDER          take it away
    root ORDER            the first node of a tree of copies, with a JSON object of what to do; speaks for all of them
    leaf JOIN             any other one: JOIN is the file that says where the root listens

The tree is for schedulers that copy no files. The root alone reads the shared file system. Every other node gets the
bytes from a node that has them, and passes them on while they come. Connections are proven from both ends by a token
that only this user can read. What comes is compared with the digest of the archive before it is unpacked.
Rejected: the runtime's own connections, which need the runtime: it is to start from the copy.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import IO, Any

ARCHIVE = "archive.tar"
FACTS = "hpc-stage.json"
#: File systems that several machines see. What lies there is on no node's own disk.
SHARED = re.compile(
    r"nfs4?|lustre|gpfs|beegfs(_nodev)?|ceph|cifs|smb3|afs|panfs|pvfs2|wekafs|vast|9p|"
    r"fuse\.(sshfs|ceph.*|gluster.*|gcsfuse|s3fs|juicefs|lfs)"
)
#: Said of bytes that came otherwise than they were packed.
NOT_THE_ARCHIVE = "what came is not the archive"
FANOUT = 2
CHUNK = 1 << 20
JOIN_S = 60.0  # the join file, and then all nodes, must come within this time
SILENT_S = 600.0  # a node that says nothing for so long is given up
NONCE = 16
DIGEST = 32


class Trouble(Exception):
    """This node cannot have the environment; the text says why, and maybe what to do."""


# ---------------------------------------------------------------- one node


def check(folder: str, need: int) -> None:
    """Make the folder where the environment goes, on a disk of this node that has room for so many bytes."""
    parent = os.path.dirname(folder)
    if not os.path.isdir(parent):
        raise Trouble(f"there is no folder {parent} on this node")
    kind = file_system(parent)
    if SHARED.fullmatch(kind):
        raise Trouble(f"{parent} is on {kind}, which is no disk of this node's own")
    free = os.statvfs(parent)
    there = free.f_bavail * free.f_frsize
    if there < need:
        raise Trouble(f"{parent} has {size_text(there)} free, and the environment needs {size_text(need)}")
    try:
        os.mkdir(folder, 0o700)
        os.chmod(folder, 0o700)
    except FileExistsError:
        raise Trouble(f"{folder} is there already: do nodes share {parent}?") from None
    except OSError as error:
        raise Trouble(f"{folder} cannot be made: {error.strerror}") from None


def file_system(path: str, mounts: str = "/proc/self/mountinfo") -> str:
    """The kind of file system that a path is on, "" where that cannot be told."""
    real, best, kind = os.path.realpath(path), "", ""
    try:
        with open(mounts, encoding="utf-8", errors="replace") as file:
            for line in file:
                before, _, after = line.partition(" - ")
                point = before.split()[4].replace("\\040", " ")
                inside = real == point or real.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best):
                    best, kind = point, after.split()[0]
    except (OSError, IndexError):
        return ""
    return kind


def size_text(size: float) -> str:
    """1.2 GB, 340 MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def unpack(folder: str) -> None:
    """Unpack the archive and make what is in it work from here; then try its Python."""
    archive = os.path.join(folder, ARCHIVE)
    tar = ["tar", "-xf", archive, "-C", folder, "--no-same-owner"]
    done = subprocess.run(tar, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Trouble(f"the archive cannot be unpacked: {last_line(done.stderr)}")
    os.unlink(archive)
    with open(os.path.join(folder, FACTS), encoding="utf-8") as file:
        facts = json.load(file)
    python = os.path.join(folder, facts["python"])
    if facts.get("unpack"):
        command = [python, os.path.join(folder, facts["unpack"])]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Trouble(f"{facts['unpack']} failed: {last_line(done.stderr)}")
    relocate(folder, facts["text"], facts["prefixes"])
    try:
        done = subprocess.run([python, "-I", "-c", "import json"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise Trouble(f"its Python does not start from here: {error.strerror}: {os.path.realpath(python)}") from None
    if done.returncode:
        raise Trouble(f"its Python does not start from here: {last_line(done.stderr)}")


def unpack_what_came(folder: str, digest: str) -> None:
    """The same of an archive that somebody else has copied, once it is known to be the one that was meant."""
    compare(digest_of(os.path.join(folder, ARCHIVE)), digest)
    unpack(folder)


def relocate(folder: str, files: list[str], prefixes: dict[str, str]) -> None:
    """In these text files, put the new places for the old ones: `prefixes` has old folders and their names here."""
    old = sorted(prefixes, key=len, reverse=True)
    pattern = re.compile(b"(%s)(?![^/\\s\"':;,)])" % b"|".join(re.escape(os.fsencode(each)) for each in old))
    new = {os.fsencode(each): os.fsencode(os.path.join(folder, prefixes[each])) for each in old}
    for name in files:
        path = os.path.join(folder, name)
        with open(path, "rb") as file:
            before = file.read()
        after = pattern.sub(lambda found: new[found.group(1)], before)
        if after != before:
            with open(path, "r+b") as file:  # the same file with the same mode
                file.write(after)
                file.truncate()


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason was given")


def clean(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------- the tree


class Spool:
    """The archive as a file that grows, and is read by several at once while it does."""

    def __init__(self, path: str, size: int) -> None:
        self.size, self.have, self.broken = size, 0, False
        self.grown = threading.Condition()
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)  # it is read on once it has no name any more

    def add(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.fd, rest) :]
        with self.grown:
            self.have += len(data)
            self.grown.notify_all()

    def fail(self) -> None:
        with self.grown:
            self.broken = True
            self.grown.notify_all()

    def _beyond(self, at: int) -> int:
        """How much there is, once that is more than `at`; `at` itself when no more comes."""
        with self.grown:
            self.grown.wait_for(lambda: self.have > at or self.broken)
            return at if self.broken else self.have

    def send(self, sock: socket.socket) -> None:
        """All of it, as it comes."""
        at = 0
        while at < self.size:
            end = self._beyond(at)
            if end == at:
                return
            while at < end:
                data = os.pread(self.fd, min(CHUNK, end - at), at)
                sock.sendall(data)
                at += len(data)


def take(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise OSError("the other end has gone")
        data += more
    return data


def sign(token: bytes, *parts: bytes) -> bytes:
    return hmac.new(token, b"".join(parts), hashlib.sha256).digest()


def meet(sock: socket.socket, token: bytes) -> None:
    """As the one that was called: let in who knows the token. OSError for anybody else."""
    ours = os.urandom(NONCE)
    sock.sendall(ours)
    theirs, proof = take(sock, NONCE), take(sock, DIGEST)
    if not hmac.compare_digest(proof, sign(token, b"caller", ours, theirs)):
        raise OSError("a stranger")
    sock.sendall(sign(token, b"called", theirs, ours))


def call(addr: str, port: int, token: bytes) -> socket.socket:
    """Connect to a node of the tree; OSError where it is not one."""
    sock = socket.create_connection((addr, port), timeout=JOIN_S)
    theirs, ours = take(sock, NONCE), os.urandom(NONCE)
    sock.sendall(ours + sign(token, b"caller", theirs, ours))
    if not hmac.compare_digest(take(sock, DIGEST), sign(token, b"called", ours, theirs)):
        raise OSError("a stranger answered")
    sock.settimeout(SILENT_S)
    return sock


class Server:
    """Listens; `welcome` is run in a thread of its own for each connection that knows the token."""

    def __init__(self, addr: str, token: bytes, welcome: Callable[[socket.socket], object]) -> None:
        self.token, self.welcome = token, welcome
        self.listener = socket.create_server((addr, 0), backlog=512)
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(sock,), daemon=True).start()

    def _one(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError, ValueError):
            sock.settimeout(JOIN_S)
            meet(sock, self.token)
            sock.settimeout(SILENT_S)
            self.welcome(sock)


class Peer:
    """A leaf, as the root knows it: JSON objects a line both ways."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.lines = sock, sock.makefile("rb")
        hello = self.hear()
        self.host, self.addr, self.port = str(hello["host"]), sock.getpeername()[0], int(hello["port"])
        self.why = ""

    def hear(self) -> dict[str, Any]:
        line = self.lines.readline()
        if not line:
            raise OSError("it has gone")
        return dict(json.loads(line))

    def say(self, **message: Any) -> None:
        self.sock.sendall(json.dumps(message).encode() + b"\n")

    def ask(self, **message: Any) -> None:
        """Have it do something; `why` says what went wrong."""
        try:
            self.say(**message)
            self.why = str(self.hear()["why"])
        except (OSError, ValueError) as error:
            self.why = f"it did not answer: {error}"


class Root:
    """The first node. order: archive, size, digest, folder, need, nodes, addr, join (the path of the file)."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order, self.token = order, os.urandom(DIGEST)
        self.peers: list[Peer] = []
        self.came = threading.Condition()
        self.spool: Spool | None = None
        self.ready = threading.Event()
        self.over = threading.Event()
        self.server = Server(order["addr"], self.token, self._welcome)

    def run(self) -> list[tuple[str, str]]:
        """Each host, and what is wrong there ("" for nothing)."""
        folder, here = self.order["folder"], os.uname().nodename
        write_private(self.order["join"], {
            "addr": self.order["addr"], "port": self.server.port, "token": self.token.hex(),
        })  # fmt: skip
        try:
            with self.came:
                self.came.wait_for(lambda: len(self.peers) >= self.order["nodes"] - 1, JOIN_S)
            missing = self.order["nodes"] - 1 - len(self.peers)
            if missing:
                return [(here, f"{missing} of {self.order['nodes']} nodes did not come within {JOIN_S:g} s")]
            need = self.order["need"]
            found = self._all(here, lambda: check(folder, need), op="check", folder=folder, need=need)
            made = not found[0][1]
            if not any(why for _, why in found):
                found = self._copy(here)
            keep = not any(why for _, why in found)
            for peer in self.peers:
                with contextlib.suppress(OSError):
                    peer.say(op="end", keep=keep)
            if made and not keep:
                clean(folder)
            return found
        finally:
            self.over.set()
            with contextlib.suppress(OSError):
                os.unlink(self.order["join"])

    def _copy(self, here: str) -> list[tuple[str, str]]:
        folder = self.order["folder"]
        self.spool = Spool(os.path.join(folder, ARCHIVE), self.order["size"])
        self.ready.set()
        places = [(self.order["addr"], self.server.port), *((peer.addr, peer.port) for peer in self.peers)]
        parents = {peer: places[rank // FANOUT] for rank, peer in enumerate(self.peers)}

        def own() -> None:
            assert self.spool is not None
            read_into(self.spool, self.order["archive"], self.order["digest"])
            unpack(folder)

        return self._all(
            here, own, parents, op="fetch", folder=folder, size=self.order["size"], digest=self.order["digest"]
        )  # fmt: skip

    def _all(
        self,
        here: str,
        own: Callable[[], None],
        parents: dict[Peer, tuple[str, int]] | None = None,
        **message: Any,
    ) -> list[tuple[str, str]]:
        """Have every node do the same at once, this one too."""
        threads = []
        for peer in self.peers:
            more = {"parent": parents[peer]} if parents else {}
            threads.append(threading.Thread(target=peer.ask, kwargs={**message, **more}, daemon=True))
            threads[-1].start()
        why = tried(own)
        for thread in threads:
            thread.join()
        return [(here, why), *((peer.host, peer.why) for peer in self.peers)]

    def _welcome(self, sock: socket.socket) -> None:
        kind = take(sock, 1)
        if kind == b"D":
            self.ready.wait()
            assert self.spool is not None
            self.spool.send(sock)
            return
        peer = Peer(sock)
        with self.came:
            self.peers.append(peer)
            self.came.notify_all()
        self.over.wait()


def read_into(spool: Spool, path: str, digest: str) -> None:
    """The one time that the archive is read from the shared file system."""
    seen = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            while data := _part_of(file, path):
                seen.update(data)
                spool.add(data)
    except BaseException:
        spool.fail()
        raise
    if spool.have != spool.size:
        spool.fail()
        raise Trouble(f"{path} has {spool.have} bytes, not {spool.size}")
    compare(seen.hexdigest(), digest)


def _part_of(file: IO[bytes], path: str) -> bytes:
    try:
        return file.read(CHUNK)
    except OSError as error:
        raise Trouble(f"{path} cannot be read: {error.strerror}") from None


def compare(seen: str, digest: str) -> None:
    if seen != digest:
        raise Trouble(NOT_THE_ARCHIVE)


def digest_of(path: str) -> str:
    seen = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(CHUNK):
            seen.update(data)
    return seen.hexdigest()


def tried(own: Callable[[], object]) -> str:
    """What went wrong, "" for nothing."""
    try:
        own()
    except Trouble as trouble:
        return str(trouble)
    except OSError as error:
        return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    return ""


def write_private(path: str, content: dict[str, Any]) -> None:
    fd = os.open(f"{path}.part", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(content, file)
    os.rename(f"{path}.part", path)


def leaf(join: str) -> int:
    """Any node but the first, until all have what they need, or one of them cannot."""
    end = time.monotonic() + JOIN_S
    while not os.path.exists(join):
        if time.monotonic() > end:
            return 1
        time.sleep(0.02)
    with open(join, encoding="utf-8") as file:
        where = json.load(file)
    token = bytes.fromhex(where["token"])
    spools: list[Spool] = []
    ready = threading.Event()

    def welcome(sock: socket.socket) -> None:
        take(sock, 1)
        ready.wait()
        spools[0].send(sock)

    server = Server("", token, welcome)
    sock = call(where["addr"], where["port"], token)
    sock.sendall(b"C" + json.dumps({"host": os.uname().nodename, "port": server.port}).encode() + b"\n")
    folder, keep = "", False
    try:
        for line in sock.makefile("rb"):
            order = json.loads(line)
            if order["op"] == "end":
                keep = bool(order["keep"])
                return 0
            if order["op"] == "check":
                why = tried(partial(check, order["folder"], order["need"]))
                folder = "" if why else order["folder"]
            else:
                why = tried(partial(fetch, order, token, spools, ready))
            sock.sendall(json.dumps({"why": why}).encode() + b"\n")
        return 1
    finally:
        if folder and not keep:
            clean(folder)


def fetch(order: dict[str, Any], token: bytes, spools: list[Spool], ready: threading.Event) -> None:
    """The archive from another node, passed on as it comes; compared; unpacked."""
    spool = Spool(os.path.join(order["folder"], ARCHIVE), order["size"])
    spools.append(spool)
    ready.set()
    seen = hashlib.sha256()
    try:
        addr, port = order["parent"]
        with call(addr, port, token) as parent:
            parent.sendall(b"D")
            while spool.have < spool.size:
                data = parent.recv(min(CHUNK, spool.size - spool.have))
                if not data:
                    raise Trouble("the node that it comes from has gone")
                seen.update(data)
                spool.add(data)
    except BaseException:
        spool.fail()
        raise
    compare(seen.hexdigest(), order["digest"])
    unpack(order["folder"])


def stop(_signum: int, _frame: object) -> None:
    sys.exit(1)


def main(argv: list[str]) -> int:
    """The program; the exit code is 0 where all is well."""
    signal.signal(signal.SIGTERM, stop)
    if argv[0] == "leaf":
        return leaf(argv[1])
    if argv[0] == "root":
        order = json.loads(argv[1])
        try:
            found = Root(order).run()
        except SystemExit:
            clean(order["folder"])
            raise
    else:
        folder = argv[1]
        work = {
            "check": lambda: check(folder, int(argv[2])),
            "unpack": lambda: unpack_what_came(folder, argv[2]),
            "clean": lambda: clean(folder),
        }[argv[0]]
        found = [(os.uname().nodename, tried(work))]
    for host, why in found:
        print(json.dumps({"host": host, "why": why}), flush=True)
    return int(any(why for _, why in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
