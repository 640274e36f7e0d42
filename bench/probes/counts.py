"""Counts, not times, of a fixed program: what a task costs driver and worker, on however busy a machine.

    python counts.py        one line ``@bench {json}``: program -> what -> count for each task or call

The programs: 1,000 tasks, or calls of an actor, and then all results; 200 tasks, or calls, one by one; 200 tasks whose
results are in the object store and stay there. One worker.
Counted are calls of Python and C functions (sys.setprofile, main threads), bytecode instructions of the driver
(sys.settrace), frames written and read by the driver, frames between driver and raylet, context switches of both
processes that were not forced, blocks of memory that a task in flight holds and that stay, and system calls of both
(strace, where it is there and may attach). Each is counted in a turn of its own, so that one does not disturb another.
How often a spinning thread looks is a matter of time: nobody spins here (HPC_SPIN_US is 0), and polls and yields of the
worker are left out of the calls and system calls.
"""

import gc
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HPC_SPIN_US"] = "0"

import hpc
from hpc.core.net.stream import Stream
from hpc.core.process.current import current

ASYNC, SYNC, TURNS = 1000, 200, 3
STORED_BYTES = 160_000
ATTACH_S = 5.0
Ask = Callable[[bool], tuple[int, int]]


@hpc.remote
def noop() -> bytes:
    return b"ok"


@hpc.remote
def stored() -> Any:
    import numpy as np

    return np.zeros(STORED_BYTES, np.uint8)


class Actor:
    def small_value(self) -> bytes:
        return b"ok"

    def switch(self, on: bool) -> tuple[int, int]:
        return switch(on)


def switch(on: bool) -> tuple[int, int]:
    """Count calls in this process's main thread from now on; or stop, and say how many. Also its pid."""
    import builtins
    import os
    import sys

    spinning = ("poll", "perf_counter", "sched_yield")
    if on:
        box = builtins.hpc_counted = [0]  # type: ignore[attr-defined]

        def count(frame: object, event: str, arg: object) -> None:
            # What a thread does while it spins is a matter of time.
            if event == "call" or (event == "c_call" and getattr(arg, "__name__", "") not in spinning):
                box[0] += 1

        sys.setprofile(count)
        return os.getpid(), 0
    sys.setprofile(None)
    return os.getpid(), getattr(builtins, "hpc_counted", [0])[0]


