"""One run, from the driver: starts the workers, takes their reports, stores checkpoints, starts again after failures.

It runs in the process that called ``fit``, which waits for it anyway. An actor of its own would be one more process to
place and to lose. The way through is the same for every rank: a call that waits for the rank's next event.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import hpc
from hpc import spi
from hpc.runs.callbacks import UserCallback
from hpc.runs.config import RunConfig
from hpc.runs.reservation import NoRoom, Request, Reservation, check_possible
from hpc.runs.result import Result
from hpc.runs.storage import RunStorage, say
from hpc.runs.worker_group import LOOK_S
from hpc.train.config import ScalingConfig, TrainRunContext
from hpc.train.errors import ControllerError, WorkerGroupError
from hpc.train.follow import Follower, drained
from hpc.train.group import RankGroup
from hpc.train.loop import Work
from hpc.train.rank_output import keep_output
from hpc.train.ranks import Identity, torchrun_environment
from hpc.train.validating import Validator

#: After this time without room the driver says what it waits for, then after three times as long, and so on.
PATIENCE_S = 10.0


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
        self.follower = Follower(self.storage, self.context, self.watchers, self.validator, _drains, self.named)
        self.attempt = 0
        self._work = work
        self._room: Reservation | None = None

    def run(self) -> Result:
        """Until all ranks have returned. Raises TrainingFailedError when they fail once too often."""
        self._check_possible()  # what can never fit leaves nothing behind
        try:
            self.storage.open()
            self.validator.open()
        except OSError as error:
            failed = OSError(f"the run's directory {self.storage.path} cannot be used: {error}")
            raise ControllerError(failed) from error
        work = hpc.put(self._work)
        try:
            while True:
                try:
                    value = self._attempt(work)
                    self._give_back()  # what is validated needs room, too
                    self.validator.finish()
                    return self.storage.result(value)
                except WorkerGroupError as error:
                    self._on_failure(error)
                self.attempt += 1
        finally:
            self._give_back()
            self.validator.close()
            self.storage.close()

    def _on_failure(self, error: WorkerGroupError) -> None:
        """Raise the error, or return to start again."""
        for watcher in self.watchers:
            watcher.after_exception(self.context, error.worker_failures)
        most = self.run_config.failure_config.max_failures
        if 0 <= most <= self.attempt:
            spi.flush_printed()  # the error is to be the last on the screen
            raise error
        self.storage.rewind()
        latest = self.storage.latest
        start = f"from {os.path.basename(latest.path)}" if latest is not None else "from the beginning"
        of = f" of at most {most}" if most > 0 else ""
        say(f"{error}\ntrain: starting again {start} (failure {self.attempt + 1}{of})")

    def _attempt(self, work: Any) -> Any:
        """Start the workers and follow them to their end; rank 0's return value."""
        room = self._reserve()
        directories = {str(node["NodeID"]): os.path.dirname(node["RayletSocketName"]) for node in hpc.nodes()}
        latest = self.storage.latest
        group = RankGroup(room, self.run_config.worker_runtime_env)
        patience = Patience()
        try:
            group.start(
                lambda rank: self._environment(rank, directories.get(rank.node, "/tmp")),
                self.storage.place,
                self.attempt,
                latest.path if latest is not None else None,
                lambda there: self._look(patience, lambda: f"{there} of {room.request} have started"),
            )
            self.backend.on_start(group)
            group.gather([actor.start.remote(work) for actor in group.actors])
            group.begin_watch(self.run_config.hang_report_s, self.run_config.hang_end_s, say)
            value = self.follower.follow(group)
            self.backend.on_end(group)
            group.end()
        except BaseException as error:
            group.kill()
            if isinstance(error, WorkerGroupError):
                self._keep_output(group)
            raise
        return value

    def _keep_output(self, group: RankGroup) -> None:
        """What the ranks wrote, in the run's directory if the nodes share that."""
        outputs = group.watch.outputs() if group.watch is not None and self.storage.place.filesystem is None else {}
        kept = keep_output(outputs, self.storage.path, self.attempt)
        if kept:
            say(f"what the ranks wrote is in {kept}")

    def _request(self) -> Request:
        scaling = self.scaling
        each, strategy = scaling.worker_resources, scaling.placement_strategy
        return Request(scaling.world_size, each, strategy, scaling.selectors)

    def _check_possible(self) -> None:
        try:
            check_possible(self._request())
        except NoRoom as error:
            raise ControllerError(error) from None

    def _reserve(self) -> Reservation:
        """Room for all workers. What an earlier attempt had is kept: nobody else can take it meanwhile."""
        if self._room is None:
            self._room = Reservation(self._request())
        patience = Patience()
        while not self._room.wait(LOOK_S):
            self._look(patience, self._why_waiting)
        return self._room

    def _give_back(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.release()

    def _look(self, patience: Patience, text: Callable[[], str]) -> None:
        """Workers are waited for: say so now and then. Raises ControllerError when there can be no room for them any
        more, and Drained when the session ends before there is some."""
        self._check_possible()
        if self.named and hpc.get_runtime_context().draining() is not None:
            drained("the session drains, and the workers are not there: the run goes on in the next one")
        if patience.is_over():
            say(text())

    def _why_waiting(self) -> str:
        request = self._request()
        why = request.why_not(spi.rooms())
        return f"there is no room yet for {request}" + (f": {why}" if why else "")

    def _environment(self, rank: Identity, directory: str) -> dict[str, str]:
        run_id = str(self.run_config.name)
        error_file = os.path.join(directory, f"train-{self.storage.place.token}-{self.attempt}-{rank.world_rank}.json")
        return torchrun_environment(rank, run_id, self.attempt, self.run_config.failure_config.max_failures, error_file)


class Patience:
    """Says when it is time for a word about what is waited for, ever less often."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._next_s = PATIENCE_S

    def is_over(self) -> bool:
        """Whether it is time; the next time is three times as far from the beginning."""
        if time.monotonic() - self._began < self._next_s:
            return False
        self._next_s *= 3
        return True


def _drains() -> bool:
    return hpc.get_runtime_context().draining() is not None


def _new_name() -> str:
    return f"train-{time.strftime('%Y-%m-%d_%H-%M-%S')}-{os.urandom(2).hex()}"
