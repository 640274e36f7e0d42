"""Ranks mode: a plain script once per rank, with torchrun's environment, under a node's supervisor.

Each rank leads a session and process group of its own, and gets SIGKILL when the supervisor ends. It writes to pipes
whose lines go up as `out` messages. PyTorch needs nothing but the environment: the GPUs of the node are visible to all
of its ranks, and LOCAL_RANK says which to take. Each runs on the CPUs next to its own.

A scheduler or an MPI launcher told *this* process about ranks. That is removed from the environment of all that a
supervisor starts (`without_ranks`). A supervisor is one task of a step, and an MPI, Lightning or DeepSpeed below would
believe to be that task. Three things are removed. They are the families in `RANK_PREFIXES` (PMI, PMIx, Open MPI, PALS,
Hydra, torchelastic) and the names in `RANK_NAMES` (RANK, MASTER_ADDR, ...). To these comes what the launcher says of
its schedulers (`Strip`). The job itself stays known.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from hpc.core.node.imports import SHARE
from hpc.core.node.process import fork_child, why_not_run
from hpc.core.node.reap import descendants, exit_code, signal_all
from hpc.core.node.spec import NodeSpec, Strip
from hpc.core.node.usage import memory_folders, oom_kills
from hpc.core.node.witness import Witness
from hpc.core.policy.fabric import NAME_LOOKUPS

READ_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 16  # a longer line goes up in pieces
TAIL_LINES = 50
TAIL_LINE_CHARS = 2000
#: The stream on which a rank says what it is at, beside 1 and 2.
WATCHED = 3
#: Of the file in which a rank says what it has raised, and of the text from it.
ERROR_FILE_BYTES, ERROR_CHARS = 1 << 20, 16_000

RANK_PREFIXES = (
    "PMI_",
    "PMI2_",
    "PMIX_",
    "OMPI_",
    "PALS_",
    "MPIEXEC_",
    "HYDRA_",
    "MV2_COMM_",
    "I_MPI_HYDRA_",
    "TORCHELASTIC_",
)
RANK_NAMES = frozenset(
    [
        "PMI2_RANK",
        "MPI_LOCALRANKID",
        "MPI_LOCALNRANKS",
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "NODE_RANK",
        "GROUP_RANK",
        "GROUP_WORLD_SIZE",
        "ROLE_NAME",
        "ROLE_RANK",
        "ROLE_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
    ]
)


class Order(msgspec.Struct, kw_only=True):
    """The launcher's `ranks` message.

    as_ranks: the processes are told, in torchrun's variables, which ranks they are. number: the one process's, in what
    is said of it, where that is no rank. watch: they tell what they are at, while they wait and when they are asked.
    restarts, max_restarts: how often all ranks were started before, and how often they may be.
    """

    argv: list[str]
    per_node: int = 1
    nodes: int = 1
    master_addr: str = ""
    master_port: int = 0
    cwd: str | None = None
    env: dict[str, str | None] = {}
    as_ranks: bool = True
    number: int | None = None
    watch: bool = False
    restarts: int = 0
    max_restarts: int = 0


def without_ranks(environ: Mapping[str, str], strip: Strip | None = None) -> dict[str, str]:
    """`environ` without what says which rank of whose step this is; `strip` is what the launcher adds to that."""
    strip = strip or Strip()
    prefixes, names = (*RANK_PREFIXES, *strip.prefixes), RANK_NAMES.union(strip.names)
    return {
        name: value
        for name, value in environ.items()
        if name in strip.kept or not (name.startswith(prefixes) or name in names)
    }


def rank_environment(base: Mapping[str, str], spec: NodeSpec, order: Order, local_rank: int) -> dict[str, str]:
    """The environment of a process: torchrun's, if it is a rank, over `base` and the launcher's `env` (None unsets)."""
    env = without_ranks(base)
    for name, value in order.env.items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    env.setdefault("PYTHONUNBUFFERED", "1")  # stdout is a pipe: lines should come when they are printed
    show_gpus(env, spec, order, local_rank)
    if not order.as_ranks:
        return env
    rank, world = spec.rank * order.per_node + local_rank, order.nodes * order.per_node
    for name in SHARE:
        env.setdefault(name, str(max(1, spec.granted_cpus // order.per_node)))
    env.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    for name, value in NAME_LOOKUPS.items():
        env.setdefault(name, value)
    env.update(
        RANK=str(rank),
        LOCAL_RANK=str(local_rank),
        WORLD_SIZE=str(world),
        LOCAL_WORLD_SIZE=str(order.per_node),
        NODE_RANK=str(spec.rank),
        GROUP_RANK=str(spec.rank),
        GROUP_WORLD_SIZE=str(order.nodes),
        ROLE_NAME="default",
        ROLE_RANK=str(rank),
        ROLE_WORLD_SIZE=str(world),
        MASTER_ADDR=order.master_addr,
        MASTER_PORT=str(order.master_port),
        TORCHELASTIC_RUN_ID=spec.session,
        TORCHELASTIC_RESTART_COUNT=str(order.restarts),
        TORCHELASTIC_MAX_RESTARTS=str(order.max_restarts),
        TORCHELASTIC_USE_AGENT_STORE="False",
        TORCHELASTIC_ERROR_FILE=error_file(spec, rank),
        TORCHELASTIC_SIGNALS_TO_HANDLE="SIGTERM,SIGINT,SIGHUP,SIGQUIT",
    )
    return env


def gpus_of(spec: NodeSpec) -> list[str]:
    """The GPUs of a node, in the order of the ranks that take them."""
    return [device.id for device in spec.devices if device.resource == "GPU"]


def own_gpu(spec: NodeSpec, order: Order, local_rank: int) -> list[str]:
    """The GPU that a plain script takes by its LOCAL_RANK; none where there are more ranks than GPUs."""
    return gpus_of(spec)[local_rank : local_rank + 1] if order.as_ranks else []


def show_gpus(env: dict[str, str], spec: NodeSpec, order: Order, local_rank: int) -> None:
    """Make the GPUs of the node visible, in their order, unless the launcher has said itself which are."""
    gpus = gpus_of(spec)
    if not gpus:
        return
    from hpc.core.accelerators.ranks import show_to_rank  # not for nodes without any

    show_to_rank("GPU", gpus, own_gpu(spec, order, local_rank), spec.devices, env, kept=order.env)


def go_near(spec: NodeSpec, order: Order, local_rank: int) -> None:
    """In the child: run on the CPUs next to its GPU."""
    own = own_gpu(spec, order, local_rank)
    if not own:
        return
    from hpc.core.node.nearness import nearness_of  # not for nodes without any

    nearness = nearness_of(spec)
    if nearness is not None:
        nearness.use({"GPU": own}, max(1, spec.granted_cpus // order.per_node))


def error_file(spec: NodeSpec, rank: int) -> str:
    """Where a rank whose main function is decorated with torch's ``record`` says what it has raised."""
    return os.path.join(spec.dir, f"rank{rank}-error.json")


