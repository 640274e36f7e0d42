"""What runs once the nodes are ready: the user's script as a driver, or once per rank. One face for both.

`command()` says what would be executed, without starting anything. So a missing script is an error before any node was
started, on the login node too.
Rejected: running the driver in this process (its crash or its threads would take the launcher with it).
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hpc.launchers.signals import terminal_sends_to_us
from hpc.settings.errors import CliError

if TYPE_CHECKING:
    from hpc.launchers.loop import SessionLoop
    from hpc.launchers.node_program import NodeProgram
    from hpc.launchers.ranks_run import RanksRun, RankWatcher
    from hpc.launchers.session_nodes import SessionNode


def command(script: str | None, args: Sequence[str], *, module: bool = False) -> list[str]:
    """The command line of the user's script; CliError when it cannot be run."""
    if script is None:
        raise CliError("USAGE", "no script was given", fix="hpc-launch [options] SCRIPT [ARGS ...]")
    if module:
        return [sys.executable, "-m", script, *args]
    if not os.path.exists(script):
        found = shutil.which(script) if os.sep not in script else None
        if found:
            return [found, *args]
        raise CliError("NO-SCRIPT", f"no such script: {script}", where=os.getcwd(), fix=_similar(script))
    if os.path.isdir(script):
        raise CliError("NOT-EXECUTABLE", f"{script} is a folder", fix=f"-m {script.strip('/').replace('/', '.')}")
    if not os.access(script, os.R_OK):
        raise CliError("NOT-EXECUTABLE", f"{script} cannot be read", fix=f"chmod +r {shlex.quote(script)}")
    if script.endswith(".py"):
        return [sys.executable, script, *args]
    if not os.access(script, os.X_OK):
        raise CliError(
            "NOT-EXECUTABLE", f"{script} is neither executable nor a .py file", fix=f"chmod +x {shlex.quote(script)}"
        )
    return [os.path.abspath(script), *args]


def _similar(script: str) -> str:
    import difflib

    folder = os.path.dirname(script) or "."
    names = os.listdir(folder) if os.path.isdir(folder) else []
    near = difflib.get_close_matches(os.path.basename(script), names, 1)
    return os.path.join(os.path.dirname(script), near[0]) if near else ""


class Work(Protocol):
    """What runs once the nodes are there."""

    def poll(self) -> int | None:
        """The exit code once it has ended, 128+N for a signal."""

    def signal(self, signum: int) -> None:
        """Pass a signal on."""

    def handles(self, signum: int) -> bool:
        """Whether it can be sent the signal without being ended by that."""

    def last_words(self) -> str:
        """What is to be shown last, if it failed."""


class Driver:
    """The script as one process on this machine. It gets SIGKILL should this process die without a word.

    At a terminal it is in our process group, which Ctrl-C hits. Elsewhere it has its own, so that whoever signals our
    whole group reaches it through us alone, once.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        from hpc.core.node.process import die_with, why_not_run
        from hpc.core.node.witness import Witness

        parent = os.getpid()
        apart = not terminal_sends_to_us()
        self._witness = Witness(own_group=apart)

        def tie() -> None:
            if apart:
                os.setpgid(0, 0)
            die_with(parent, signal.SIGKILL)

        try:
            self._process = subprocess.Popen(list(argv), env=dict(env), preexec_fn=tie)
        except OSError as error:
            self._witness.close()
            code = "NO-SCRIPT" if not os.path.exists(argv[0]) else "NOT-EXECUTABLE"
            raise CliError(code, f"{argv[0]} cannot be run", why=why_not_run(argv[0], error)) from None

    def poll(self) -> int | None:
        """The exit code once it has ended, 128+N for a signal."""
        code = self._process.poll()
        if code is not None:
            self._witness.close()
        return 128 - code if code is not None and code < 0 else code

    def signal(self, signum: int) -> None:
        """Pass a signal on, unless whoever sent it to us has sent it to the script too."""
        if signum == signal.SIGKILL or not self._witness.heard(signum):
            self._process.send_signal(signum)

    def handles(self, signum: int) -> bool:
        """Whether the script has a handler for the signal, which would end it else."""
        try:
            with open(f"/proc/{self._process.pid}/status") as file:
                masks = dict(line.split(":\t", 1) for line in file if line.startswith(("SigCgt", "SigIgn")))
        except OSError:
            return False
        return any(int(mask, 16) >> (signum - 1) & 1 for mask in masks.values())

    def last_words(self) -> str:
        return ""


class Ranks:
    """The script once per rank on every node; or what `each` says, once on each, whose output is passed on as it is.

    job: the job's folder, where that goes which other ranks write once one has failed.
    """

    def __init__(
        self,
        loop: SessionLoop,
        argv: Sequence[str],
        per_node: int,
        env: Mapping[str, str],
        *,
        each: Callable[[Sequence[SessionNode]], Sequence[NodeProgram]] | None = None,
        least: int | None = None,
        job: Path | None = None,
        watcher: RankWatcher | None = None,
        restarts: int = 0,
        max_restarts: int = 0,
    ) -> None:
        from hpc.launch.rank_files import RankFiles
        from hpc.launchers.ranks_run import RanksRun
        from hpc.launchers.session_errors import SessionError

        self._session = loop.session
        self._files = RankFiles(job) if job is not None and each is None else None
        self.run: RanksRun = RanksRun(
            loop.session, list(argv), per_node=per_node, env=dict(env), prefix=each is None, each=each, least=least,
            aside=self._files.write if self._files is not None else None, watcher=watcher,
            restarts=restarts, max_restarts=max_restarts,
        )  # fmt: skip
        try:
            self.run.start(loop)
        except SessionError as error:
            raise CliError("TOO-FEW-NODES", "every node must be there for its ranks", why=str(error)) from None

    def poll(self) -> int | None:
        if self.run.done or self._session.state == "ended":
            return self.run.exit_code
        return None

    def signal(self, signum: int) -> None:
        self.run.signal(signum)

    def handles(self, signum: int) -> bool:
        """The ranks are the user's own programs: they get all signals."""
        return True

    def last_words(self) -> str:
        """The first failing rank and what it has raised or wrote, to be shown last."""
        self.run.settle()
        if self.run.failure is None:
            return ""
        elsewhere = self._files.words() if self._files is not None else ""
        return "\n".join(filter(None, [elsewhere, self.run.failure.text(self.run.said)]))
