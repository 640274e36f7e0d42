"""The actor of a trial: it runs a class, step by step, or a function, from report to report.

One call is under way at a time, and it returns what has happened since the last one. An actor may run one trial after
the other. Each new process imports this, so it imports little.
"""

from __future__ import annotations

import contextlib
import copy
import os
import platform
import sys
import threading
import time
import weakref
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import cloudpickle

import hpc
from hpc.runs.around import around
from hpc.runs.drained import Drained
from hpc.tune.autokeys import AutoKeys, check_metrics
from hpc.tune.context import TrialSession, state
from hpc.tune.error import TrialDrained
from hpc.tune.placement import PlacementGroupFactory
from hpc.tune.rendezvous import ENDED, Ended, Rendezvous, Report
from hpc.tune.trainable import FunctionTrainable, Saving, Trainable, call_function

if TYPE_CHECKING:
    from hpc.runs.checkpoint import Checkpoint
    from hpc.tune.storing import Store

#: A start returns after this time at the latest, so that the driver knows that the trial runs.
FIRST_RESULT_S = 0.05
#: A function that is to end has this time, until its process is used for another trial (or not any more).
THREAD_TIMEOUT_S = 2.0
#: What a trainer says of its trial while it waits for room.
IN_THE_WAY = (
    ". It was started by trial {}, which holds {} for itself, as the other trials that run do: they can be in each "
    "other's way for ever. Give each trial the room of its ranks, too: tune.with_resources(trainable, "
    "tune.PlacementGroupFactory([{{}}, one bundle for each rank])), or limit TuneConfig(max_concurrent_trials=...)"
)
#: In a session's directory on a node: where trials have their working directories.
WORKING = "tune"
#: The end of the name of the directory beside, which has what a trial prints until it is brought to the results.
OUTPUT = ".out"


@dataclass(frozen=True)
class Experiment:
    """What all trials of an experiment are told. Its directory is storage_path/name, on a file system of pyarrow's or
    of this machine (None); its marker file has the token.

    chdir: whether a trial's working directory becomes its process's. ahead: whether functions may run ahead of the
    driver, because nothing but ``stop`` (results at which a trial ends) can end them. ends: the key of the session that
    is set when the experiment winds down.
    """

    storage_path: str
    name: str
    token: str
    filesystem: Any = None
    chdir: bool = True
    ahead: bool = False
    stop: Mapping[str, float] = field(default_factory=dict)
    log_files: tuple[str, str] | None = None
    artifacts: bool = False
    artifacts_on_checkpoint: bool = True
    ends: str = ""

    @property
    def path(self) -> str:
        """Its directory."""
        return f"{self.storage_path.rstrip('/')}/{self.name}"


class Work(NamedTuple):
    """One trial, from where it is to begin. ``directory``: its own, within the experiment's; next_index: of its next
    checkpoint; metrics: the result of the checkpoint that it begins from."""

    trial_id: str
    name: str
    directory: str
    config: dict[str, Any]
    resources: PlacementGroupFactory
    checkpoint: str | None = None
    metrics: dict[str, Any] = {}
    next_index: int = 0


class Begun(NamedTuple):
    """The trial runs in this process."""

    pid: int
    host: str
    node: str


Happening = Begun | Report | Ended


