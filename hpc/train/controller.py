"""One run, from the driver: starts the workers, takes their reports, stores checkpoints, starts again after failures.

It runs in the process that called ``fit``, which waits for it anyway. An actor of its own would be one more process to
place and to lose. The way through is the same for every rank: a call that waits for the rank's next event.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import hpc
from hpc import spi
from hpc.exceptions import ActorError, SessionLostError
from hpc.runs.callbacks import UserCallback
from hpc.runs.config import RunConfig
from hpc.runs.reservation import NoRoom
from hpc.runs.result import Result
from hpc.runs.storage import RunStorage, say
from hpc.train.config import ScalingConfig, TrainRunContext
from hpc.train.errors import ControllerError, Resized, TrainingFailedError, WorkerGroupError, WorkerStartError
from hpc.train.follow import Follower
from hpc.train.group import RankGroup
from hpc.train.loop import Work
from hpc.train.pilot import Pilot, drained
from hpc.train.rank_output import keep_output
from hpc.train.ranks import Identity, slice_environment, torchrun_environment
from hpc.train.retries import Retries
from hpc.train.room import Patience, Room
from hpc.train.telling import TrainTelling
from hpc.train.validating import Validator

#: Workers that have died while they were started are started again after this time, then after twice as much, and so
#: on, up to so many times as much.
START_PAUSE_S = 1.0
MAX_PAUSES = 30


class Backend(Protocol):
    """What makes the workers one group: torch's process group, for example."""

    def on_start(self, group: RankGroup) -> None:
        """The ranks are known and have their environment; the training function has not started."""

    def on_end(self, group: RankGroup) -> None:
        """All ranks' functions have returned."""


