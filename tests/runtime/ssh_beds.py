"""An sshd of the test's own on this machine: its keys, its port, and `ssh` commands that reach it and nothing else."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from runtime.running import eventually

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
needs_ssh = pytest.mark.skipif(
    not (SSHD and shutil.which("ssh") and shutil.which("ssh-keygen")),
    reason="needs ssh: apt-get install openssh-server",
)
#: Where Debian's sshd wants an empty folder that only root may enter.
EMPTY = Path("/run/sshd")
CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
AllowStreamLocalForwarding yes
"""


class Ssh:
    """How to reach it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.options = [
            "-F", "none", "-i", str(folder / "user"), "-p", str(port), "-o", "IdentitiesOnly=yes",
            "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder / 'known'}", "-o", "LogLevel=ERROR",
            "-o", "ExitOnForwardFailure=yes",
        ]  # fmt: skip

    @contextmanager
    def forwarding(self, line: str, local_port: int) -> Iterator[None]:
        """The line that `hpc dashboard` has printed, with another port on this side and this sshd as the host."""
        words = line[line.index("ssh ") :].split()
        there = words[words.index("-L") + 1].partition(":")[2]
        assert words[:2] == ["ssh", "-N"] and words[-1].startswith(f"{getpass.getuser()}@")
        command = ["ssh", *self.options, "-N", "-L", f"{local_port}:{there}", f"{getpass.getuser()}@127.0.0.1"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            eventually(lambda: answers(local_port) or process.poll() is not None)
            assert process.poll() is None
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)


@contextmanager
def an_sshd(folder: Path) -> Iterator[Ssh]:
    """One that this user can log into by a key, until the block ends."""
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True, timeout=60
        )
    port, is_made = free_port(), False
    (folder / "sshd.conf").write_text(CONFIG.format(port=port, folder=folder))
    if os.geteuid() == 0 and not EMPTY.exists():
        EMPTY.mkdir(mode=0o755)
        is_made = True
    process = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(folder / "sshd.conf")], stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: answers(port) or process.poll() is not None)
        assert process.poll() is None
        yield Ssh(folder, port)
    finally:
        process.terminate()
        process.wait(timeout=60)
        if is_made:
            with suppress(OSError):
                EMPTY.rmdir()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens at a port."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