class TrialActor:
    """Runs trials of one experiment, one at a time."""

    def __init__(self, trainable: bytes, experiment: Experiment) -> None:
        self._cls: type[Trainable] = cloudpickle.loads(trainable)
        self._experiment = experiment
        self._home = os.getcwd()
        self._instance: Trainable | None = None
        self._run: Rendezvous | None = None
        self._keys = AutoKeys("")
        self._work: Work | None = None
        self._kept: Store | None = None
        self._output = contextlib.ExitStack()
        self._ran = False
        self._reported_s = 0.0

    def ready(self) -> None:
        """Return when the actor is there."""

    def start(self, work: Work) -> list[Happening]:
        """Begin a trial; what has happened until its first result, or soon after.

        Raises what the trainable raises, and RuntimeError if a class that ran another trial cannot be reset.
        """
        experiment = self._experiment
        directory = f"{experiment.path}/{work.directory}"
        here = hpc.get_runtime_context()
        working = os.path.join(here.get_temp_dir(), WORKING, experiment.name, work.directory)
        checkpoint = self._checkpoint(work)
        session = state.session = TrialSession(
            experiment.name, work.name, work.trial_id, work.resources, directory, working, experiment.filesystem,
            checkpoint, work.metrics, ends=experiment.ends,
        )  # fmt: skip
        around.hint = IN_THE_WAY.format(work.name, work.resources.head) if work.resources.is_plain else ""
        os.makedirs(working, exist_ok=True)
        if experiment.chdir:
            os.chdir(working)
        self._work, self._kept = work, None
        self._tee(directory if experiment.filesystem is None else working + OUTPUT, experiment.log_files)
        begun: list[Happening] = [Begun(os.getpid(), platform.node(), here.get_node_id())]
        if issubclass(self._cls, FunctionTrainable):
            return begun + self._start_function(session, work)
        self._start_class(work, checkpoint)
        return begun

    def _start_function(self, session: TrialSession, work: Work) -> list[Happening]:
        self._keys = AutoKeys(work.trial_id)
        if work.checkpoint is not None:
            self._keys.restored(work.metrics)
        function: Any = self._cls.function  # type: ignore[attr-defined]
        config = work.config
        stop = self._experiment.stop
        meets = (lambda metrics: any(_reaches(metrics, key, bound) for key, bound in stop.items())) if stop else None
        run = self._run = Rendezvous(lambda: call_function(function, config), self._experiment.ahead, meets)
        older = self._threads_before()
        session.report = lambda metrics, checkpoint: self._report(run, older, metrics, checkpoint)
        self._reported_s = time.monotonic()
        run.start()
        return self._taken(run.take(FIRST_RESULT_S))

    def _start_class(self, work: Work, checkpoint: Checkpoint | None) -> None:
        if self._instance is None:
            self._instance = self._cls(copy.deepcopy(work.config))
        elif not self._instance.reset(copy.deepcopy(work.config)):
            raise RuntimeError(
                f"{self._cls.__name__}.reset_config has not returned True: with reuse_actors=True it has to begin the "
                "next trial with the configuration that it is given"
            )
        if checkpoint is not None:
            self._instance.restore(Saving(checkpoint, work.metrics))

    def next(self) -> list[Happening]:
        """Let the trial go on; its next results. Raises what the trial raises."""
        if self._run is not None:
            self._run.go_on()
            return self._taken(self._run.take())
        assert self._instance is not None
        try:
            result = self._instance.train()
        except Drained as end:
            raise TrialDrained(str(end)) from end
        check_metrics(result)
        self._flush()
        return [Report(result)]

    def save(self) -> str | None:
        """Have a class save; the name of its checkpoint's directory. None for a function, which reports its own."""
        if self._instance is None:
            return None
        saving = self._instance.save()
        name = self._store().keep(saving.checkpoint, take=True)
        self._keep_artifacts(self._experiment.artifacts_on_checkpoint)
        return name

    def stop(self, last: bool) -> bool:
        """End the trial; whether the process can run another one. last: there will be none, so a class cleans up."""
        free = True
        if self._run is not None:
            free = self._run.stop(float(os.environ.get("TUNE_FUNCTION_THREAD_TIMEOUT_S", THREAD_TIMEOUT_S)))
        if last:
            self.finish()
        self._leave()
        return free

    def finish(self) -> None:
        """No further trial comes: a class cleans up."""
        if self._instance is not None:
            instance, self._instance = self._instance, None
            instance.stop()

    def _leave(self) -> None:
        """The trial is over: keep what it has written, and be ready for another one."""
        session = state.session
        self._flush()
        self._keep_output()
        self._keep_artifacts(True)
        if session is not None:
            with contextlib.suppress(OSError):
                os.chdir(self._home)
            with contextlib.suppress(OSError):
                os.rmdir(session.working)  # stays if the trial has left something in it
        self._run = state.session = None
        self._output.close()

    def _taken(self, found: list[Report | Ended]) -> list[Happening]:
        """A function that has returned is done with: nobody need call to stop it."""
        if found and isinstance(found[-1], Ended):
            self._leave()
        return list(found)

    def _threads_before(self) -> Collection[threading.Thread]:
        """The threads that are none of the trial's, which begins: those that earlier ones in this process have left."""
        older = weakref.WeakSet(threading.enumerate()) if self._ran else ()
        self._ran = True
        return older

    def _report(
        self,
        run: Rendezvous,
        older: Collection[threading.Thread],
        metrics: dict[str, Any],
        checkpoint: Checkpoint | None,
    ) -> None:
        """In the function's thread."""
        if run.is_over or (older and threading.current_thread() in older):
            raise RuntimeError(ENDED)
        check_metrics(metrics)
        name = self._store().keep(checkpoint) if checkpoint is not None else None
        result = self._keys.fill(metrics, time.monotonic() - self._reported_s)
        result["checkpoint_dir_name"] = name
        if name is not None:
            result["should_checkpoint"] = True
            self._keep_artifacts(self._experiment.artifacts_on_checkpoint)
        self._flush()
        run.put(Report(result, name))
        self._reported_s = time.monotonic()

    def _checkpoint(self, work: Work) -> Checkpoint | None:
        if work.checkpoint is None:
            return None
        from hpc.runs.checkpoint import Checkpoint

        return Checkpoint(work.checkpoint, self._experiment.filesystem)

    def _store(self) -> Store:
        """Where the trial's checkpoints go. Most trials have none, and need none of this."""
        if self._kept is None:
            from hpc.runs.uploading import Place
            from hpc.tune.storing import Store

            assert self._work is not None
            told = self._experiment
            place = Place(told.storage_path, told.name, told.token, told.filesystem)
            self._kept = Store(place, f"{told.path}/{self._work.directory}", self._work.next_index)
        return self._kept

    def _keep_artifacts(self, due: bool) -> None:
        session = state.session
        if due and self._experiment.artifacts and session is not None:
            self._store().keep_artifacts(session.working)

    def _keep_output(self) -> None:
        """On a file system where nothing can be written bit by bit, what was printed gets there when the trial ends."""
        names, session = self._experiment.log_files, state.session
        if names is not None and session is not None and session.filesystem is not None:
            self._output.close()
            for name in dict.fromkeys(names):
                self._store().add(os.path.join(session.working + OUTPUT, name), name)

    def _tee(self, directory: str, names: tuple[str, str] | None) -> None:
        """Have what is printed go to files of the trial's directory, too."""
        self._output.close()
        if names is None:
            return
        os.makedirs(directory, exist_ok=True)
        out, err = (os.path.join(directory, name) for name in names)
        first = self._output.enter_context(open(out, "a", encoding="utf-8"))
        second = first if err == out else self._output.enter_context(open(err, "a", encoding="utf-8"))
        self._output.enter_context(contextlib.redirect_stdout(_Tee(sys.stdout, first)))
        self._output.enter_context(contextlib.redirect_stderr(_Tee(sys.stderr, second)))

    def _flush(self) -> None:
        if self._experiment.log_files is not None:
            sys.stdout.flush()
            sys.stderr.flush()


class _Tee:
    """A stream that is written to two."""

    def __init__(self, shown: Any, kept: IO[str]) -> None:
        self._shown, self._kept = shown, kept

    def write(self, text: str) -> int:
        """Write to both."""
        self._kept.write(text)
        written: int = self._shown.write(text)
        return written

    def flush(self) -> None:
        """Flush both."""
        self._kept.flush()
        self._shown.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shown, name)


def _reaches(metrics: Mapping[str, Any], key: str, bound: float) -> bool:
    """Whether a result ends its trial; where that cannot be said here, it is left to the driver."""
    value: Any = metrics
    if key not in metrics:
        for part in key.split("/"):
            value = value.get(part) if isinstance(value, dict) else None
    else:
        value = metrics[key]
    try:
        return bool(value >= bound)
    except TypeError:
        return True
