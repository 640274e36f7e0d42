"""A process of a session that has no descriptor left for a connection waits for one, and does not spin meanwhile."""

from __future__ import annotations

import os
import resource
import socket
import time
from pathlib import Path

import pytest

import hpc
from hpc.core.process.current import need_client
from runtime.running import eventually, one_node, pid_of


@hpc.remote
class Full:
    """An actor that takes all files that it may open."""

    def fill(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        self.files = []
        try:
            while True:
                self.files.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            return len(self.files)

    def busy(self, seconds):
        """The share of a core that this process uses while it does nothing."""
        began = time.process_time()
        time.sleep(seconds)
        return (time.process_time() - began) / seconds

    def free(self):
        while self.files:
            os.close(self.files.pop())

    def hello(self):
        return "hello"


@hpc.remote
class Caller:
    def ask(self, actor):
        return hpc.get(actor.hello.remote(), timeout=30)


def test_a_worker_without_files_takes_a_connection_when_it_has_some_and_waits_in_peace(capfd):
    with one_node(num_cpus=2):
        full, caller = Full.remote(), Caller.remote()
        hpc.get(caller.__ray_ready__.remote())
        assert hpc.get(full.fill.remote()) > 20
        asked = caller.ask.remote(full)
        assert hpc.wait([asked], timeout=0.3)[0] == []
        assert hpc.get(full.busy.remote(0.6)) < 0.5
        assert hpc.wait([asked], timeout=0)[0] == []
        hpc.get(full.free.remote())
        assert hpc.get(asked, timeout=30) == "hello"
        seen = []

        def said():
            seen.append("".join(capfd.readouterr()))
            return "open files" in "".join(seen)

        eventually(said)
    assert "".join(seen).count("no open files left for a connection") == 1


def cpu_s(pid):
    """The CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_raylet_without_files_takes_who_waits_when_it_has_some_and_waits_in_peace():
    with one_node(num_cpus=1):
        directory = need_client().node_dir
        raylet = pid_of(directory, "raylet")
        soft, hard = resource.prlimit(raylet, resource.RLIMIT_NOFILE)
        hpc.get(hpc.remote(os.getpid).remote())
        resource.prlimit(raylet, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{raylet}/fd")), hard))
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(os.path.join(directory, "raylet.sock"))
            stranger.sendall(b"not a registration" * 10)
            began = cpu_s(raylet)
            stranger.settimeout(0.6)
            with pytest.raises(TimeoutError):
                stranger.recv(1)  # it is neither taken nor refused
            assert cpu_s(raylet) - began < 0.3
            resource.prlimit(raylet, resource.RLIMIT_NOFILE, (soft, hard))
            stranger.settimeout(20)
            assert closed(stranger)
        assert Path(directory, "logs", "raylet.log").read_text().count("no open files left for a connection") == 1


def closed(sock):
    """Wait for the other side to close the connection."""
    try:
        return not sock.recv(1)
    except ConnectionResetError:
        return True
