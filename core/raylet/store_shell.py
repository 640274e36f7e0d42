"""The raylet's shell around its object store: the disk, pages that are made ready ahead, and what people may ask."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time

from hpc.core.net.reactor import Reactor
from hpc.core.node.detect import available_memory
from hpc.core.node.limits import room_beside
from hpc.core.node.settings import setting, text
from hpc.core.node.spec import NodeSpec
from hpc.core.raylet.object_store import ObjectStore
from hpc.core.raylet.spill import DiskJob, Spiller
from hpc.core.store.arena import SLOTS_BYTES, Arena, create_arena
from hpc.core.store.disk import Disk, SpillFolder, choose_folder
from hpc.core.store.layout import ALIGN
from hpc.core.store.overflow_file import ArenaWithOverflow, create_overflow

log = logging.getLogger("hpc.raylet")

#: Pages of the arena that are made ready while the node is idle: the first values that are put find them.
PREFAULT_BYTES = 256 << 20
PREFAULT_AFTER_S = 1.0
PREFAULT_STEP_BYTES = 256 << 10
PREFAULT_PAUSE_S = 0.003
#: Only where the store is this large, and so much memory is free, that it does not matter.
PREFAULT_STORE_BYTES = 1 << 30
PREFAULT_FREE_BYTES = 4 << 30
#: Pages for an object that is on its way are made ready, in these steps, while its first bytes travel.
AHEAD_FROM_BYTES = 8 << 20
AHEAD_STEP_BYTES = 2 << 20


def spill_folder(spec: NodeSpec) -> str:
    """Where the user wants objects on disk: said by the session's configuration, else by the environment."""
    return text("spill_dir", spec.config, os.environ)


def open_arena(spec: NodeSpec) -> tuple[ArenaWithOverflow, SpillFolder]:
    """The node's shared memory, with a file for what finds no room in it, and where else objects go on disk."""
    size = spec.store_bytes
    limit = setting("spill_limit_bytes", spec.config, os.environ)
    place = choose_folder(spec.dir, spill_folder(spec), None if limit < 0 else int(limit))
    overflow, overflow_bytes = -1, 0
    if place.limit_bytes >= ALIGN and not spec.gateway:
        try:
            overflow_bytes = room_beside(size, place.limit_bytes) // ALIGN * ALIGN
            overflow = create_overflow(os.path.dirname(place.folder), overflow_bytes)
        except OSError as error:
            overflow_bytes = 0
            log.warning("objects that are read all stay in memory: there is no file for more (%s)", error.strerror)
    return ArenaWithOverflow(create_arena(size), size, -1, overflow, overflow_bytes), place


class StoreShell:
    """What the pure store cannot do itself."""

    def __init__(self, spec: NodeSpec, arena: Arena, place: SpillFolder, reactor: Reactor) -> None:
        self._arena = arena
        self._reactor = reactor
        self.spiller = Spiller(place.limit_bytes, place.why)
        self.full_timeout_s = setting("store_full_timeout_s", spec.config, os.environ)
        if place.why and not spec.gateway:
            log.warning("objects will not be moved to disk when the object store is full: %s", place.why)
        self.disk = Disk(place, arena)
        reactor.add_reader(self.disk.fileno(), self._on_disk)
        self._objects: ObjectStore | None = None
        self._closing = False
        self._thread: threading.Thread | None = None
        self._ahead: threading.Thread | None = None
        self._coming: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        if not spec.gateway and arena.size_bytes >= PREFAULT_STORE_BYTES:
            reactor.call_later(PREFAULT_AFTER_S, self._start_prefault)

    def attach(self, objects: ObjectStore) -> None:
        """Work for this store."""
        self._objects = objects
        objects.pulls.began = self._make_ready

    def settle(self) -> None:
        """Hand what the store wants done to the disk."""
        jobs = self.spiller.jobs
        if jobs:
            for job in jobs:
                self.disk.submit(job, job.kind, job.file, job.parts)
            jobs.clear()

    def _on_disk(self) -> None:
        assert self._objects is not None
        for job, error in self.disk.finished():
            assert isinstance(job, DiskJob)
            self._objects.disk_ended(job, error)

    def _start_prefault(self) -> None:
        if available_memory() >= PREFAULT_FREE_BYTES:
            self._thread = threading.Thread(target=self._prefault, name="hpc-prefault", daemon=True)
            self._thread.start()

    def _prefault(self) -> None:
        """On a thread that only runs where nobody else wants to, in small steps."""
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
        at = SLOTS_BYTES
        while at < SLOTS_BYTES + PREFAULT_BYTES and not self._closing:
            if not self._arena.prefault(at, PREFAULT_STEP_BYTES):
                return
            at += PREFAULT_STEP_BYTES
            time.sleep(PREFAULT_PAUSE_S)

    def _make_ready(self, offset: int, size: int) -> None:
        """An object will be written there as it comes: its pages need not be made on the way."""
        if size < AHEAD_FROM_BYTES or offset + size > self._arena.size_bytes:
            return
        if self._ahead is None:
            self._ahead = threading.Thread(target=self._run_ahead, name="hpc-ahead", daemon=True)
            self._ahead.start()
        self._coming.put((offset, size))

    def _run_ahead(self) -> None:
        """On a thread, without the GIL. What is in a page stays, so it does no harm where the pull has ended since.
        Pages are not given back while the arena lives: what was made ready once is not looked at again."""
        made: set[int] = set()
        while not self._closing:
            at, size = self._coming.get()
            for step in range(-(-at // AHEAD_STEP_BYTES), (at + size) // AHEAD_STEP_BYTES):
                if self._closing or (
                    step not in made and not self._arena.prefault(step * AHEAD_STEP_BYTES, AHEAD_STEP_BYTES)
                ):
                    break  # whoever writes there hears why
                made.add(step)

    def close(self) -> None:
        """Stop the threads; no file is left."""
        self._closing = True
        if self._ahead is not None:
            self._coming.put((0, 0))
            self._ahead.join(timeout=2.0)
        if self._thread is not None:
            self._thread.join(timeout=2.0)
        self.disk.close()
