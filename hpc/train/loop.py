"""One rank's running training function, and what that function can call: report, get_context, get_checkpoint.

The function runs in a thread of its own. What it reports becomes an event, which the driver takes by a call that waits
for it. The driver's answers (`hpc.train.events`) come by later calls, and let ``report`` go on.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import cloudpickle

from hpc import spi
from hpc.runs.checkpoint import Checkpoint, named
from hpc.runs.storage import relative_name
from hpc.runs.uploading import Place
from hpc.runs.validation import (
    CheckpointConsistencyMode,
    CheckpointUploadMode,
    ReportedCheckpoint,
    ValidationConfig,
    ValidationTaskConfig,
)
from hpc.train.bringing import Bringer, Part
from hpc.train.events import (
    Answered,
    Asked,
    Begun,
    Complete,
    Event,
    Exchanged,
    Joined,
    Order,
    Raised,
    Reported,
    Returned,
)
from hpc.train.metrics import check_metrics
from hpc.train.preemption import PreemptionInfo
from hpc.train.ranks import Identity
from hpc.train.rounds import PREEMPTION_INFO
from hpc.train.shards import DataConfig


@dataclass(frozen=True)
class Work:
    """What every rank of a run is given. split: see `hpc.train.shards`. data_config: one that divides the datasets in
    a way of its own."""

    function: Callable[..., Any]
    config: dict[str, Any] | None = None
    datasets: Mapping[str, Any] = field(default_factory=dict)
    split: frozenset[str] = frozenset()
    validation: ValidationConfig | None = None
    data_config: DataConfig | None = None


class TrainContext:
    """What the training function can ask about its rank."""

    def __init__(self, identity: Identity, place: Place) -> None:
        self._identity = identity
        self._place = place

    def get_world_size(self) -> int:
        """The number of ranks."""
        return self._identity.world_size

    def get_world_rank(self) -> int:
        """This rank."""
        return self._identity.world_rank

    def get_local_rank(self) -> int:
        """This rank among those on its node."""
        return self._identity.local_rank

    def get_local_world_size(self) -> int:
        """The number of ranks on this node."""
        return self._identity.local_world_size

    def get_node_rank(self) -> int:
        """This node among those that have ranks."""
        return self._identity.node_rank

    def get_experiment_name(self) -> str:
        """The run's name."""
        return self._place.experiment_dir_name

    def should_checkpoint(self) -> bool:
        """Whether the next report should have a checkpoint: the session ends soon, nodes are taken away, or the run is
        to be resized. After each report all ranks are told the same. When that checkpoint is stored the run ends, or
        begins anew with it."""
        return current_loop("get_context").must_save

    def get_storage(self) -> Place:
        """Where results go: storage_path, experiment_dir_name, experiment_fs_path."""
        return self._place


