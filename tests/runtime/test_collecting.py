"""Finalizers of a program that use the session, wherever the garbage collector calls them."""

from __future__ import annotations

import subprocess
import sys
import textwrap

PROGRAM = """
import gc, sys
from collections import namedtuple
import hpc
from hpc.core.process.current import need_client
from hpc.internal import free
from hpc.util import placement_group, remove_placement_group

hpc.init(address="local", num_cpus=2, object_store_memory=128 << 20)

@hpc.remote
class Server:
    def __init__(self):
        self.closed = []

    def close(self, name):
        self.closed.append(name)

    def all(self):
        return self.closed

@hpc.remote
def close_it(server, name):
    hpc.get(server.close.remote(name))

@hpc.remote(num_cpus=99)
def hold():
    pass

class Session:
    def __init__(self, name, close):
        self.name, self.close, self.circle = name, close, self

    def __del__(self):
        self.close(self.name)

server, other = Server.remote(), Server.remote()
hpc.get([server.all.remote(), other.all.remote()])
gc.disable()  # it comes when it is called, and not before
Session("call", server.close.remote)
Session("task", lambda name: close_it.remote(server, name))
Session("kill", lambda name: hpc.kill(other))
waiting = hold.remote()
Session("cancel", lambda name: hpc.cancel(waiting))
value, group = hpc.put(1), placement_group([{"CPU": 99}])
Session("free", lambda name: free(value))
Session("remove", lambda name: remove_placement_group(group))
never = hold.remote()
Session("get", lambda name: hpc.get(never))
said = []
sys.unraisablehook = lambda unraisable: said.append(type(unraisable.exc_value).__name__)
# As where the runtime makes a namedtuple while it has the lock, and the collector comes.
make = eval("lambda collect: collect()", {"__name__": namedtuple("Pair", "a b").__new__.__globals__["__name__"]})
at_work = {"__name__": "hpc.core.at_work", "lock": need_client().lock, "make": make, "collect": gc.collect}
exec("with lock: make(collect)", at_work)
print(said)
while len(closed := hpc.get(server.all.remote())) < 2:
    pass
print(sorted(closed))
try:
    hpc.get(other.all.remote())
except hpc.exceptions.ActorDiedError:
    print("killed")
try:
    hpc.get(waiting)
except hpc.exceptions.TaskCancelledError:
    print("cancelled")
for what in (value, group.ready()):
    try:
        hpc.get(what, timeout=60)
    except (hpc.exceptions.ObjectFreedError, hpc.exceptions.TaskPlacementGroupRemoved) as error:
        print(type(error).__name__)
Session("plain", lambda name: print(name, hpc.get(server.all.remote()) == closed))
gc.collect()
"""


def test_a_finalizer_in_the_middle_of_the_runtimes_work_is_done_a_moment_later_or_told_that_it_cannot_wait():
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = ["['Collecting']", "['call', 'task']", "killed", "cancelled"]
    said += ["ObjectFreedError", "TaskPlacementGroupRemoved", "plain True"]
    assert done.stdout.splitlines() == said, done.stderr
