"""One rank's running training function, and what that function can call: report, get_context, get_checkpoint.

The function runs in a thread of its own. What it reports becomes an event, which the driver takes by a call that waits
for it. The next such call says that all ranks have reported, and lets ``report`` return.
"""

from __future__ import annotations

import contextvars
import enum
import inspect
import queue
import shutil
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cloudpickle

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.storage import Place, stage, staging_name
from hpc.train.ranks import Identity


class CheckpointUploadMode(enum.Enum):
    """When ``report`` stores a checkpoint. Only SYNC is supported yet: before it returns."""

    SYNC = "sync"
    ASYNC = "async"
    NO_UPLOAD = "no_upload"


@dataclass(frozen=True)
class Reported:
    """A rank waits in its ``report`` of this number. staging: where its checkpoint's files are, if it has any."""

    number: int
    metrics: dict[str, Any]
    staging: str | None
    dir_name: str | None


@dataclass(frozen=True)
class Returned:
    """The rank's function has returned. The value is rank 0's; other ranks send none."""

    value: Any


@dataclass(frozen=True)
class Raised:
    """The rank's function has raised. error: the exception, pickled, if that is possible."""

    traceback: str
    text: str
    error: bytes | None


Event = Reported | Returned | Raised


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
        """Whether the session ends soon: the next report should have a checkpoint. After each report all ranks are told
        the same; the run ends when that checkpoint is stored."""
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
        self.checkpoint = Checkpoint(checkpoint) if checkpoint else None
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.reports = 0
        self.must_save = False
        self._accepted = 0
        self._changed = threading.Condition()

    def start(self, function: Callable[..., Any], config: dict[str, Any] | None) -> None:
        """Run the function in a thread that knows the call that started it."""
        context = contextvars.copy_context()
        run = threading.Thread(target=context.run, args=(self._run, function, config), name="train", daemon=True)
        run.start()

    def _run(self, function: Callable[..., Any], config: dict[str, Any] | None) -> None:
        try:
            value = call_loop(function, config)
            if self.identity.world_rank == 0:
                cloudpickle.dumps(value)
            event: Event = Returned(value if self.identity.world_rank == 0 else None)
        except BaseException as error:
            left = isinstance(error, SystemExit) and error.code in (0, None)
            event = Returned(None) if left else describe_error(error)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self.events.put(event)

    def report(self, metrics: dict[str, Any], checkpoint: Checkpoint | None, name: str | None, delete: bool) -> None:
        """Store the checkpoint's files, tell the driver, and wait until all ranks have done so."""
        number = self.reports + 1
        staging = None
        if checkpoint is not None:
            staging = staging_name(self.attempt, number)
            stage(checkpoint.path, self.place, staging)
            if delete:
                shutil.rmtree(checkpoint.path, ignore_errors=True)
        self.reports = number
        self.events.put(Reported(number, dict(metrics), staging, name))
        with self._changed:
            self._changed.wait_for(lambda: self._accepted >= number)

    def accept(self, number: int, checkpoint: str | None, must_save: bool = False) -> None:
        """The driver has all ranks' reports of this number, and has made this checkpoint of them."""
        with self._changed:
            self.must_save = must_save
            if checkpoint is not None:
                self.checkpoint = Checkpoint(checkpoint)
            self._accepted = max(self._accepted, number)
            self._changed.notify_all()


def call_loop(function: Callable[..., Any], config: dict[str, Any] | None) -> Any:
    """Call the training function, with its configuration if it takes one."""
    return function(config if config is not None else {}) if parameter_count(function) else function()


def parameter_count(function: Callable[..., Any]) -> int:
    """How many positional arguments the function can be given."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds for p in inspect.signature(function).parameters.values())


def describe_error(error: BaseException) -> Raised:
    """What the driver is told of an exception: its traceback from the user's first frame, and itself if it pickles."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename == __file__ and frame.tb_next is not None:
        frame = frame.tb_next
    text = "".join(traceback.format_exception(type(error), error, frame))
    try:
        bare = error.with_traceback(None)
        data = cloudpickle.dumps(bare)
        cloudpickle.loads(data)
    except Exception:
        data = None
    return Raised(text, f"{type(error).__name__}: {error}", data)


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
    checkpoint_upload_fn: Any = None,
    validation: Any = False,
) -> None:
    """Report metrics, and a checkpoint if there is one. Every rank must call it equally often: it is a barrier.

    Rank 0's metrics are kept. The files of all ranks' checkpoints are copied into one directory of the run,
    checkpoint_000000 or checkpoint_dir_name; it is there when this returns.
    """
    loop = current_loop("report")
    if not isinstance(metrics, dict):
        raise TypeError(f"report() takes a dict of metrics, not {type(metrics).__name__}")
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        raise TypeError(f"report(checkpoint=...) takes a Checkpoint, not {type(checkpoint).__name__}")
    if checkpoint_upload_mode is not CheckpointUploadMode.SYNC:
        raise NotImplementedError(f"checkpoint_upload_mode={checkpoint_upload_mode!r} is not supported yet; SYNC is")
    if checkpoint_upload_fn is not None or validation:
        raise NotImplementedError("report()'s checkpoint_upload_fn and validation are not supported yet")
    name = checkpoint_dir_name
    if name is not None and (not name or name.startswith(".") or "/" in name):
        raise ValueError(f"checkpoint_dir_name must be the name of a directory, not {name!r}")
    _refuse_tensors(metrics, "metrics")
    loop.report(metrics, checkpoint, name, bool(delete_local_checkpoint_after_upload))


def _refuse_tensors(value: Any, where: str) -> None:
    """A tensor would drag torch, and its device, into the driver."""
    if isinstance(value, dict):
        for key, one in value.items():
            _refuse_tensors(one, f"{where}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for index, one in enumerate(value):
            _refuse_tensors(one, f"{where}[{index}]")
    elif type(value).__module__.split(".")[0] == "torch":
        raise ValueError(f"{where} is a {type(value).__name__}: report numbers, as value.item() gives them")


def get_context() -> TrainContext:
    """What is known about this rank."""
    return current_loop("get_context").context


def get_checkpoint() -> Checkpoint | None:
    """The latest checkpoint: after a restart the one to go on from; None if there is none."""
    return current_loop("get_checkpoint").checkpoint


def get_dataset_shard(dataset_name: str | None = None) -> Any:
    """This rank's part of a dataset given to the trainer. Not supported yet: raises NotImplementedError."""
    current_loop("get_dataset_shard")
    raise NotImplementedError(
        "get_dataset_shard() is not supported yet: there is no hpc.data. Give the training function its data by "
        "train_loop_config, for example as a reference from hpc.put()"
    )