class Loop:
    """One rank, in its worker process."""

    def __init__(self, identity: Identity, place: Place, attempt: int, checkpoint: str | None) -> None:
        self.identity = identity
        self.place = place
        self.attempt = attempt
        self.context = TrainContext(identity, place)
        self.checkpoint = self._named(checkpoint) if checkpoint else None
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.reports = 0
        self.must_save = False
        self.work = Work(print)
        self.own_datasets: Mapping[str, Any] | None = None
        self._process = os.getpid()
        self._calls = 0
        self._asks = 0
        self._told = 0  # the latest report of which the driver has said something
        self._stored = 0  # the latest report that is known to have been completed with a checkpoint
        self._answers: dict[tuple[type[Order], int], Order] = {}
        self._changed = threading.Condition()
        self._bringer = Bringer(place, self.events.put)

    def start(self, work: Work, own_datasets: Mapping[str, Any] | None = None) -> None:
        """Run the function in a thread that knows the call that started it."""
        self.work, self.own_datasets = work, own_datasets
        context = contextvars.copy_context()
        run = threading.Thread(target=context.run, args=(self._run,), name="train", daemon=True)
        run.start()

    def _run(self) -> None:
        try:
            value = call_loop(self.work.function, self.work.config)
            if self.identity.world_rank == 0:
                cloudpickle.dumps(value)
            self._bringer.finish()
            event: Event = Returned(value if self.identity.world_rank == 0 else None)
        except BaseException as error:
            event = self._ended_by(error)
        self._end_datasets()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the function may have closed it, or put another in its place
                stream.flush()
        self.events.put(event)  # always: the driver and all other ranks wait for it

    def _end_datasets(self) -> None:
        """The other ranks that share a dataset go on without this one."""
        for own in (self.own_datasets or {}).values():
            if hasattr(own, "end"):
                with contextlib.suppress(Exception):  # what shares it may have ended with the session
                    own.end()

    def _ended_by(self, error: BaseException) -> Event:
        if not isinstance(error, SystemExit) or error.code not in (0, None):
            return describe_error(error)
        try:
            self._bringer.finish()
        except BaseException as failure:
            return describe_error(failure)
        return Returned(None)

    def report(
        self,
        metrics: dict[str, Any],
        part: Part | None,
        mode: CheckpointUploadMode = CheckpointUploadMode.SYNC,
        dir_name: str | None = None,
        validation: dict[str, Any] | None = None,
    ) -> None:
        """Meet all ranks in this report; bring this rank's part of the checkpoint, or have it brought."""
        if not isinstance(metrics, dict):
            raise TypeError(f"report() takes a dict of metrics, not {type(metrics).__name__}")
        check_metrics(metrics, "metrics")
        self._need_own_process("report")
        self._bringer.check()
        self._forget(Begun, Complete)
        waits = mode is not CheckpointUploadMode.ASYNC
        number = self.reports + 1
        self.reports = number
        way = part.way if part is not None else None
        self.events.put(Reported(number, dict(metrics), way, dir_name, waits, validation))
        answer = self._wait(number, Begun, Complete)
        if isinstance(answer, Complete):
            return
        if part is not None:
            self._bringer.bring(number, part, answer.name, answer.path, waits)
        # Ranks without a part wait for the others', unless those are brought beside the training.
        if waits and (part is not None or (answer.name is not None and answer.waits)):
            self._wait(number, Complete)

    def exchange(self, what: str, value: Any) -> Any:
        """Meet all ranks; what rank 0 gave, or what the driver knows."""
        self._need_own_process(what)
        self._forget(Exchanged)
        self._calls += 1
        number = self._calls
        data = cloudpickle.dumps(value) if self.identity.world_rank == 0 else None
        self.events.put(Joined(number, what, data))
        answer: Any = self._wait(number, Exchanged)
        return cloudpickle.loads(answer.data) if answer.data is not None else None

    def ask(self, validated: bool, timeout_s: float | None) -> list[ReportedCheckpoint]:
        """The checkpoints that were reported, once all are complete; those there are, after the time."""
        self._need_own_process("get_all_reported_checkpoints")
        self._forget(Answered)
        self._asks += 1
        self.events.put(Asked(self._asks, self.reports, validated))
        answer: Any = self._wait(self._asks, Answered, timeout_s=timeout_s)
        if answer is None:
            self._asks += 1
            self.events.put(Asked(self._asks, 0, False))
            answer = self._wait(self._asks, Answered)
        found: list[ReportedCheckpoint] = answer.value
        return found

    def tell(self, orders: Sequence[Order]) -> None:
        """What the driver says. Calls may overtake each other: each answer has the number of what it answers."""
        with self._changed:
            for order in orders:
                self._answers[type(order), order.number] = order
                if isinstance(order, (Begun, Complete)) and order.number >= self._told:
                    self._told, self.must_save = order.number, order.must_save
                if isinstance(order, Complete) and order.checkpoint is not None and order.number > self._stored:
                    self._stored, self.checkpoint = order.number, self._named(order.checkpoint)
            self._changed.notify_all()

    def _wait(self, number: int, *kinds: type[Order], timeout_s: float | None = None) -> Any:
        """The answer of one of these kinds; None after the time."""

        def there() -> Order | None:
            return next((self._answers[kind, number] for kind in kinds if (kind, number) in self._answers), None)

        with self._changed:
            self._changed.wait_for(there, timeout_s)
            return there()

    def _need_own_process(self, what: str) -> None:
        """The driver speaks to the rank's own process: in a child of it nobody would ever answer."""
        if os.getpid() != self._process:
            raise RuntimeError(
                f"hpc.train.{what}() was called in a process that the rank has forked, as workers of a DataLoader are: "
                "call it in the training function"
            )

    def _forget(self, *kinds: type[Order]) -> None:
        """Answers of these kinds are not asked for any more."""
        with self._changed:
            self._answers = {key: one for key, one in self._answers.items() if key[0] not in kinds}

    def _named(self, path: str) -> Checkpoint:
        return named(path, self.place.filesystem, self.place.token)


