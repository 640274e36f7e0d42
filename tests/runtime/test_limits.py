"""Limits of the shell: what is too small for a node is named, and too few open files make work wait."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

import hpc

PROGRAM = """
import hpc, os, resource, sys, threading
from hpc.core.process.current import need_client
resource.setrlimit(resource.{kind}, ({soft}, {hard}))
hpc.init(address="local", num_cpus=2, object_store_memory=128 << 20)
warned = threading.Event()
client = need_client()
client.warn = lambda text: (print(text, file=sys.stderr), warned.set())

@hpc.remote(num_cpus=0)
class A:
    def pid(self):
        return os.getpid()

actors = [A.remote() for _ in range({count})]
waiting = [a.pid.remote() for a in actors]
if {warns}:
    warned.wait(40)
ready, rest = hpc.wait(waiting, num_returns=len(waiting), timeout=0 if {warns} else 30)
print("ready", len(ready), "rest", len(rest))
del actors, waiting, ready
print("all", len(hpc.get(rest, timeout=30)) == len(rest))
"""


def run(kind, soft, hard, count=1, warns=False):
    code = PROGRAM.format(kind=kind, soft=soft, hard=hard, count=count, warns=warns)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    return done.stdout, done.stderr


def test_a_soft_limit_of_open_files_is_raised():
    out, err = run("RLIMIT_NOFILE", 100, 1000, count=40)
    assert "ready 40 rest 0" in out, err


def test_without_open_files_for_more_workers_work_waits_and_says_why():
    out, err = run("RLIMIT_NOFILE", 150, 150, count=60, warns=True)
    assert "open files" in err and "ulimit -Hn" in err, out + err
    assert "rest 0" not in out and "all True" in out, err


@pytest.mark.parametrize(
    ("kind", "limit", "words"),
    [("RLIMIT_FSIZE", 100 << 20, "ulimit -f"), ("RLIMIT_AS", 700 << 20, "ulimit -v")],
)
def test_a_limit_that_is_too_small_for_the_store_is_named(kind, limit, words):
    out, err = run(kind, limit, limit)
    assert "ready" not in out and words in err and "object_store_memory" in err


@pytest.mark.parametrize("patched", ["select", "threading"])
def test_init_names_the_patches_of_gevent_that_it_cannot_work_with(monkeypatch, patched):
    fake = types.SimpleNamespace(is_module_patched=lambda name: name == patched)
    monkeypatch.setitem(sys.modules, "gevent.monkey", fake)
    with pytest.raises(RuntimeError, match=f"patched {patched}.*select=False, thread=False"):
        hpc.init(address="local", num_cpus=1)
    assert not hpc.is_initialized()
