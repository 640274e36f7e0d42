"""A user at the login node of a test bed: commands, scripts and jobs in a folder of their own."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bed import Bed
from netbed import process_name, wait_for


@dataclass
class Desk:
    """A user at the login node, in a folder of their own."""

    bed: Bed
    folder: Path
    env: dict[str, str]

    @classmethod
    def at(cls, bed: Bed, name: str) -> Desk:
        """A new one, whose folder is named after a test."""
        folder = bed.scratch / "work" / re.sub(r"\W", "_", name)[-60:]
        folder.mkdir()
        folder.chmod(0o777)
        env = {
            "HPC_JOB_DIR": str(folder / "jobs"),
            "HPC_POLL_INTERVAL": "0.3",
            "HPC_SCHEDULER": bed.scheduler,
            "XDG_CONFIG_HOME": str(folder / "config"),
            "PATH": f"{Path(sys.executable).parent}:{bed.env['PATH']}",
        }
        return cls(bed, folder, env)

    def script(self, name: str, body: str, mode: int = 0o755) -> str:
        path = self.folder / name
        path.write_text(textwrap.dedent(body))
        path.chmod(mode)
        return name

    def run(self, *argv: str, timeout_s: float = 60.0, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.bed.run(
            list(argv), timeout_s=timeout_s, cwd=self.folder, env={**self.env, **more.pop("env", {})}, **more
        )

    def launch(self, *argv: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """hpc-launch at the login node."""
        return self.run(*launcher(), *argv, **more)

    def hpc(self, *argv: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "hpc", *argv, **more)

    def sweep(self) -> None:
        """Remove what a node that lost its power still has, as the next session there would."""
        program = f"from hpc.core.node import rundir; rundir.sweep({os.environ['HPC_TMPDIR']!r})"
        self.run(sys.executable, "-c", program, check=True)

    def start(self, *argv: str, **more: Any) -> subprocess.Popen[str]:
        """A command that goes on; the test ends it."""
        return subprocess.Popen(
            self.bed.login(argv), cwd=self.folder, env={**self.bed.env, **self.env, **more.pop("env", {})},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            **self.bed.as_user(), **more,
        )  # fmt: skip

    def own(self, nodes: int, *command: str, timeout_s: float = 60.0) -> tuple[int, str]:
        """A job script of the user's own, which becomes that command: its exit code and its output."""
        kept = {**self.env, "HPC_TMPDIR": os.environ["HPC_TMPDIR"]}
        lines = ["#!/bin/bash", *(f"export {name}={shlex.quote(value)}" for name, value in kept.items())]
        lines += [f"cd {shlex.quote(str(self.folder))}", f"exec {shlex.join(command)}"]
        self.script("own.sh", "\n".join(lines) + "\n")
        out = self.folder / "own.out"
        job_id = self.bed.submit(self.folder / "own.sh", nodes, out)
        wait_for(f"the end of job {job_id}", lambda: self.bed.phase(job_id) == "ended", timeout_s, 0.1)
        wait_for("its output", out.exists, 90.0)
        return self.bed.exit_code(job_id), out.read_text()

    @property
    def jobs(self) -> Path:
        return self.folder / "jobs"

    def job_id(self, number: int = 1, timeout_s: float = 90.0) -> str:
        """The scheduler's id of a job that hpc-launch submits."""
        content = self.jobs / str(number) / "job.json"
        wait_for("submitted", lambda: content.exists() and json.loads(content.read_text())["scheduler_id"], timeout_s)
        return str(json.loads(content.read_text())["scheduler_id"])

    def status(self, number: int = 1) -> dict[str, Any]:
        return json.loads((self.jobs / str(number) / "status.json").read_text())

    def report(self, number: int) -> dict[str, Any]:
        """What the report of a job is made of."""
        found: dict[str, Any] = json.loads(self.hpc("report", str(number), "--json", check=True).stdout)
        return found

    def page(self, number: int) -> str:
        """The report that a job has left: one file, which opens without a network."""
        text = (self.jobs / str(number) / "report.html").read_text()
        assert text.endswith("</body></html>\n") and not re.search(r"<script|<link|(src|href)=.?https?:", text)
        return text

    def wait_status(self, what: str, check: Any, timeout_s: float = 90.0, number: int = 1) -> None:
        """Wait until status.json of a job is as it should be."""
        wait_for(what, lambda: check(self.status(number)), timeout_s, 0.05)


@dataclass
class SlurmDesk(Desk):
    """The same at a Slurm, with its own commands for allocations."""

    def salloc(
        self, nodes: int, *argv: str, options: Sequence[str] = (), **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """A command in an allocation, run at the login node as salloc's shell would."""
        return self.run("salloc", "-Q", f"-N{nodes}", "-c2", "-t5", *options, *argv, **more)

    def batch(self, *argv: str, timeout_s: float = 60.0) -> tuple[int, str]:
        """Submit a batch script and wait for its end; returns its exit code and its output."""
        out = self.folder / "batch.out"
        job = self.run("sbatch", "--parsable", "-o", str(out), *argv, check=True).stdout.strip()
        wait_for(f"the end of job {job}", lambda: self.bed.phase(job) == "ended", timeout_s, 0.05)
        return self.bed.exit_code(job), out.read_text()


class Terminal:
    """A command at a terminal of its own."""

    def __init__(self, desk: Desk, *argv: str) -> None:
        self.master, slave = os.openpty()
        self.process = subprocess.Popen(
            desk.bed.login(argv), cwd=desk.folder, env={**desk.bed.env, **desk.env, "TERM": "xterm"},
            start_new_session=True, stdin=slave, stdout=slave, stderr=slave, **desk.bed.as_user(),
        )  # fmt: skip
        os.close(slave)
        os.set_blocking(self.master, False)
        self.text = ""

    def see(self, wanted: str, timeout_s: float = 90.0) -> None:
        def look() -> bool:
            self._read()
            return re.search(wanted, self.text) is not None

        try:
            wait_for(f"{wanted!r} at the terminal", look, timeout_s)
        except Exception as error:
            raise AssertionError(f"{error}:\n{self.text}") from None

    def _read(self) -> None:
        try:
            while data := os.read(self.master, 65536):
                self.text += data.decode()
        except OSError:
            return

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self, timeout_s: float = 90.0) -> int:
        def over() -> bool:
            self._read()
            return self.process.poll() is not None

        wait_for("the end of the command", over, timeout_s)
        self._read()
        os.close(self.master)
        return self.process.returncode


def launcher() -> list[str]:
    """hpc-launch as it is installed beside this Python, else as a module."""
    beside = Path(sys.executable).parent / "hpc-launch"
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "hpc.cli.launch"]


def node_processes(desk: Desk, host: str) -> dict[str, list[int]]:
    """The processes on a node by the name that ps shows."""
    found: dict[str, list[int]] = {}
    for pid in desk.bed.pids(host):
        found.setdefault(process_name(pid), []).append(pid)
    found.pop("", None)
    return found


def nothing_left(desk: Desk, timeout_s: float = 90.0, swept: bool = False) -> None:
    """Wait until there is no process of a job on any node and no directory of a session. swept: a node lost its power,
    and each look is that of a further session there, which finds what is dead by then."""
    left: object = None
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if swept:
            desk.sweep()
        ours = {host: set(node_processes(desk, host)) - desk.bed.daemons for host in desk.bed.hosts}
        left = {host: names for host, names in ours.items() if names}
        left = left or list(Path(os.environ["HPC_TMPDIR"]).glob("hpc-*"))
        if not left:
            return
        time.sleep(0.1)
    raise AssertionError(f"left after {timeout_s:g} s: {left}")
