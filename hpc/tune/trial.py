"""A trial as schedulers, searchers, stoppers, callbacks and reporters see it, and what they may ask of the experiment.

Pure: no clock, no I/O. Names are Ray's. Only the engine changes a trial; others read it.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from numbers import Number
from typing import TYPE_CHECKING, Any, Literal, Protocol

from hpc.tune.flat import flatten_dict
from hpc.tune.result import EXPR_ERROR_FILE, EXPR_ERROR_PICKLE_FILE

if TYPE_CHECKING:
    from hpc.runs.checkpoint import Checkpoint

#: Keys of a result that say nothing of how good the trial is.
DEBUG_METRICS = frozenset(
    ("trial_id", "experiment_id", "date", "timestamp", "pid", "hostname", "node_ip", "config")
)  # fmt: skip
#: Of each metric, the mean of its last so many values is known, too.
LAST = (5, 10)


Status = Literal["PENDING", "RUNNING", "PAUSED", "TERMINATED", "ERROR"]


class Trial:
    """One set of hyperparameters, and how far its training has come.

    config: what the trainable gets. evaluated_params: the part that was searched for. placement_group_factory: the
    shape of the room that it needs. checkpoint: the latest one, from which it would go on. checkpoints: those that are
    kept, the worst first, with the metrics reported with them. path: its directory, is_local: whether that is on a
    file system of this machine. error: why it failed the last
    time. start_time: when it first ran, in seconds since 1970. is_saving: whether a checkpoint is being made, after
    which a decision waits. resized: whether its shape has changed since it last ran. host, node_ip, pid: where it runs,
    or ran the last time.
    """

    __slots__ = (
        "__weakref__",
        "_stats",
        "_unfolded",
        "checkpoint",
        "checkpoints",
        "config",
        "custom_trial_name",
        "error",
        "evaluated_params",
        "experiment_tag",
        "host",
        "is_local",
        "is_saving",
        "last_result",
        "last_result_time",
        "node_ip",
        "num_failures",
        "path",
        "pid",
        "placement_group_factory",
        "resized",
        "start_time",
        "status",
        "trainable_name",
        "trial_id",
    )

    PENDING: Status = "PENDING"
    RUNNING: Status = "RUNNING"
    PAUSED: Status = "PAUSED"
    TERMINATED: Status = "TERMINATED"
    ERROR: Status = "ERROR"

    def __init__(
        self,
        trainable_name: str,
        *,
        trial_id: str,
        config: dict[str, Any] | None = None,
        evaluated_params: dict[str, Any] | None = None,
        experiment_tag: str = "",
        placement_group_factory: Hashable = None,
        custom_trial_name: str | None = None,
        path: str | None = None,
    ) -> None:
        self.trainable_name = trainable_name
        self.trial_id = trial_id
        self.config: dict[str, Any] = config if config is not None else {}
        self.evaluated_params: dict[str, Any] = evaluated_params if evaluated_params is not None else {}
        self.experiment_tag = experiment_tag
        self.placement_group_factory = placement_group_factory
        self.custom_trial_name = custom_trial_name
        self.path = path
        self.status: Status = Trial.PENDING
        self.last_result: dict[str, Any] = {"trial_id": trial_id}
        self.last_result_time = float("-inf")
        self.start_time: float | None = None
        self.num_failures = 0
        self.error: BaseException | None = None
        self.checkpoint: Checkpoint | None = None
        self.checkpoints: Sequence[tuple[Checkpoint, dict[str, Any]]] = ()
        self.is_local = True
        self.is_saving = False
        self.resized = False
        self.host: str | None = None
        self.node_ip: str | None = None
        self.pid: int | None = None
        self._stats: dict[str, Any] = {}
        self._unfolded = False

    @property
    def local_path(self) -> str | None:
        """Its directory: results are written to where they stay, so it is `path`."""
        return self.path

    @property
    def local_experiment_path(self) -> str | None:
        """The experiment's directory."""
        return self.path.rpartition("/")[0] if self.path else None

    remote_experiment_path = local_experiment_path
    local_dir = local_experiment_path

    @property
    def experiment_dir_name(self) -> str | None:
        """The name of the experiment's directory."""
        return self.path.split("/")[-2] if self.path else None

    def init_local_path(self) -> None:
        """Make its directory, if it has one on this machine."""
        if self.path and self.is_local:
            from hpc.tune.files import make_directory

            make_directory(self.path)

    @property
    def error_file(self) -> str | None:
        """Where its failures are as text; None where it has none."""
        return self._of_failures(EXPR_ERROR_FILE)

    @property
    def pickled_error_file(self) -> str | None:
        """Where its last failure is as an object; None where it has none."""
        return self._of_failures(EXPR_ERROR_PICKLE_FILE)

    def _of_failures(self, name: str) -> str | None:
        return f"{self.path}/{name}" if self.path and self.error is not None else None

    def is_finished(self) -> bool:
        """Whether it will not run again."""
        return self.status in (Trial.TERMINATED, Trial.ERROR)

    def has_checkpoint(self) -> bool:
        """Whether there is one from which it would go on."""
        return self.checkpoint is not None

    @property
    def has_reported_at_least_once(self) -> bool:
        """Whether there is a result."""
        return self.last_result_time > float("-inf")

    def update_resources(self, resources: Hashable) -> None:
        """Give it another shape of room, for its next start. Raises ValueError while it runs."""
        if self.status == Trial.RUNNING:
            raise ValueError(f"trial {self.trial_id} runs: its resources change while it is paused or pending")
        self.placement_group_factory = resources
        self.resized = True

    def update_last_result(self, result: dict[str, Any], now: float) -> None:
        """This result came now. Callbacks may still change it: see `metric_analysis`."""
        self._fold()
        self.last_result = result
        self.last_result_time = now
        self._unfolded = True

    @property
    def metric_analysis(self) -> dict[str, dict[str, float]]:
        """Of each metric that is a number: "last", "min", "max", "avg", "last-5-avg" and "last-10-avg".

        It is made when it is asked for, or when the next result comes, so that it has what callbacks change in a
        result.
        """
        self._fold()
        return {name: _described(stats) for name, stats in self._stats.items()}

    def metric_value(self, metric: str, which: str) -> float | None:
        """What `metric_analysis` has of one metric, without making that of the others; None where it has nothing."""
        self._fold()
        stats = self._stats.get(metric)
        return _described(stats).get(which) if stats is not None else None

    def restore_metrics(self, last_result: dict[str, Any], analysis: dict[str, dict[str, float]]) -> None:
        """Have this as the last result, and what `metric_analysis` gave of it and those before it."""
        self.last_result = last_result
        self._unfolded = False
        order = ("max", "min", "avg", "last", *(f"last-{count}-avg" for count in LAST))
        self._stats = {name: tuple(values[key] for key in order) for name, values in analysis.items()}

    def settle(self) -> None:
        """It will have no further result: keep less of it in memory."""
        self._fold()
        for name, stats in self._stats.items():
            if isinstance(stats, list):
                self._stats[name] = (*stats[:4], *(_mean(stats[4][-count:]) for count in LAST))

    def _fold(self) -> None:
        if not self._unfolded:
            return
        self._unfolded = False
        result = self.last_result
        step = result.get("training_iteration") or 1
        stats = self._stats
        for name, value in result.items():
            kind = type(value)
            if kind is dict:
                if name != "config":
                    for inner, number in flatten_dict(value).items():
                        if isinstance(number, Number):
                            _fold_one(stats, f"{name}/{inner}", number, step)
            elif name not in DEBUG_METRICS and (kind is float or kind is int or isinstance(value, Number)):
                _fold_one(stats, name, value, step)

    def __repr__(self) -> str:
        if self.custom_trial_name:
            return self.custom_trial_name
        name = self.trainable_name
        if "env" in self.config:
            env = self.config["env"]
            name = f"{name}_{env.__name__ if isinstance(env, type) else env}"
        return f"{name}_{self.trial_id}".replace("/", "_")


