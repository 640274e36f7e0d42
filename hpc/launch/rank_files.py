"""What ranks wrote once another had failed: kept in files of the job's folder, so that the screen ends with the cause.

    <job>/ranks/rank3.log     what rank 3 wrote to stdout and stderr from then on, as `hpc logs JOB --rank 3` shows it

A thousand ranks that lose a peer write a thousand tracebacks. A file takes so many bytes, and all of them together.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = "ranks"
FILE_BYTES, ALL_BYTES = 1 << 20, 64 << 20


def path_of(job: Path, rank: int) -> Path:
    """The file of a rank."""
    return job / FOLDER / f"rank{rank}.log"


class RankFiles:
    """The files of one run. ``job`` is the job's folder."""

    def __init__(self, job: Path) -> None:
        self.job = job
        self._sizes: dict[int, int] = {}
        self._left = ALL_BYTES
        self._broken = False

    def write(self, rank: int, line: str) -> None:
        """Add a line to a rank's file, as long as there is room. A folder that cannot be written ends no run."""
        data = line.encode(errors="replace") + b"\n"
        size = self._sizes.get(rank, 0) + len(data)
        if self._broken or size > FILE_BYTES or len(data) > self._left:
            return
        path = path_of(self.job, rank)
        try:
            path.parent.mkdir(exist_ok=True)
            with path.open("ab" if rank in self._sizes else "wb") as file:
                file.write(data)
        except OSError:
            self._broken = True
            return
        self._sizes[rank] = size
        self._left -= len(data)

    def words(self) -> str:
        """Where to find it; "" where nothing was written."""
        if not self._sizes:
            return ""
        ranks = sorted(self._sizes)
        some = ", ".join(map(str, ranks[:8])) + (f" and {len(ranks) - 8} more" if len(ranks) > 8 else "")
        which = f"rank{'s' if len(ranks) > 1 else ''} {some}"
        how = f"hpc logs {self.job.name} --rank {ranks[0]}"
        return f"what {which} wrote after that is in {self.job / FOLDER} ({how})"
