"""In the process of a rank: what its collectives are at, and where its Python code is, for whoever looks for a hang.

Nothing is put in the way of a collective. torch's flight recorder has the operations of gloo and NCCL, and the groups
of `hpc.collective` count theirs. A thread asks a few times a second whether one is not done. It costs microseconds.

The stack comes from the interpreter, or, where that is held by native code, from a handler of a signal that no one else
uses: it writes the stacks of all threads into memory that others read through /proc. That needs no root and no ptrace.

This file needs the standard library alone: plain scripts load it without the package around it.
"""

from __future__ import annotations

import atexit
import faulthandler
import linecache
import os
import pickle
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

#: Between two looks at the collectives.
SAMPLE_S = 0.2
#: Calls of a stack that are told, the innermost; and how long a process may take to write its stacks.
FRAMES, DUMP_S = 24, 2.0
#: Between two words of a plain script's rank about how long it has waited; and how long its end waits for a last look.
TELL_S, LAST_LOOK_S = 1.0, 5.0
#: Real-time signals that nobody has a handler for are free to take.
_SIGNALS = range(11, 21)
_TORCH = os.path.join("torch", "distributed", "distributed_c10d.py")
_THREAD = re.compile(r"(?:Current thread|Thread) 0x([0-9a-f]+)")
_FRAME = re.compile(r'  File "(.*)", line (\d+|\?\?\?) in (.*)')
Row = dict[str, Any]


