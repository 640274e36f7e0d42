"""Which object lies where on disk, and what the disk is to do next: the pure half of spilling.

Objects that leave memory together are fused into one file, so that thousands of small ones do not make thousands of
files. A file goes when the last object in it is freed. Nothing here does I/O: `jobs` are for the shell, which says how
each ended. Appending to one large log was rejected: its holes would need a collector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct, field

from hpc.core.raylet.tables import Piece, Stored

#: Objects are fused until a file has this much; a larger object has a file of its own.
FILE_BYTES = 32 << 20
#: After an error of the disk nothing is written for this long; twice as long after each further one.
PAUSE_S = 0.5
MAX_PAUSE_S = 8.0
#: What the disk does with a file.
DiskWork = Literal["write", "read", "remove"]
WRITE: Final = "write"
READ: Final = "read"
REMOVE: Final = "remove"


class DiskJob(Struct):
    """One thing for the disk to do. ``parts`` are (place in the file, offset in the arena, size)."""

    kind: DiskWork
    file: int
    parts: list[tuple[int, int, int]] = field(default_factory=list)
    objects: list[Stored] = field(default_factory=list)


class SpillFile(Struct):
    """A file: the bytes in it, how many objects need it, and what the disk is doing with it."""

    size: int
    needed: int
    busy: int = 0


class Spiller:
    """The files on disk of one node. ``limit_bytes`` is 0 where nothing may be written; ``why`` says why not."""

    def __init__(self, limit_bytes: int = 0, why: str = "no directory was given") -> None:
        self.limit_bytes = limit_bytes
        self.why = why
        self.jobs: list[DiskJob] = []
        self.files: dict[int, SpillFile] = {}
        self.used_bytes = 0
        #: Bytes of objects that lie in the overflow.
        self.mapped_bytes = 0
        self.writing_bytes = 0
        self.spilled_bytes = 0
        self.spilled_objects = 0
        self.restored_bytes = 0
        self.restored_objects = 0
        self.errors = 0
        self.problem = ""
        self._paused_until = 0.0
        self._pause_s = PAUSE_S
        #: Files that were begun; the number of the last one.
        self.written_files = 0
        self._largest = 0

    def room(self, now: float, reading: bool) -> int:
        """Bytes that may be written now. A writer of new objects leaves room for one that is on disk to change places
        with one that is in memory. Else a disk at its limit could not be read any more."""
        left = self.limit_bytes - self.used_bytes - self.mapped_bytes - (0 if reading else self._largest)
        return 0 if now < self._paused_until else max(0, left)

    def write(self, objects: Sequence[Stored]) -> None:
        """Begin to write objects; they stay in memory until `ended` says that they are on disk."""
        batch: list[Stored] = []
        size = 0
        for obj in objects:
            if batch and size + obj.size > FILE_BYTES:
                self._write_file(batch, size)
                batch, size = [], 0
            batch.append(obj)
            size += obj.size
            self._largest = max(self._largest, obj.size)
        if batch:
            self._write_file(batch, size)

    def _write_file(self, objects: list[Stored], size: int) -> None:
        self.written_files += 1
        job = DiskJob(WRITE, self.written_files, objects=objects)
        at = 0
        for obj in objects:
            obj.busy = "spilling"
            job.parts.append((at, obj.offset, obj.size))
            at += obj.size
        self.files[self.written_files] = SpillFile(size, len(objects), 1)
        self.used_bytes += size
        self.writing_bytes += size
        self.jobs.append(job)

    def read(self, obj: Stored) -> None:
        """Begin to read an object back to its offset."""
        assert obj.disk is not None
        obj.busy = "restoring"
        self.files[obj.disk.file].busy += 1
        self.jobs.append(DiskJob(READ, obj.disk.file, [(obj.disk.at, obj.offset, obj.size)], [obj]))

    def ended(self, job: DiskJob, error: str, now: float) -> None:
        """The disk is done with a job; the objects know then where they lie."""
        if job.kind == REMOVE:
            return
        file = self.files[job.file]
        file.busy -= 1
        for obj in job.objects:
            obj.busy = ""
        if error:
            self._note(error)
        if job.kind == WRITE:
            self.writing_bytes -= file.size
            if error:
                self._pause(now)
                file.needed = 0
            else:
                self.problem = ""
                self._pause_s = PAUSE_S
                self.spilled_bytes += file.size
                self.spilled_objects += len(job.objects)
                for (at, _, size), obj in zip(job.parts, job.objects):
                    obj.disk = Piece(job.file, at, size)
        elif not error:
            self.restored_bytes += job.parts[0][2]
            self.restored_objects += 1
            if self.limit_bytes - self.used_bytes - self.mapped_bytes < self._largest:
                self.forget(job.objects[0])
        self._maybe_remove(job.file)

    def failed(self, error: str, now: float) -> None:
        """The disk has refused something that was not a job."""
        self._note(error)
        self._pause(now)

    def _note(self, error: str) -> None:
        self.errors += 1
        self.problem = error

    def _pause(self, now: float) -> None:
        self._paused_until = now + self._pause_s
        self._pause_s = min(MAX_PAUSE_S, 2 * self._pause_s)

    def forget(self, obj: Stored) -> None:
        """The object is not needed on disk any more."""
        piece, obj.disk = obj.disk, None
        if piece is not None:
            self.files[piece.file].needed -= 1
            self._maybe_remove(piece.file)

    def _maybe_remove(self, number: int) -> None:
        file = self.files.get(number)
        if file is not None and not file.needed and not file.busy:
            del self.files[number]
            self.used_bytes -= file.size
            self.jobs.append(DiskJob(REMOVE, number))

    def state(self) -> str:
        """In words, for errors: what the disk does for this node."""
        mib = 1 << 20
        if not self.limit_bytes:
            return f"nothing can be moved to disk ({self.why})"
        used = f"{(self.used_bytes + self.mapped_bytes) // mib} of {self.limit_bytes // mib} MiB on disk are used"
        return f"{used}; the disk failed: {self.problem}" if self.problem else used
