"""What a file of output had before a job wrote to it, as `--output` may name one that is there. It is not the job's.

Most schedulers append to such a file, and OpenPBS may begin it anew. So nothing is skipped but the same bytes at the
same place, and that only when the file has grown. Rejected: to ask the scheduler which of the two it does, as sites
set that, and a wrong answer would hide output.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: How many bytes before the end are compared.
TAIL = 1 << 16
#: The time of a file of which it does not matter whether it has changed.
ANY_TIME = -1


@dataclass(frozen=True)
class OldOutput:
    """The first ``size`` bytes of a file, when it had been changed last at ``mtime_ns``; the digest is of their end."""

    size: int
    mtime_ns: int
    digest: str

    @classmethod
    def of(cls, path: Path) -> OldOutput | None:
        """What the file has now; None for nothing."""
        try:
            about = path.stat()
            if about.st_size == 0:
                return None
            return cls(about.st_size, about.st_mtime_ns, _digest(path, about.st_size))
        except OSError:
            return None

    @classmethod
    def up_to(cls, path: Path, size: int) -> OldOutput | None:
        """What the file has before a place, which others may have written behind already; None for nothing."""
        try:
            return cls(size, ANY_TIME, _digest(path, size)) if size else None
        except OSError:
            return None

    @classmethod
    def read(cls, kept: Any) -> OldOutput | None:
        """What `kept` gave; None for anything else."""
        try:
            return cls(int(kept["size"]), int(kept["mtime_ns"]), str(kept["digest"]))
        except (TypeError, KeyError, ValueError):
            return None

    def kept(self) -> dict[str, Any]:
        """It as JSON has it."""
        return asdict(self)

    def begin(self, path: Path) -> int | None:
        """Where new output begins in the file; None while there is none."""
        try:
            about = path.stat()
            if about.st_size == self.size and self.mtime_ns != ANY_TIME:
                # Written anew with the same text, as by the same job again: nothing was appended.
                return None if about.st_mtime_ns == self.mtime_ns else 0
            return self.size if _digest(path, self.size) == self.digest else 0
        except OSError:
            return None


def _digest(path: Path, end: int) -> str:
    """Of the bytes before a place; of fewer where the file is shorter."""
    with path.open("rb") as file:
        file.seek(max(0, end - TAIL))
        return hashlib.sha256(file.read(min(end, TAIL))).hexdigest()
