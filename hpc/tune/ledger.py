"""An experiment's journal and the states beside it, from its driver: opened, written, and read to go on."""

from __future__ import annotations

import logging
import os
import pickle
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hpc import cloudpickle
from hpc.runs.files import files_of, join
from hpc.tune import records
from hpc.tune.config import ResumeConfig
from hpc.tune.engine import Engine
from hpc.tune.error import TuneError
from hpc.tune.history import History
from hpc.tune.journal import FILE, STATE_FILE, Journal, Unreadable, load_states, locked, parse, read
from hpc.tune.mirror import Mirror
from hpc.tune.resume import resume
from hpc.tune.trial import Trial

logger = logging.getLogger(__name__)

#: States are kept so often, in seconds, and less often where that takes more than one part in 20 of the time.
SNAPSHOT_S, SHARE = 10.0, 19.0
#: The key of what `hpc.tune.Tuner.restore` needs.
PLAN = "plan"


class Ledger:
    """The facts of one run of an experiment. states: gives those of scheduler, search and callbacks, unless it has to
    be asked again a little later. path: of its directory here. mirror: copies that to where its results are, on this
    file system; None: they are in it."""

    def __init__(
        self,
        path: str,
        states: Callable[[], dict[str, Any] | None],
        mirror: Mirror | None = None,
        filesystem: Any = None,
    ) -> None:
        self._path, self._state_path = join(path, FILE), join(path, STATE_FILE)
        self._states = states
        self._mirror = mirror
        self._filesystem = filesystem
        self._journal: Journal | None = None
        self._is_open = False
        self._said = ""
        self._end = 0
        self._file = -1
        #: Whether the journal has what the experiment was made with: an earlier driver may have been killed before.
        self.has_plan = False
        self._next_snapshot_s = time.monotonic() + SNAPSHOT_S

    def take_up(self, engine: Engine, how: ResumeConfig | None) -> tuple[History, Mapping[str, Any]] | None:
        """Have the journal alone, and bring the engine to where an earlier driver left it; the states that were kept
        beside. None where there was none. Raises TuneError where another driver has it, or for another trainable."""
        if self._mirror is not None:
            self._mirror.fetch()
        self._file = file = locked(self._path)
        try:
            if not os.fstat(file).st_size:
                return None
            return self._take_up(engine, how or ResumeConfig())
        except BaseException:
            os.close(file)
            raise

    def _take_up(self, engine: Engine, how: ResumeConfig) -> tuple[History, Mapping[str, Any]] | None:
        kept = load_states(self._state_path)
        history = resume(
            engine,
            self._facts(),
            time.time(),
            kept=kept,
            finished=how.finished.value,
            unfinished=how.unfinished.value,
            errored=how.errored.value,
            filesystem=self._filesystem,
            new_id=lambda: uuid.uuid4().hex[:8],
        )
        name = engine.settings.trainable_name
        if history.trainable_name and history.trainable_name != name:
            raise TuneError(
                f"{self._path} is the experiment of the trainable {history.trainable_name}, and this one is of {name}: "
                "give it another name"
            )
        for trial in history.cohort.live.values():
            if isinstance(trial.config, Unreadable):
                raise TuneError(
                    f"trial {trial.trial_id} of {self._path} cannot go on: its configuration is {trial.config}. "
                    "Give this experiment another name"
                )
        return history, kept[1]

    def _facts(self) -> Iterator[tuple[int, records.AnyRecord]]:
        for end, record in read(self._path):
            self._end = end
            if type(record) is records.Noted and record.key == PLAN:
                self.has_plan = True
            yield end, record

    def open(self) -> None:
        """Begin to write, after what `take_up` has read."""
        self._journal = Journal(self._path, self._end, self._file)
        self._is_open = True

    @property
    def journal(self) -> Journal:
        """The file."""
        assert self._journal is not None
        return self._journal

    def write(self, record: Any) -> int:
        """Append a fact; returns the position that `is_kept` takes."""
        return self.journal.write(record)

    @property
    def position(self) -> int:
        """Where the next fact will be."""
        return self.journal.end

    def is_kept(self, position: int) -> bool:
        """Whether the facts before this position are on disk."""
        return (self.journal.synced if self._mirror is None else self._mirror.copied) >= position

    def turn(self) -> None:
        """Give what was written to the operating system, and keep the states where it is time."""
        self.journal.flush()
        if time.monotonic() >= self._next_snapshot_s:
            self.keep_states()
        if self._mirror is not None:
            self._mirror.turn(self.journal.synced)
            if self._mirror.failure != self._said:
                self._said = self._mirror.failure
                if self._said:
                    logger.warning("%s is not copied to the storage: %s; it is tried again", self._path, self._said)

    def keep_states(self) -> None:
        """Keep the states as they are now. Those that cannot be kept are rebuilt from the facts."""
        began = time.monotonic()
        states = self._states()
        if states is None:
            return
        self.journal.keep(states)
        now = time.monotonic()
        self._next_snapshot_s = now + max(SNAPSHOT_S, SHARE * (now - began))

    def close(self, keep: bool = True) -> None:
        """Have all on disk. Closing again changes nothing. keep: the states, too, which have seen all facts."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            if keep:
                self.keep_states()
        finally:
            self.journal.close()
            if self._mirror is not None:
                self._mirror.close(self.journal.end)


def has_experiment(filesystem: Any, path: str) -> bool:
    """Whether there is an experiment in this directory."""
    return files_of(filesystem).exists(join(path, FILE))


def packed(plan: dict[str, Any]) -> bytes | str:
    """A plan as it is noted; a text, which says why, where it cannot be restored."""
    try:
        return bytes(cloudpickle.dumps(plan))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def noted_plan(path: str, filesystem: Any = None) -> dict[str, Any]:
    """What the experiment in this directory was made with.

    Raises FileNotFoundError where there is none, and TuneError where that cannot be read any more.
    """
    for _, record in _facts_of(path, filesystem):
        if isinstance(record, records.Noted) and record.key == PLAN:
            why = record.value
            if isinstance(why, bytes):
                try:
                    found: dict[str, Any] = pickle.loads(why)
                    return found
                except Exception as error:
                    why = f"{type(error).__name__}: {error}"
            raise TuneError(
                f"the configurations of the experiment in {path} cannot be restored: {why}. Make the Tuner as before, "
                "with this name and storage_path: it goes on"
            )
    raise FileNotFoundError(f"{path} holds no experiment that has begun")


def read_history(path: str, filesystem: Any = None) -> History:
    """All that there is of the experiment in this directory, with all results. Raises FileNotFoundError."""
    history = History(path, filesystem, keep_results=True)
    history.apply_all(_facts_of(path, filesystem))
    return history


def _facts_of(path: str, filesystem: Any) -> Iterator[tuple[int, records.AnyRecord]]:
    file = join(path, FILE)
    return parse(files_of(filesystem).read(file), file)


class Reports:
    """All reports of the trials, read when somebody wants them."""

    def __init__(self, path: str, filesystem: Any = None) -> None:
        self._path = path
        self._filesystem = filesystem
        self._history: History | None = None

    def __call__(self, trial: Trial) -> list[dict[str, Any]]:
        """All that this trial has reported, oldest first."""
        if self._history is None:
            self._history = read_history(self._path, self._filesystem)
        return self._history.results.get(trial.trial_id, [])
