"""A chain of jobs: each begins with the states that the one before has saved, until the script has ended by itself.

All are submitted at once, each to begin after the end of the one before. On many machines nothing can be submitted from
a compute node, and those that wait grow older in the queue. A link whose script is not finished says so in a file of
the first one's folder (``chain/3.json``). The next one reads that, and ends at once where nothing is left to do. The
link that finishes takes the others out of the queue.

Rejected: one job that is put back into the queue (not all schedulers can, and its limit of restarts is the site's).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hpc.launch.jobdir import JobDir
from hpc.launchers.scheduler import NoAnswer, Scheduler
from hpc.settings.errors import CliError

#: With this exit code a script that was told to drain says that it goes on in the next job (EX_TEMPFAIL).
EXIT_CONTINUE = 75
CANCELLED = 143
STATES = "states"

#: How a link came to its end: the script ended by itself, it is to go on, or the launcher was told to end.
Outcome = Literal["done", "continue", "signal"]


@dataclass(frozen=True)
class Link:
    """One job of a chain of ``links``; ``folder`` is that of the first."""

    number: int
    links: int
    folder: Path

    @classmethod
    def parse(cls, text: str) -> Link:
        """Of ``2/3:FOLDER``; CliError for anything else."""
        found = re.fullmatch(r"(\d+)/(\d+):(.+)", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise CliError("USAGE", f"--chain-link is given by hpc-launch itself: {text!r}")
        return cls(int(found[1]), int(found[2]), Path(found[3]))

    @property
    def text(self) -> str:
        """What `parse` reads."""
        return f"{self.number}/{self.links}:{self.folder}"

    @property
    def name(self) -> str:
        """For people."""
        return f"job {self.number} of a chain of {self.links}"

    @property
    def states(self) -> Path:
        """Where all links keep their states."""
        return self.folder / STATES

    def environment(self) -> dict[str, str]:
        """What the script may want to know."""
        return {"HPC_CHAIN_LINK": str(self.number), "HPC_CHAIN_LINKS": str(self.links)}

    # -------------------------------------------------------------- what the links say to each other

    def say(self, outcome: Outcome, code: int) -> None:
        """How this link has ended."""
        self._folder().write(f"{self.number}.json", {"outcome": outcome, "exit_code": code})

    def said(self) -> dict[str, Any]:
        """The same, read; empty while it has said nothing."""
        return JobDir(self.folder / "chain").read(f"{self.number}.json")

    def _folder(self) -> JobDir:
        path = self.folder / "chain"
        os.makedirs(path, mode=0o700, exist_ok=True)
        return JobDir(path)

    def write_ids(self, ids: list[str]) -> None:
        """The scheduler's ids of all links, for those that cancel others."""
        self._folder().write("ids.json", {"ids": ids})

    def ids(self) -> list[str]:
        """As far as they are known by now."""
        return [str(each) for each in JobDir(self.folder / "chain").read("ids.json").get("ids", [])]

    def before(self) -> Link | None:
        """The link before this one."""
        return Link(self.number - 1, self.links, self.folder) if self.number > 1 else None

    def needless(self, scheduler: Scheduler) -> tuple[int, str] | None:
        """The exit code, and why, if nothing is left to do for this link; None if it is to run."""
        before = self.before()
        if before is None:
            return None
        said = before.said()
        if said.get("outcome") == "done":
            return int(said["exit_code"]), f"the script ended in {before.name}"
        if said.get("outcome") == "continue":
            return None
        # It was told to end, or could not say a word: by its user's wish, or because its nodes were taken.
        ids = self.ids()
        try:
            info = scheduler.states(ids[: before.number])[ids[before.number - 1]] if len(ids) >= before.number else None
        except (NoAnswer, KeyError):
            info = None
        if info is not None and info.ending == "cancelled":
            return CANCELLED, f"{before.name} was cancelled"
        return None

    def withdraw_rest(self, scheduler: Scheduler) -> None:
        """Take those behind this one out of the queue. One that stays there ends by itself as soon as it runs."""
        for job_id in self.ids()[self.number :]:
            scheduler.cancel(job_id)


def link_of(job: JobDir) -> Link | None:
    """The link that a job's folder belongs to; None where it is in no chain."""
    text = job.job().get("chain")
    return Link.parse(str(text)) if text else None
