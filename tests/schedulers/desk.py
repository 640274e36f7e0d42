"""A user at the login node of the test bed: commands, scripts and jobs in a folder of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm_bed import SlurmBed


@dataclass
class Desk:
    """A user at the login node, in a folder of their own."""

    bed: SlurmBed
    folder: Path
    env: dict[str, str]

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

    def salloc(
        self, nodes: int, *argv: str, options: Sequence[str] = (), **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """A command in an allocation, run at the login node as salloc's shell would."""
        return self.run("salloc", "-Q", f"-N{nodes}", "-c2", "-t5", *options, *argv, **more)

    def batch(self, *argv: str, timeout_s: float = 60.0) -> tuple[int, str]:
        """Submit a batch script and wait for its end; returns its exit code and its output."""
        out = self.folder / "batch.out"
        job = self.run("sbatch", "--parsable", "-o", str(out), *argv, check=True).stdout.strip()
        self.bed.wait_job(job, ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"], timeout_s)
        return int(self.bed.job_field(job, "ExitCode").split(":")[0]), out.read_text()

    def start(self, *argv: str, **more: Any) -> subprocess.Popen[str]:
        """A command that goes on; the test ends it."""
        return subprocess.Popen(
            list(argv), cwd=self.folder, env={**self.bed.env, **self.env, **more.pop("env", {})},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
        )  # fmt: skip

    @property
    def jobs(self) -> Path:
        return self.folder / "jobs"


def launcher() -> list[str]:
    """hpc-launch as it is installed beside this Python, else as a module."""
    beside = Path(sys.executable).parent / "hpc-launch"
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "hpc.cli.launch"]