class Controller:
    """One call of ``fit``."""

    def __init__(
        self,
        work: Work,
        scaling: ScalingConfig,
        run: RunConfig,
        backend: Backend,
        watchers: Sequence[UserCallback],
    ) -> None:
        self.scaling = scaling
        self.backend = backend
        name = run.name or _new_name()
        self.named = bool(run.name)  # a run that has no name is not found again
        self.run_config = replace(run, name=name)
        self.context = TrainRunContext(self.run_config, scaling, work.config)
        self.watchers = [*(run.callbacks or ()), *watchers]
        filesystem, path = self.run_config.storage()
        self.storage = RunStorage(path, name, self.run_config.checkpoint_config, filesystem)
        self.validator = Validator(self.storage, work.validation)
        self.room = Room(scaling, self._look, self._shrunk)
        self.telling = TrainTelling(name, self.storage, self.room)
        self.follower = Follower(self.storage, self.context, self.watchers, self.validator, self.telling)
        self.attempt = 0
        self._work = work
        self.retries = Retries(self.run_config.failure_config)
        self.pilot: Pilot | None = None

    def run(self) -> Result:
        """Until all ranks have returned. Raises TrainingFailedError when they fail once too often."""
        # What can never fit, or be sent, leaves nothing behind.
        self.room.check()
        work = hpc.put(self._work)
        try:
            self.storage.open()
            self.validator.open()
        except OSError as error:
            failed = OSError(f"the run's directory {self.storage.path} cannot be used: {error}")
            raise ControllerError(failed) from error
        self.telling.begin()
        try:
            result = self._until_done(work)
        except BaseException as error:
            self.telling.end(error)
            raise
        self.telling.end(None)
        return result

    def _until_done(self, work: Any) -> Result:
        try:
            while True:
                try:
                    value = self._attempt(work)
                    self.room.give_back()  # what is validated needs room, too
                    self.validator.finish()
                    return self.storage.result(value)
                except Resized as change:
                    self._again(str(change))
                except TrainingFailedError as error:
                    self._on_failure(error)
                self.attempt += 1
        except (TrainingFailedError, SessionLostError):
            raise
        except Exception as error:  # a callback's, or one that is told nowhere else
            raise ControllerError(error) from error
        finally:
            with contextlib.ExitStack() as ends:  # each is done, also where the session is lost, or at a second Ctrl-C
                for end in (self.storage.close, self.validator.close, self.room.give_back):
                    ends.callback(end)

    def _on_failure(self, error: TrainingFailedError) -> None:
        """Raise the error, or return to start again."""
        failures = error.worker_failures if isinstance(error, WorkerGroupError) else {}
        if failures:
            for watcher in self.watchers:
                watcher.after_exception(self.context, failures)
        preempted = self.pilot is not None and self.pilot.were_preempted(failures)
        counted = self.retries.again(error, preempted)
        if not counted:
            spi.flush_printed()  # the error is to be the last on the screen
            raise error
        self._again(str(error), f" ({counted})")
        if isinstance(error, ControllerError):
            time.sleep(START_PAUSE_S * min(self.retries.failed_starts, MAX_PAUSES))

    def _again(self, why: str, counted: str = "") -> None:
        self.storage.rewind()
        self.telling.again(why, len(self.storage.history))
        latest = self.storage.latest
        start = f"from {os.path.basename(latest.path)}" if latest is not None else "from the beginning"
        say(f"{why}\ntrain: starting again {start}{counted}")

    def _attempt(self, work: Any) -> Any:
        """Start the workers and follow them to their end; rank 0's return value."""
        self.pilot = None
        self.telling.attempt(self.attempt)
        group = RankGroup(self.room.take(), self.run_config.worker_runtime_env)
        try:
            try:
                self._start(group)
            except WorkerGroupError as error:
                raise ControllerError(_why_not_started(error)) from error
            parts = self._divided(group)
            group.gather([actor.start.remote(work, part) for actor, part in zip(group.actors, parts, strict=True)])
            group.begin_watch(self.run_config.hang_report_s, self.run_config.hang_end_s, say)
            self.pilot = Pilot(group.identities, self.room, self.scaling, self.run_config.failure_config, self.named)
            value = self.follower.follow(group, self.pilot)
            self.backend.on_end(group)
            group.end()
        except BaseException as error:
            group.kill()
            if isinstance(error, WorkerGroupError):
                self._keep_output(group)
            raise
        return value

    def _divided(self, group: RankGroup) -> list[Mapping[str, Any] | None]:
        """Each rank's own datasets, where a `configure` of the user's says; else None."""
        count, config = len(group.actors), self._work.data_config
        if config is None:
            return [None] * count
        datasets = {name: hpc.get(data) for name, data in self._work.datasets.items()}
        nodes = [identity.node for identity in group.identities]
        parts = config.configure(datasets, count, worker_handles=list(group.actors), worker_node_ids=nodes)
        if not isinstance(parts, list) or len(parts) != count or not all(isinstance(part, dict) for part in parts):
            raise TypeError(f"{type(config).__name__}.configure must return a list of {count} dicts, one for each rank")
        return list(parts)

    def _keep_output(self, group: RankGroup) -> None:
        """What the ranks wrote, in the run's directory if the nodes share that."""
        outputs = group.watch.outputs() if group.watch is not None and self.storage.place.filesystem is None else {}
        kept = keep_output(outputs, self.storage.path, self.attempt)
        if kept:
            say(f"what the ranks wrote is in {kept}")

    def _start(self, group: RankGroup) -> None:
        """Make ranks of the workers, and one group of the ranks."""
        directories = {str(node["NodeID"]): os.path.dirname(node["RayletSocketName"]) for node in hpc.nodes()}
        latest = self.storage.latest
        patience = Patience()
        group.start(
            lambda rank: self._environment(rank, directories.get(rank.node, "/tmp")),
            self.storage.place,
            self.attempt,
            latest.path if latest is not None else None,
            lambda there: self.room.wait_for_workers(patience, there),
        )
        self.backend.on_start(group)

    def _look(self) -> None:
        """Room or workers are waited for. Raises Drained when the session ends before they are there."""
        if self.named and hpc.get_runtime_context().draining() is not None:
            drained("the session drains, and the workers are not there: the run goes on in the next one")

    def _shrunk(self, error: NoRoom) -> None:
        """Nodes are lost for good. Raises Drained: the next job has all of its nodes."""
        if self.named:
            latest = self.storage.latest
            start = f"from {os.path.basename(latest.path)}" if latest is not None else "from its beginning"
            drained(f"{error}: nodes were lost. In the next session the run goes on {start}")

    def _environment(self, rank: Identity, directory: str) -> dict[str, str]:
        run_id = str(self.run_config.name)
        error_file = os.path.join(directory, f"train-{self.storage.place.token}-{self.attempt}-{rank.world_rank}.json")
        env = torchrun_environment(rank, run_id, self.attempt, self.run_config.failure_config.max_failures, error_file)
        return env | slice_environment(rank, self.scaling.workers_per_slice)


def _why_not_started(error: WorkerGroupError) -> Exception:
    """The failure of a start. Workers that died may do better the next time, what was raised will be raised again."""
    died = any(isinstance(failure, ActorError) for failure in error.worker_failures.values())
    return WorkerStartError(str(error)) if died else next(iter(error.worker_failures.values()))


def _new_name() -> str:
    return f"train-{time.strftime('%Y-%m-%d_%H-%M-%S')}-{os.urandom(2).hex()}"
