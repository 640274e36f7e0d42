"""In a rank: bring its parts of checkpoints to the run's directory, at once or beside the training."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from hpc import spi
from hpc.runs.checkpoint import Checkpoint
from hpc.runs.files import files_of
from hpc.runs.storage import relative_name
from hpc.runs.uploading import Place, flush_tree, upload
from hpc.train.events import Brought, Way


@dataclass(frozen=True)
class Part:
    """A rank's part of a checkpoint. delete: its files when they are stored. function: the user's, which stores them.

    ready: waits until the files are whole; None if they are."""

    way: Way
    checkpoint: Checkpoint
    delete: bool = False
    function: Callable[[Checkpoint, str], Checkpoint] | None = None
    ready: Callable[[], Any] | None = None


class Bringer:
    """Brings parts in the order in which they come, and tells (``put``) what has been brought."""

    def __init__(self, place: Place, put: Callable[[Brought], None]) -> None:
        self._place = place
        self._put = put
        self._pool: ThreadPoolExecutor | None = None
        self._last: Future[None] | None = None
        self._failure: BaseException | None = None
        self._lock = threading.Lock()

    def bring(self, number: int, part: Part, name: str | None, target: str | None, waits: bool) -> None:
        """Bring the part of this report: before this returns, or in a thread. Raises what goes wrong at once."""
        if waits:
            self.finish()
            self._bring(number, part, name, target)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._last = self._pool.submit(self._beside, number, part, name, target)

    def check(self) -> None:
        """Raise what went wrong beside the training, once."""
        with self._lock:
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def finish(self) -> None:
        """Wait until all is brought; raise what went wrong."""
        if self._last is not None:
            self._last.result()
        self.check()

    def _beside(self, number: int, part: Part, name: str | None, target: str | None) -> None:
        try:
            self._bring(number, part, name, target)
        except BaseException as error:
            with self._lock:
                self._failure = self._failure or error

    def _bring(self, number: int, part: Part, name: str | None, target: str | None) -> None:
        try:
            if part.ready is not None:
                part.ready()
            event = self._brought(number, part, name, target)
        except BaseException as error:
            self._put(Brought(number, failure=spi.said(error)))
            raise
        self._put(event)

    def _brought(self, number: int, part: Part, name: str | None, target: str | None) -> Brought:
        checkpoint = part.checkpoint
        if part.way == "files":
            assert target is not None
            return Brought(number, tuple(upload(checkpoint, self._place, target, part.delete)))
        if part.function is not None:
            assert name is not None
            checkpoint = self._stored_by(part.function, checkpoint, name)
            if part.delete:
                files_of(part.checkpoint._filesystem).delete_tree(part.checkpoint.path)
        if self._place.filesystem is None:
            flush_tree(checkpoint.path)
        return Brought(number, path=checkpoint.path)

    def _stored_by(self, function: Callable[[Checkpoint, str], Checkpoint], given: Checkpoint, name: str) -> Checkpoint:
        stored = function(given, name)
        if not isinstance(stored, Checkpoint):
            raise ValueError(f"checkpoint_upload_fn must return a Checkpoint, not {type(stored).__name__}")
        if stored._filesystem != self._place.filesystem or relative_name(self._place, stored.path) is None:
            raise ValueError(
                f"checkpoint_upload_fn must store the checkpoint in the run's directory, {self._place}, and return it "
                f"there, not {stored.path}: get_context().get_storage().experiment_fs_path is that directory"
            )
        return stored