class Recorder:
    """``thread``: the identifier of the thread whose collectives and stack are of interest. ``also``: whether it waits
    for others in another way."""

    def __init__(self, thread: int, also: Callable[[], bool] = lambda: False) -> None:
        self.thread, self._also = thread, also
        #: How often it was looked, and how often the rank waited for others then.
        self.samples = self.waited = 0
        self.signum, self.fd = 0, -1
        self._since: dict[Any, tuple[Any, float]] = {}
        self._longest_s = 0.0
        self._stopped = threading.Event()

    # -------------------------------------------------------------- by itself

    def start(self) -> None:
        """Look again and again, in a thread."""
        threading.Thread(target=self._run, name="hpc-recorder", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(SAMPLE_S):
            self.sample()

    def arm(self) -> None:
        """From now on a signal has this process write its stacks (see `dump_of`)."""
        for above in _SIGNALS:
            signum = signal.SIGRTMIN + above
            if signal.getsignal(signum) == signal.SIG_DFL:
                self.fd = os.memfd_create("hpc-stacks", os.MFD_CLOEXEC)
                faulthandler.register(signum, file=self.fd, all_threads=True, chain=False)
                self.signum = signum
                return

    def sample(self) -> None:
        """Look once."""
        try:
            open_ones = _open_ones(self.thread)
        except Exception:  # a library that is just being imported, or another version of it
            return
        now = time.monotonic()
        self._since = {
            key: before if (before := self._since.get(key)) is not None and before[0] == state else (state, now)
            for key, state in open_ones.items()
        }
        self.samples += 1
        self.waited += bool(open_ones) or self._also()
        self._longest_s = max((now - since for _, since in self._since.values()), default=0.0)

    # -------------------------------------------------------------- questions

    def standing(self) -> Row:
        """How it is, in short: ``waits_s``, how long it has waited for others, ``samples``, ``waited``, ``cpu_s``."""
        return {
            "waits_s": self._longest_s,
            "samples": self.samples,
            "waited": self.waited,
            "cpu_s": cpu_s(self.thread),
        }

    def rows(self) -> list[Row]:
        """All groups that this process is in: fields of `GroupRow`."""
        now = time.monotonic()
        found = []
        for read in (_torch_rows, _own_rows):
            try:
                found += read(self.thread)
            except Exception as error:
                print(f"hpc: the collectives of this rank cannot be read: {error!r}", file=sys.stderr)
        for row in found:
            key = row.pop("key", None)
            if key is not None and key in self._since:
                row["waits_s"] = max(row.get("waits_s", 0.0), now - self._since[key][1])
        return found

    def stack(self) -> str:
        """Where the watched thread is."""
        return format_stack(sys._current_frames().get(self.thread))


# ---------------------------------------------------------------- collectives


def _dumps() -> list[Any]:
    """torch's flight recorders: of gloo and its like, and of NCCL."""
    torch = sys.modules.get("torch")
    c10d = getattr(getattr(torch, "_C", None), "_distributed_c10d", None)
    made = sys.modules.get("torch.distributed.distributed_c10d")
    if c10d is None or made is None or not getattr(getattr(made, "_world", None), "pg_map", None):
        return []
    return [d for d in (getattr(c10d, name, None) for name in ("_dump_fr_trace", "_dump_nccl_trace")) if d is not None]


def _open_ones(thread: int) -> dict[Any, Any]:
    """What is begun and not done: for each group something that changes when its oldest operation is done."""
    found: dict[Any, Any] = {}
    for index, dump in enumerate(_dumps()):
        for group, status in pickle.loads(dump(False, False, False)).get("pg_status", {}).items():
            begun, done = status["last_enqueued_collective"], status["last_completed_collective"]
            runs = status.get("last_started_collective", -1)
            if begun > done and (runs == -1 or runs > done):
                found[index, group] = done
    for row in _own_rows(thread) + _by_stack(thread):
        if row.get("first") or row.get("peer", -1) >= 0:
            found[row["key"]] = (row.get("first"), row["operation"])
    return found


def _torch_rows(thread: int) -> list[Row]:
    dumps = _dumps()
    if not dumps:
        return []
    c10d = sys.modules["torch.distributed.distributed_c10d"]
    rows: dict[str, Row] = {}
    for group, name in list(c10d._world.pg_names.items()):
        places = c10d._world.pg_group_ranks.get(group, {})
        ranks = tuple(sorted(places, key=lambda rank: places[rank]))
        rows[name] = {
            "group": f"torch {name}",
            "me": group.rank(),
            "size": group.size(),
            "ranks": ranks,
            "title": _title(group, name),
        }
    now = time.time()
    for dump in dumps:
        for entry in pickle.loads(dump(True, False, False)).get("entries", ()):
            row = rows.get(entry["process_group"][0])
            if row is None or entry.get("is_p2p"):
                continue
            number = entry["collective_seq_id"]
            row["number"] = max(row.get("number", 0), number)
            if entry.get("retired") or entry.get("state") == "completed":
                continue
            if not row.get("first") or number < row["first"]:
                row["first"], row["operation"] = number, _operation(entry)
                row["waits_s"] = max(0.0, now - entry["time_created_ns"] / 1e9)
    for row in _by_stack(thread):
        rows[row["group"]] = {**rows.get(row["group"].removeprefix("torch "), {}), **row}
    return list(rows.values())


def _title(group: Any, name: str) -> str:
    described = getattr(group, "group_desc", "") or ""
    if described == "default_pg":
        return "the default group"
    return f"the group {described}" if described not in ("", "undefined") else f"group {name}"


def _operation(entry: Row) -> str:
    sizes = " ".join("x".join(map(str, size)) for size in entry.get("input_sizes", ())[:3])
    kinds = entry.get("input_dtypes") or [""]
    return entry["profiling_name"].partition(":")[2] + (f" of {sizes} {kinds[0].lower()}" if sizes else "")


def _by_stack(thread: int) -> list[Row]:
    """Messages between two ranks, which no recorder has: where the thread is in torch's function."""
    frame = sys._current_frames().get(thread)
    if frame is None or not frame.f_code.co_filename.endswith(_TORCH):
        return []
    name = frame.f_code.co_name
    if name not in ("send", "recv"):
        return []
    c10d = sys.modules["torch.distributed.distributed_c10d"]
    given = frame.f_locals
    group = given.get("group") or c10d.GroupMember.WORLD
    places = c10d._world.pg_group_ranks.get(group, {})
    end, way = ("dst", "to") if name == "send" else ("src", "from")
    peer = given.get(end)
    place = places.get(peer, -1) if peer is not None else given.get(f"group_{end}", -1)
    ranks = tuple(sorted(places, key=lambda rank: places[rank]))
    uid = c10d._world.pg_names.get(group, "")
    row = {"group": f"torch {uid}", "me": group.rank(), "size": group.size(), "ranks": ranks, "first": 0}
    words = f"{name} {way} rank {ranks[place]}" if 0 <= place < len(ranks) else name
    return [{**row, "operation": words, "peer": place, "key": (uid, name), "title": _title(group, uid)}]


def _own_rows(_thread: int) -> list[Row]:
    """The groups of `hpc.collective`, where it is used."""
    standing = sys.modules.get("hpc.collective.standing")
    return [{**row, "key": row["group"]} for row in standing.rows()] if standing is not None else []


# ---------------------------------------------------------------- stacks


def cpu_s(thread: int) -> float:
    """The processor time of a thread until now; 0.0 for one that has ended."""
    for one in threading.enumerate():
        if one.ident == thread and one.native_id is not None:
            try:
                with open(f"/proc/self/task/{one.native_id}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                return 0.0
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def format_stack(frame: FrameType | None) -> str:
    """The calls of a thread, the innermost last, from the first that is not ours."""
    calls: list[tuple[str, int, str]] = []
    while frame is not None:
        calls.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return format_calls(calls[::-1])


def format_calls(calls: list[tuple[str, int, str]]) -> str:
    """Lines as in a traceback. ``calls``: file, line and function of each, the innermost last."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    skipped = {os.path.join(here, "hpc", "train", "loop.py"), threading.__file__}
    while len(calls) > 1 and (calls[0][0] in skipped or calls[0][0].startswith("<frozen")):
        calls = calls[1:]
    lines = ["..."] if len(calls) > FRAMES else []
    for file, number, name in calls[-FRAMES:]:
        lines.append(f'File "{file}", line {number}, in {name}')
        text = linecache.getline(file, number).strip()
        if text:
            lines.append(f"  {text}")
    return "\n".join(lines)


def read_dump(dump: str, thread: int) -> str:
    """The stack of one thread in what faulthandler has written of all of them."""
    calls: list[tuple[str, int, str]] = []
    wanted = False
    for line in dump.splitlines():
        begins = _THREAD.match(line)
        if begins is not None:
            wanted = int(begins[1], 16) == thread
        found = _FRAME.match(line)
        if wanted and found is not None:
            calls.append((found[1], int(found[2]) if found[2].isdigit() else 0, found[3]))
    return format_calls(calls[::-1])


def can_dump(pid: int, signum: int) -> bool:
    """Whether that process has a handler for the signal, which would end it else."""
    try:
        with open(f"/proc/{pid}/status") as file:
            caught = next(line for line in file if line.startswith("SigCgt"))
    except (OSError, StopIteration):
        return False
    return bool(int(caught.split()[1], 16) >> (signum - 1) & 1)


def dump_of(pid: int, signum: int, fd: int, thread: int) -> str:
    """The stack of a thread of another process of this machine, whatever that does; "" if it cannot be had."""
    try:
        with open(f"/proc/{pid}/fd/{fd}", "rb") as file:
            before = size = file.seek(0, os.SEEK_END)
            if signum <= 0 or not can_dump(pid, signum):
                return ""
            os.kill(pid, signum)
            until = time.monotonic() + DUMP_S
            while time.monotonic() < until:
                time.sleep(0.05)
                now = os.fstat(file.fileno()).st_size
                if now == size and now > before:
                    break
                size = now
            file.seek(before)
            return read_dump(file.read().decode(errors="replace"), thread)
    except OSError:
        return ""


def look_at(pid: int, signum: int, fd: int, thread: int) -> tuple[str, str]:
    """Of another process of this machine: its state for the kernel, and the stack of its thread, if it can be had.

    "R", "S" or "D" is running or waiting, "T" stopped; "" is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return "", ""
    return state, "" if state in "TZX" else dump_of(pid, signum, fd, thread)


# ---------------------------------------------------------------- plain scripts


def serve(fd: int) -> None:
    """Tell whoever holds the other end of the socket what this process is at, from a thread of its own.

    At first how it can be looked at from outside. While its main thread waits for others, how long it has. All of its
    groups when it is asked. The thread ends before the interpreter does."""
    recorder = Recorder(threading.main_thread().ident or 0)
    recorder.arm()
    thread = threading.Thread(target=_serve, args=(recorder, fd), name="hpc-recorder", daemon=True)
    thread.start()
    atexit.register(_end, thread, fd, os.getpid())


def _end(thread: threading.Thread, fd: int, pid: int) -> None:
    """Have the thread end. A look holds frames of the script, so it may be the one that frees what their variables
    held. That may be an object of C++ that gives the interpreter away meanwhile, as groups of torch do. An end of the
    interpreter there would be a SIGABRT (Python below 3.14)."""
    if os.getpid() != pid:  # a fork of the rank: it has no such thread, and the socket is not its own
        return
    with socket.socket(fileno=os.dup(fd)) as ours:
        ours.shutdown(socket.SHUT_RDWR)  # wakes the thread, also from a write that nobody reads
    thread.join(LAST_LOOK_S)


def _serve(recorder: Recorder, fd: int) -> None:
    import json
    import select

    def send(message: Row) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(fd, data) :]

    try:
        send({"armed": [os.getpid(), recorder.signum, recorder.fd, recorder.thread]})
        told, sent = time.monotonic(), False
        while True:
            asked = select.select([fd], [], [], SAMPLE_S)[0]
            if asked and not os.read(fd, 100):
                return
            recorder.sample()
            standing = recorder.standing()
            if asked:
                send({"rows": recorder.rows(), **standing})
            elif time.monotonic() - told >= TELL_S:
                told = time.monotonic()
                waits = standing["waits_s"] >= TELL_S
                if waits or sent:
                    send(standing if waits else {**standing, "waits_s": 0.0})
                sent = waits
    except OSError:  # whoever listened is gone
        return