def call_loop(function: Callable[..., Any], config: dict[str, Any] | None) -> Any:
    """Call the training function, with its configuration if it takes one. Without one a default of its own counts."""
    required, most = parameter_counts(function)
    if config is None:
        return function({}) if required else function()
    return function(config) if most else function()


def within(context: Callable[[], Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, called inside of such a context; its signature stays. Tracebacks begin below this file."""
    if context is nullcontext:
        return function

    @functools.wraps(function)
    def inside(*args: Any) -> Any:
        with context():
            return function(*args)

    return inside


def parameter_counts(function: Callable[..., Any]) -> tuple[int, int]:
    """How many positional arguments the function must be given, and how many it can be; ``*args`` counts as one that
    it must, as with Ray."""
    one = inspect.Parameter
    found = [
        p for p in inspect.signature(function).parameters.values()
        if p.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD, one.VAR_POSITIONAL)
    ]  # fmt: skip
    return sum(p.default is one.empty for p in found), len(found)


def describe_error(error: BaseException) -> Raised:
    """What the driver is told of an exception: its traceback from the user's first frame, and itself. Never fails."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename == __file__ and frame.tb_next is not None:
        frame = frame.tb_next
    return Raised(spi.traceback_text(error, frame), spi.said(error), spi.pickled_error(error))


class _State:
    """The loop that this process runs, if it is a training worker."""

    loop: Loop | None = None


state = _State()


def current_loop(what: str) -> Loop:
    """The loop of this process. Raises RuntimeError outside of a training function."""
    if state.loop is None:
        raise RuntimeError(f"hpc.train.{what}() can only be called in a training function that a trainer runs")
    return state.loop


def report(
    metrics: dict[str, Any],
    checkpoint: Checkpoint | None = None,
    checkpoint_dir_name: str | None = None,
    checkpoint_upload_mode: CheckpointUploadMode = CheckpointUploadMode.SYNC,
    delete_local_checkpoint_after_upload: bool | None = None,
    checkpoint_upload_fn: Callable[[Checkpoint, str], Checkpoint] | None = None,
    validation: bool | ValidationTaskConfig = False,
) -> None:
    """Report metrics, and a checkpoint if there is one. Every rank must call it equally often: it is a barrier.

    Rank 0's metrics are kept. The files of all ranks' checkpoints are copied into one directory of the run,
    checkpoint_000000 or checkpoint_dir_name. checkpoint_upload_mode SYNC: it is there when this returns. ASYNC: it
    comes beside the training, in the order of the reports. What goes wrong then is raised by the next report, or at the
    end. NO_UPLOAD: the checkpoint is in the run's directory already.

    delete_local_checkpoint_after_upload: with ASYNC it is, unless this is False. Files on the same file system are
    moved then. checkpoint_upload_fn: called with the checkpoint and the name of its directory, it stores the files in
    the run's directory and returns the checkpoint there. validation: True, or a ValidationTaskConfig, has the trainer's
    validation_config check it.

    Raises StorageError, an OSError, where files cannot be stored: earlier checkpoints stay.
    """
    loop = current_loop("report")
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        raise TypeError(f"report(checkpoint=...) takes a Checkpoint, not {type(checkpoint).__name__}")
    mode = checkpoint_upload_mode
    if not isinstance(mode, CheckpointUploadMode):
        raise TypeError(f"checkpoint_upload_mode must be a CheckpointUploadMode, not {mode!r}")
    check_name(checkpoint_dir_name)
    delete = delete_local_checkpoint_after_upload
    delete = mode.default_delete_local_checkpoint_after_upload() if delete is None else bool(delete)
    task = validation_task(loop, checkpoint, validation)
    part = None
    if checkpoint is not None:
        part = _part(loop.place, checkpoint, mode, delete, checkpoint_upload_fn)
    loop.report(metrics, part, mode, checkpoint_dir_name, task)


def _part(place: Place, checkpoint: Checkpoint, mode: CheckpointUploadMode, delete: bool, upload_fn: Any) -> Part:
    """How this rank's part of a checkpoint is brought. Raises ValueError for what cannot be done."""
    if mode is CheckpointUploadMode.NO_UPLOAD:
        if checkpoint._filesystem != place.filesystem or relative_name(place, checkpoint.path) is None:
            raise ValueError(
                f"with NO_UPLOAD a checkpoint must be in the run's directory, {place}, and {checkpoint.path} is not: "
                "store it there, or report a small checkpoint that says where it is"
            )
        return Part("there", checkpoint)
    if delete and checkpoint._filesystem == place.filesystem:
        where = place.experiment_fs_path
        inside = Place(checkpoint.path, "", "", checkpoint._filesystem)
        if relative_name(inside, where) is not None or where == checkpoint.path:
            raise ValueError(
                f"the run's directory {where} is in the reported one, {checkpoint.path}, which is to be deleted: "
                "report a directory of its own, or set delete_local_checkpoint_after_upload=False"
            )
    if upload_fn is not None:
        return Part("function", checkpoint, delete, upload_fn)
    return Part("files", checkpoint, delete)


def check_name(name: str | None) -> None:
    """Raises ValueError for what can be no ``checkpoint_dir_name``."""
    if name is not None and (not name or name.startswith(".") or "/" in name):
        raise ValueError(f"checkpoint_dir_name must be the name of a directory, not {name!r}")


def validation_task(loop: Loop, checkpoint: Checkpoint | None, asked: bool | ValidationTaskConfig) -> Any:
    """What the driver is told of a validation that was asked for. Raises ValueError where there can be none."""
    if not isinstance(asked, (bool, ValidationTaskConfig)):
        raise TypeError(f"report(validation=...) takes a bool or a ValidationTaskConfig, not {type(asked).__name__}")
    if asked is False:
        return None
    if checkpoint is None:
        raise ValueError("report(validation=...) needs a checkpoint")
    if loop.work.validation is None:
        raise ValueError("report(validation=...) needs validation_config=ValidationConfig(...) of the trainer")
    return loop.work.validation.task(asked)


def get_context() -> TrainContext:
    """What is known about this rank."""
    return current_loop("get_context").context


def get_checkpoint() -> Checkpoint | None:
    """The latest checkpoint: after a restart the one to go on from; None if there is none."""
    return current_loop("get_checkpoint").checkpoint


def get_preemption_info() -> PreemptionInfo | None:
    """The nodes with ranks that are about to be taken away; None as long as there is none.

    Every rank must call it equally often: it is a barrier, and all of them get the same. A run goes on elsewhere, or in
    the next session, from the checkpoint that is reported then.
    """
    info: PreemptionInfo | None = current_loop(PREEMPTION_INFO).exchange(PREEMPTION_INFO, None)
    return info


def get_all_reported_checkpoints(
    consistency_mode: CheckpointConsistencyMode = CheckpointConsistencyMode.VALIDATED,
    timeout_s: float | None = None,
) -> list[ReportedCheckpoint]:
    """The run's checkpoints that are kept, best last; oldest first without a score.

    It waits until those of all reports that this rank has made are stored, and with VALIDATED until none is to be
    validated. After timeout_s seconds it returns what there is by then.
    """
    loop = current_loop("get_all_reported_checkpoints")
    if not isinstance(consistency_mode, CheckpointConsistencyMode):
        raise TypeError(f"consistency_mode must be a CheckpointConsistencyMode, not {consistency_mode!r}")
    return loop.ask(consistency_mode is CheckpointConsistencyMode.VALIDATED, timeout_s)