def take_error(path: str) -> dict[str, Any] | None:
    """What a rank has said in its error file: "text" and "at" (0.0: unknown). The file is gone then."""
    try:
        with open(path, "rb") as file:
            told = json.loads(file.read(ERROR_FILE_BYTES))
        os.unlink(path)
    except (OSError, ValueError):
        return None
    message = told.get("message") if isinstance(told, dict) else told
    if not isinstance(message, dict):
        return {"text": str(message)[-ERROR_CHARS:], "at": 0.0} if message else None
    extra = message.get("extraInfo")
    extra = extra if isinstance(extra, dict) else {}
    text = str(extra.get("py_callstack") or message.get("message") or "").rstrip()
    try:
        at = float(extra.get("timestamp") or 0.0)
    except (TypeError, ValueError):
        at = 0.0
    return {"text": text[-ERROR_CHARS:], "at": at} if text else None


class RankLines(Struct):
    """Cuts one stream of a rank into texts of whole lines; keeps the last lines if asked to."""

    tail: deque[str] | None = None
    _rest: bytes = b""

    def feed(self, data: bytes) -> str:
        """The whole lines that `data` completes (perhaps none), as one text."""
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        if len(data) - end > MAX_LINE_BYTES:
            end = len(data)
        self._rest = data[end:]
        return self._text(data[:end])

    def finish(self) -> str:
        """The line that has no end yet."""
        rest, self._rest = self._rest, b""
        return self._text(rest)

    def _text(self, data: bytes) -> str:
        text = data.decode("utf-8", "replace")
        if self.tail is not None:
            self.tail.extend(line[:TAIL_LINE_CHARS] for line in text.split("\n") if line)
        return text