def switches(pid: int) -> int:
    """Times that threads of a process have gone to sleep."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for line in (thread / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


class Program:
    """One of the programs."""

    def __init__(
        self, name: str, count: int, run: Callable[[], object], ask: Callable[[bool], tuple[int, int]]
    ) -> None:
        self.name, self.count, self.run, self.ask = name, count, run, ask
        for _ in range(3):
            run()

    def measure(self) -> dict[str, Any]:
        """Each count for one task or call: the least of some turns, since what else happens in a turn only adds."""
        turns = [self._turn() for _ in range(TURNS)]
        found = {what: min(turn[what] for turn in turns) for what in turns[0]}
        worker, _ = self.ask(False)
        for who, pid in (("driver", os.getpid()), ("worker", worker)):
            made = [calls for _ in range(TURNS) if (calls := self._system_calls(pid)) is not None]
            if made:
                found[f"system calls, {who}"] = min(made)
        return {what: value / self.count for what, value in found.items()}

    def _turn(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        found["calls, driver"] = self._calls()
        self.ask(True)
        self.run()
        worker, calls = self.ask(False)
        found["calls, worker"] = calls
        found["instructions, driver"] = self._instructions()
        found |= self._frames()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw, switches(worker)
        self.run()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw, switches(worker)
        found["sleeps, driver"], found["sleeps, worker"] = after[0] - before[0], after[1] - before[1]
        found["blocks left"] = self._left()
        return found

    def _calls(self) -> int:
        box = [0]

        def count(frame: object, event: str, arg: object) -> None:
            if event in ("call", "c_call"):
                box[0] += 1

        sys.setprofile(count)
        try:
            self.run()
        finally:
            sys.setprofile(None)
        return box[0]

    def _instructions(self) -> int:
        box = [0]

        def trace(frame: Any, event: str, arg: object) -> Any:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            if event == "opcode":
                box[0] += 1
            return trace

        sys.settrace(trace)
        try:
            self.run()
        finally:
            sys.settrace(None)
        return box[0]

    def _frames(self) -> dict[str, int]:
        sent, received, raylet = [0], [0], [0]
        send, receive, mine = Stream.send, Stream.receive, current.client.sockets.raylet

        def counted_send(self: Stream, data: bytes) -> None:
            sent[0] += 1
            raylet[0] += self is mine
            send(self, data)

        def counted_receive(self: Stream) -> Any:
            frames = receive(self)
            received[0] += len(frames)
            raylet[0] += len(frames) * (self is mine)
            return frames

        Stream.send, Stream.receive = counted_send, counted_receive  # type: ignore[method-assign]
        try:
            self.run()
        finally:
            Stream.send, Stream.receive = send, receive  # type: ignore[method-assign]
        return {"frames out": sent[0], "frames in": received[0], "frames, raylet": raylet[0]}

    def _left(self) -> int:
        """Blocks that stay after all is dropped: a leak per task would show."""
        self.run()
        gc.collect()
        before = sys.getallocatedblocks()
        self.run()
        self.run()
        gc.collect()
        return max(0, sys.getallocatedblocks() - before) // 2

    def _system_calls(self, pid: int) -> int | None:
        if shutil.which("strace") is None:
            return None
        with tempfile.NamedTemporaryFile("r", suffix=".strace") as out:
            command = ["strace", "-c", "-f", "-p", str(pid), "-o", out.name]
            tracer = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
            assert tracer.stderr is not None
            try:
                attached = b"attached" in tracer.stderr.readline()
                if attached:
                    self.run()
            finally:
                tracer.send_signal(signal.SIGINT)
                tracer.wait(ATTACH_S)
                tracer.stderr.close()
            rows = [line.split() for line in out.read().splitlines() if line[:1] == " " and "." in line]
            spinning = ("total", "epoll_wait", "sched_yield") if pid != os.getpid() else ("total",)
            return sum(int(row[3]) for row in rows if row[-1] not in spinning) if attached and rows else None


def held_blocks(count: int) -> float:
    """Blocks of memory that the driver holds for a task whose result nobody has asked for yet."""
    gc.collect()
    before = sys.getallocatedblocks()
    refs = [noop.remote() for _ in range(count)]
    found = (sys.getallocatedblocks() - before) / count
    hpc.get(refs)
    return found


def main() -> None:
    hpc.init(address="local", num_cpus=1)
    task_switch, actor = hpc.remote(switch), hpc.remote(num_cpus=0)(Actor).remote()

    def ask_task(on: bool) -> tuple[int, int]:
        return tuple(hpc.get(task_switch.remote(on)))  # type: ignore[return-value]

    def ask_actor(on: bool) -> tuple[int, int]:
        return tuple(hpc.get(actor.switch.remote(on)))  # type: ignore[return-value]

    def one_by_one(call: Any) -> Callable[[], None]:
        def run() -> None:
            for _ in range(SYNC):
                hpc.get(call.remote())

        return run

    def stored_results() -> None:
        refs = [stored.remote() for _ in range(SYNC)]
        hpc.wait(refs, num_returns=SYNC, fetch_local=False)

    programs = (
        Program("tasks async", ASYNC, lambda: hpc.get([noop.remote() for _ in range(ASYNC)]), ask_task),
        Program("tasks sync", SYNC, one_by_one(noop), ask_task),
        Program(
            "actor calls async", ASYNC, lambda: hpc.get([actor.small_value.remote() for _ in range(ASYNC)]), ask_actor
        ),
        Program("actor calls sync", SYNC, one_by_one(actor.small_value), ask_actor),
        Program("stored async", SYNC, stored_results, ask_task),
    )
    found = {program.name: program.measure() for program in programs}
    found["tasks async"]["blocks held"] = held_blocks(5 * ASYNC)
    print("@bench " + json.dumps(found), flush=True)
    hpc.shutdown()


if __name__ == "__main__":
    main()