def _fold_one(stats: dict[str, Any], name: str, number: Any, step: int) -> None:
    found = stats.get(name)
    if found is None:
        stats[name] = [number, number, number, number, [number]]
        return
    if type(found) is tuple:  # it had settled, and goes on after all
        found = stats[name] = [*found[:4], [found[3]]]
    try:
        if not found[0] > number:  # NaN is as in Ray: the newer value wins over it, and it over the older
            found[0] = number
        if not found[1] < number:
            found[1] = number
        found[2] = 1 / step * (number + (step - 1) * found[2])
    except (TypeError, ValueError, ArithmeticError):  # complex numbers, Decimal, beyond what a float holds
        del stats[name]
        return
    found[3] = number
    window = found[4]
    window.append(number)
    if len(window) > LAST[-1]:
        del window[0]


def _mean(values: list[Any]) -> Any:
    return sum(values) / len(values)


def _described(stats: Any) -> dict[str, float]:
    tail = [_mean(stats[4][-count:]) for count in LAST] if isinstance(stats, list) else stats[4:]
    most, least, mean, last = stats[:4]
    means = {f"last-{count}-avg": value for count, value in zip(LAST, tail)}
    return {"max": most, "min": least, "avg": mean, "last": last, **means}


class Controller(Protocol):
    """What a scheduler may ask of the experiment; the engine is one. A scheduler calls it from its own methods only.

    search_alg: where trials come from. resource_updater: knows what the session has: ``get_num_cpus()`` and
    ``get_num_gpus()``.
    """

    @property
    def search_alg(self) -> Any: ...

    @property
    def resource_updater(self) -> Any: ...

    def get_trials(self) -> list[Trial]:
        """All trials, in the order in which they wait: one that has failed and runs again comes after the others."""

    def get_live_trials(self) -> Collection[Trial]:
        """The trials that have not finished, in that order. Cheap, where ``get_trials`` has all of 10,000."""

    def get_trial(self, tid: str) -> Trial | None:
        """The trial of this id."""

    def next_waiting(self) -> Trial | None:
        """The first trial that is PENDING, else the first that is PAUSED. Cheap: a first-come scheduler chooses it."""

    def pause_trial(self, trial: Trial, should_checkpoint: bool = True) -> None:
        """Let it go on later, from its latest checkpoint, and give its room to others meanwhile.

        With should_checkpoint it first makes a checkpoint, if its trainable can do that when asked. It is PAUSED
        afterwards. A trial in the midst of a step finishes the step before. Without, it is PAUSED at once.
        """

    def stop_trial(self, trial: Trial) -> None:
        """End it: it is TERMINATED at once, wherever it is. Its scheduler is told, too: ``on_trial_complete`` of one
        that was RUNNING, else ``on_trial_remove``."""

    def save_trial(self, trial: Trial) -> None:
        """Have it make a checkpoint, now or after its step; a decision on it waits for that. A trainable that is a
        function does not: the checkpoint that it last reported counts."""

    def exploit(self, trial: Trial, donor: Trial, new_config: dict[str, Any], tag: str) -> bool:
        """Have the trial go on from the donor's latest checkpoint, with this config and experiment tag.

        False, and nothing happens, where the donor has none and makes none. Else the trial is PAUSED, and what it did
        since is dropped. If the donor makes a checkpoint just now, that one counts, and the trial waits for it. The
        checkpoint stays until the trial has begun from it.
        """