class _Rank(Struct):
    number: int
    pid: int
    streams: dict[int, tuple[int, RankLines]]  # descriptor → 1, 2 or WATCHED, and its lines
    tail: deque[str]
    ask: int = -1  # the descriptor by which it is asked what it is at
    code: int | None = None


class Ranks(Struct):
    """The ranks of one node. The supervisor's loop gives it readable descriptors and ended children."""

    spec: NodeSpec
    report: Callable[..., None]
    watch: Callable[[int, Callable[[], object]], None]
    unwatch: Callable[[int], None]
    paused: bool = False
    _ranks: dict[int, _Rank] = field(default_factory=dict)  # by pid
    _witness: Witness | None = None
    _memory: list[tuple[int, str]] = field(default_factory=memory_folders)
    #: How many processes the kernel has ended for want of memory before the ranks began, or one of them was.
    _oom_kills: int = 0

    def start(self, order: Order) -> None:
        """Start `order.per_node` ranks, maybe beside others; OSError if no more processes or descriptors can be had."""
        self._witness = self._witness or Witness(own_group=True)
        self._oom_kills = oom_kills(self._memory)
        if order.restarts:
            self._end_leftovers()
        for local_rank in range(order.per_node):
            self._start_one(order, local_rank)

    def _end_leftovers(self) -> None:
        """What ranks that have ended left in their groups: it may hold memory of a GPU, or a port."""
        before = {rank.pid for rank in self._ranks.values() if rank.code is not None}
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(pid) in before:
                    os.kill(pid, signal.SIGKILL)

    def _start_one(self, order: Order, local_rank: int) -> None:
        env = rank_environment(os.environ, self.spec, order, local_rank)
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        theirs = [out_write, err_write]
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        streams = {out_read: (1, RankLines()), err_read: (2, RankLines(tail))}
        ask = -1
        if order.watch:
            from hpc.core.node import rank_site  # few supervisors have ranks

            mine, other = socket.socketpair()
            ask, watched = mine.detach(), other.detach()
            os.set_inheritable(watched, True)
            theirs.append(watched)
            streams[ask] = (WATCHED, RankLines())
            rank_site.prepare(env, self.spec.dir, watched)
        try:
            pid = fork_child(
                lambda: _become(order, env, out_write, err_write, lambda: go_near(self.spec, order, local_rank)),
                name="hpc-rank",
                keep=tuple(theirs),
            )
        finally:
            for fd in theirs:
                os.close(fd)
        number = self.spec.rank * order.per_node + local_rank if order.number is None else order.number
        rank = _Rank(number, pid, streams, tail, ask)
        self._ranks[pid] = rank
        for fd in streams:
            os.set_blocking(fd, False)
            self._watch(rank, fd)

    def _watch(self, rank: _Rank, fd: int) -> None:
        if not self.paused:
            self.watch(fd, lambda: self._read(rank, fd))

    def pause(self, paused: bool) -> None:
        """Stop reading while the launcher is slow: the ranks then wait in their writes."""
        if paused == self.paused:
            return
        self.paused = paused
        for rank in self._ranks.values():
            for fd in rank.streams:
                if paused:
                    self.unwatch(fd)
                else:
                    self._watch(rank, fd)

    def _read(self, rank: _Rank, fd: int) -> bool:
        """Read once; False when nothing is left for now or for good."""
        number, lines = rank.streams[fd]
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        text = lines.feed(data) if data else lines.finish()
        if text and number == WATCHED:
            self.report("rank_watch", r=rank.number, text=text)
        elif text:
            self.report("out", r=rank.number, fd=number, text=text)
        if not data:
            self._close(rank, fd)
        return bool(data)

    def _close(self, rank: _Rank, fd: int) -> None:
        if not self.paused:
            self.unwatch(fd)
        os.close(fd)
        del rank.streams[fd]
        if fd == rank.ask:
            rank.ask = -1

    def on_exit(self, pid: int, status: int) -> bool:
        """A child has ended: sends its last output and its code. False if it was not a rank.

        Its pipes stay open while processes that it left behind hold them.
        """
        rank = self._ranks.get(pid)
        if rank is None:
            return False
        for fd in list(rank.streams):
            number, lines = rank.streams[fd]
            while self._read(rank, fd):
                pass
            text = lines.finish()
            if text and number != WATCHED:
                self.report("out", r=rank.number, fd=number, text=text)
        rank.code = code = exit_code(status)
        error = take_error(error_file(self.spec, rank.number)) if code else None
        self.report(
            "rank_exit", r=rank.number, code=code, at=time.time(), tail=list(rank.tail), error=error,
            oom=code == -signal.SIGKILL and self._was_oom(),
        )  # fmt: skip
        return True

    def on_ask(self, message: Mapping[str, Any]) -> None:
        """The launcher's `rank_ask` message: all ranks are to tell what they are at, or one is to be looked at."""
        if "r" in message:
            self._look(*(int(message[name]) for name in ("r", "pid", "sig", "fd", "thread")))
        else:
            self._ask()

    def _ask(self) -> None:
        """Have each rank tell what it is at: `rank_watch` messages."""
        for rank in self._ranks.values():
            if rank.ask >= 0:
                with contextlib.suppress(OSError):
                    os.write(rank.ask, b"?")

    def _look(self, number: int, pid: int, signum: int, fd: int, thread: int) -> None:
        """Take the stack of a rank from outside, by a process that may wait: a `rank_stack` message."""
        if number not in [rank.number for rank in self._ranks.values() if rank.code is None]:
            return
        from hpc.core.node.rank_recorder import look_at  # few supervisors have ranks

        read, write = os.pipe()
        try:
            fork_child(lambda: _tell(write, *look_at(pid, signum, fd, thread)), name="hpc-look", keep=(write,))
        finally:
            os.close(write)
        parts: list[bytes] = []

        def take() -> None:
            data = os.read(read, READ_BYTES)
            parts.append(data)
            if not data:
                self.unwatch(read)
                os.close(read)
                state, _, stack = b"".join(parts).decode(errors="replace").partition("\n")
                self.report("rank_stack", r=number, state=state, stack=stack)

        self.watch(read, take)

    def _was_oom(self) -> bool:
        """Whether the kernel has ended a process here since this was last asked."""
        before, self._oom_kills = self._oom_kills, oom_kills(self._memory)
        return self._oom_kills > before

    def end(self) -> None:
        """Ask all that is below this process to end, unless whoever asked us has asked them too."""
        if self._witness is None:  # nothing was started
            return
        if not self._witness.heard(signal.SIGTERM):
            signal_all(descendants(os.getpid()), signal.SIGTERM)
            self._witness.note(signal.SIGTERM)
        self._witness.close()

    def signal(self, signum: int) -> None:
        """Send a signal to the process group of each rank that runs, unless whoever sent it has sent it to them."""
        if signum != signal.SIGKILL and self._witness is not None and self._witness.heard(signum):
            return
        for rank in self._ranks.values():
            if rank.code is None:
                try:
                    os.killpg(rank.pid, signum)
                except ProcessLookupError:  # it has not made its group yet
                    os.kill(rank.pid, signum)


def _tell(fd: int, state: str, stack: str) -> int:
    data = f"{state}\n{stack}".encode()
    while data:
        data = data[os.write(fd, data) :]
    return 0


def _become(order: Order, env: dict[str, str], out_write: int, err_write: int, prepare: Callable[[], object]) -> int:
    """In the child: becomes the rank's program.  126 and 127 as in a shell."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(out_write, 1)
    os.dup2(err_write, 2)
    for signum in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_DFL)
    prepare()
    try:
        if order.cwd is not None:
            os.chdir(order.cwd)
    except OSError as error:
        os.write(2, f"cannot enter the working directory {order.cwd}: {error.strerror}\n".encode())
        return 126
    try:
        os.execvpe(order.argv[0], order.argv, env)
    except OSError as error:
        os.write(2, f"cannot run {order.argv[0]}: {why_not_run(order.argv[0], error)}\n".encode())
        return 127 if error.errno == errno.ENOENT else 126
