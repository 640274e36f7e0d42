"""A node program whose raylet, head and workers are stand-ins: they follow the control protocol and nothing else.

Run as the node program itself (`python fake_node.py --rank R ...`), or `run` as the function that a forking
LocalGroup calls. What the stand-ins do is chosen by entries of the start message's config:

    fake_raylet, fake_head   "silent" (never bound), "crash", "refuse" (error message), "stubborn" (ignores stop)
    fake_workers             how many workers the raylet asks the zygote for
    fake_worker              "sleep", "daemon" (leaves a process in a session of its own), "draw", "crash"
    fake_modules             what the zygote imports
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import sys
import time

from hpc.core.node import programs, supervisor, zygote
from hpc.core.node.control import Control
from hpc.core.node.spec import NodeSpec

LONG_S = 600.0


def _note(spec: NodeSpec, name: str, message: object) -> None:
    with open(os.path.join(spec.dir, f"{name}.jsonl"), "a") as file:
        file.write(json.dumps(message) + "\n")


def _serve(control: Control, others: list[Control], on_message) -> None:
    poll = select.poll()
    for each in (control, *others):
        poll.register(each.fileno(), select.POLLIN)
    while not control.eof:
        poll.poll()
        for each in (control, *others):
            if each.fileno() < 0:
                continue
            for message in each.receive():
                if message["op"] == "ping":
                    each.send({"op": "pong"})
                elif on_message(each, message) == "end":
                    return
            if each.eof and each is not control:
                poll.unregister(each.fileno())
                each.close()


def fake_raylet(spec: NodeSpec, sock: socket.socket) -> None:
    mode = spec.config.get("fake_raylet")
    control = Control(sock)
    others = [Control(socket.socket(fileno=spec.zygote_fd))] if spec.zygote_fd >= 0 else []
    if mode == "crash":
        print("the raylet's last line", file=sys.stderr)
        sys.exit(7)
    if mode == "refuse":
        control.send({"op": "error", "why": "no socket today"})
    elif mode != "silent":
        control.send(
            {"op": "bound", "pk": f"key-of-{spec.node}", "ep": f"tcp://{spec.interface_addr}:{9000 + spec.node}"}
        )
    for proc in range(int(spec.config.get("fake_workers", 0))):
        others[0].send({"op": "fork", "proc": proc, "env": {"HPC_FAKE": str(proc), "HOME": None}})

    def on_message(source: Control, message: dict) -> str | None:
        _note(spec, "raylet", message)
        if source is not control:
            return None
        if message["op"] == "welcome":
            control.send({"op": "ready"})
        return "end" if message["op"] == "stop" and mode != "stubborn" else None

    _serve(control, others, on_message)


def fake_head(spec: NodeSpec, sock: socket.socket) -> None:
    mode = spec.config.get("fake_head")
    if mode == "crash":
        print("the head's last line")
        sys.exit(9)
    control = Control(sock)
    if mode != "silent":
        control.send({"op": "bound", "pk": "key-of-head", "ep": f"tcp://{spec.interface_addr}:9000"})

    def on_message(_source: Control, message: dict) -> str | None:
        _note(spec, "head", message)
        return "end" if message["op"] == "stop" else None

    _serve(control, [], on_message)


def fake_worker(spec: NodeSpec, proc: int) -> object:
    mode = spec.config.get("fake_worker", "sleep")
    if mode == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if mode == "daemon" and os.fork() == 0:
        os.setsid()
        for fd in (0, 1, 2):
            os.close(fd)
        time.sleep(LONG_S)
    facts = {
        "proc": proc,
        "pid": os.getpid(),
        "draw": random.random(),
        "env": os.environ.get("HPC_FAKE"),
        "home": os.environ.get("HOME"),
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "fds": sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")),
    }
    if "numpy" in sys.modules:
        facts["numpy_draw"] = float(sys.modules["numpy"].random.random())
    print(f"out of {proc}")
    print(f"err of {proc}", file=sys.stderr)
    _note(spec, f"worker-{proc}", facts)
    if mode == "sleep" or mode == "daemon":
        time.sleep(LONG_S)
    return 3


def fake_zygote(spec: NodeSpec, sock: socket.socket) -> None:
    modules = spec.config.get("fake_modules", ["msgspec"])
    zygote.zygote_main(spec, sock, worker_main=fake_worker, modules=modules)


CHILDREN = programs.Children(raylet=fake_raylet, head=fake_head, zygote=fake_zygote)


def run(rank: int, stdin_fd: int, stdout_fd: int) -> int:
    return supervisor.supervisor_main(rank, stdin_fd, stdout_fd, children=CHILDREN)


if __name__ == "__main__":
    supervisor.main(children=CHILDREN)
