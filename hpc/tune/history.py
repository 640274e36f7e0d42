"""The trials of an experiment, rebuilt from the facts of its journal. Pure: whoever reads the file gives the facts.

A trial's state follows from its facts alone; no scheduler or searcher is asked anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hpc.runs.checkpoint import Checkpoint
from hpc.tune import records
from hpc.tune.cohort import Cohort
from hpc.tune.error import TuneError
from hpc.tune.trial import Trial


class History:
    """What the facts so far say. root: the experiment's directory; filesystem: the one that it is on.

    made: all trials, in the order in which they were made. results: all that each trial reported, if keep_results.
    noted: what the runner has noted. interrupted: trials that ended only because the experiment
    did. stopped: those that ended by the stop dict. used_s: seconds
    that drivers have had it.
    """

    def __init__(self, root: str = "", filesystem: Any = None, keep_results: bool = False) -> None:
        self.cohort = Cohort()
        self.made: list[Trial] = []
        self.results: dict[str, list[dict[str, Any]]] = {}
        self.noted: dict[str, Any] = {}
        self.interrupted: set[str] = set()
        self.stopped: set[str] = set()
        self.trainable_name = ""
        self.began_at: float | None = None
        self.used_s = 0.0
        self._since: float | None = None
        self._last = 0.0
        self._root = root.rstrip("/")
        self._filesystem = filesystem
        self._keep_results = keep_results
        self._failed: set[str] = set()
        self._known: dict[type, Callable[[Any], None]] = {
            records.Began: self._began,
            records.Added: self._added,
            records.Changed: self._changed,
            records.Result: self._result,
            records.Saved: self._saved,
            records.Dropped: self._dropped,
            records.Cloned: self._cloned,
            records.Shaped: self._shaped,
            records.Failure: self._failure,
            records.Removed: self._removed,
            records.Noted: self._note,
        }

    def apply(self, record: records.AnyRecord) -> None:
        """One more fact."""
        self._known[type(record)](record)
        self._last = record.at

    def apply_all(self, found: Iterable[tuple[int, records.AnyRecord]]) -> int:
        """All of a journal; returns the position of its end."""
        end = 0
        for position, record in found:
            self.apply(record)
            end = position
        self.stop_clock()
        return end

    def stop_clock(self) -> None:
        """No further fact of this driver comes."""
        if self._since is not None:
            self.used_s += max(0.0, self._last - self._since)
            self._since = None

    def checkpoint(self, path: str) -> Checkpoint:
        """The checkpoint of a recorded path."""
        inside = bool(self._root) and not path.startswith("/") and "://" not in path
        return Checkpoint(f"{self._root}/{path}" if inside else path, self._filesystem)

    # -------------------------------------------------------------- facts

    def _began(self, record: records.Began) -> None:
        if record.version != records.VERSION:
            raise TuneError(
                f"the journal is of version {record.version}, and this hpc.tune reads version {records.VERSION}"
            )
        self.stop_clock()
        self._since = record.at
        if self.began_at is None:
            self.began_at = record.at
        self.trainable_name = record.trainable_name
        self.interrupt()

    def interrupt(self) -> None:
        """The driver is gone: trials that ran are pending, and those that were ended with the experiment, too."""
        for trial in [*self.cohort.live.values()]:
            if trial.status == Trial.RUNNING:
                self.cohort.move(trial, Trial.PENDING)

    def _added(self, record: records.Added) -> None:
        trial = Trial(
            self.trainable_name,
            trial_id=record.trial_id,
            config=record.config,
            evaluated_params=record.evaluated_params,
            experiment_tag=record.experiment_tag,
            placement_group_factory=record.shape,
            custom_trial_name=record.name,
            path=None if record.path is None else self._absolute(record.path),
        )
        trial.is_local = self._filesystem is None
        self.cohort.add(trial)
        self.made.append(trial)
        if self._keep_results:
            self.results[trial.trial_id] = []

    def _absolute(self, path: str) -> str:
        return path if not self._root or path.startswith("/") or "://" in path else f"{self._root}/{path}"

    def _changed(self, record: records.Changed) -> None:
        trial = self.cohort.all[record.trial_id]
        if record.status == Trial.RUNNING and trial.start_time is None:
            trial.start_time = record.at
        if record.status == Trial.PENDING and record.trial_id in self._failed:
            self.cohort.add(trial)  # behind the others
        self._failed.discard(record.trial_id)
        self.cohort.move(trial, record.status)
        self.interrupted.discard(record.trial_id)
        if record.interrupted:
            self.interrupted.add(record.trial_id)
        if trial.is_finished():
            if record.status == Trial.TERMINATED and not record.interrupted:
                trial.last_result["done"] = True
            trial.settle()

    def _result(self, record: records.Result) -> None:
        trial = self.cohort.all[record.trial_id]
        metrics: dict[str, Any] = record.metrics
        metrics["trial_id"] = record.trial_id
        if trial.experiment_tag:
            metrics["experiment_tag"] = trial.experiment_tag
        metrics["config"] = trial.config
        trial.update_last_result(metrics, record.at)
        if self._keep_results:
            self.results[record.trial_id].append(metrics)
        if record.checkpoint is not None:
            self._keep(trial, record.checkpoint)
        if record.by == "stop":
            self.stopped.add(record.trial_id)
        else:
            self.stopped.discard(record.trial_id)

    def _saved(self, record: records.Saved) -> None:
        self._keep(self.cohort.all[record.trial_id], record.checkpoint)

    def _keep(self, trial: Trial, path: str) -> None:
        trial.checkpoint = self.checkpoint(path)
        trial.checkpoints = [*trial.checkpoints, (trial.checkpoint, trial.last_result)]

    def _dropped(self, record: records.Dropped) -> None:
        trial = self.cohort.all[record.trial_id]
        gone = self.checkpoint(record.checkpoint).path
        trial.checkpoints = [one for one in trial.checkpoints if one[0].path != gone]

    def _cloned(self, record: records.Cloned) -> None:
        trial = self.cohort.all[record.trial_id]
        trial.config, trial.experiment_tag = record.config, record.experiment_tag
        trial.checkpoint = self.checkpoint(record.checkpoint)

    def _shaped(self, record: records.Shaped) -> None:
        self.cohort.all[record.trial_id].placement_group_factory = record.shape

    def _failure(self, record: records.Failure) -> None:
        trial = self.cohort.all[record.trial_id]
        trial.error, trial.num_failures = record.error, record.num_failures
        self._failed.add(record.trial_id)

    def _removed(self, record: records.Removed) -> None:
        trial = self.cohort.all[record.trial_id]
        self.cohort.remove(trial)
        self.made.remove(trial)
        self.results.pop(record.trial_id, None)

    def _note(self, record: records.Noted) -> None:
        self.noted[record.key] = record.value
