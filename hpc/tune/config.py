"""What an experiment is told: Ray's names and defaults."""

from __future__ import annotations

import datetime
import enum
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hpc.runs.config import CheckpointConfig as _RunsCheckpointConfig
from hpc.runs.config import check_filesystem, check_name, need_int, place_of


@dataclass
class CheckpointConfig(_RunsCheckpointConfig):
    """Which checkpoints of a trial stay, and when a class trainable saves.

    num_to_keep, checkpoint_score_attribute, checkpoint_score_order: as in `hpc.train.CheckpointConfig`, for each trial.
    checkpoint_frequency: a class trainable saves after every so many iterations; 0: not by itself.
    checkpoint_at_end: it saves when it ends; None: class trainables do.
    """

    checkpoint_frequency: int = 0
    checkpoint_at_end: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.checkpoint_frequency = self.checkpoint_frequency or 0
        need_int("CheckpointConfig.checkpoint_frequency", self.checkpoint_frequency, 0)


@dataclass
class FailureConfig:
    """What happens when a trial fails.

    max_failures: so often it begins again, from its latest checkpoint; -1: without end. A node that is taken away is no
    failure. fail_fast: True: the first error ends the experiment; "raise": and is raised.
    """

    max_failures: int = 0
    fail_fast: bool | str = False

    def __post_init__(self) -> None:
        need_int("FailureConfig.max_failures", self.max_failures, -1)
        if isinstance(self.fail_fast, str) and self.fail_fast.lower() == "raise":
            self.fail_fast = "raise"
        if self.fail_fast not in (True, False, "raise"):
            raise ValueError(f'FailureConfig.fail_fast must be True, False or "raise", not {self.fail_fast!r}')
        if self.fail_fast and self.max_failures != 0:
            raise ValueError(f"FailureConfig.max_failures must be 0 with fail_fast={self.fail_fast!r}")


@dataclass
class SyncConfig:
    """Whether what trials write into their working directories is kept with the results.

    sync_artifacts: it is, when a trial ends; with sync_artifacts_on_checkpoint at each checkpoint, too. sync_period,
    sync_timeout: taken for Ray's programs; files are copied by the trial itself, so nothing waits for them.
    """

    sync_period: int = 300
    sync_timeout: int = 1800
    sync_artifacts: bool = False
    sync_artifacts_on_checkpoint: bool = True


@dataclass
class RunConfig:
    """An experiment's name, where its results go, and what watches it.

    Results go to storage_path/name (~/hpc_results and a name of the trainable and the time). The same name and path
    again go on with the experiment there. storage_path may be a URL that pyarrow knows, or a path on
    storage_filesystem, a pyarrow.fs.FileSystem.

    stop: a dict of results at which a trial ends, a function of a trial's id and result, a Stopper, or a list of these.
    callbacks: Callback objects. verbose: 0 prints nothing. log_to_file: what trials print goes to files of
    their directories, too: True, the name of one file, or two names, of stdout and stderr.
    """

    name: str | None = None
    storage_path: str | os.PathLike[str] | None = None
    storage_filesystem: Any = None
    failure_config: FailureConfig = field(default_factory=FailureConfig)
    checkpoint_config: CheckpointConfig = field(default_factory=CheckpointConfig)
    sync_config: SyncConfig = field(default_factory=SyncConfig)
    verbose: int | None = None
    stop: Any = None
    callbacks: Sequence[Any] | None = None
    progress_reporter: Any = None
    log_to_file: bool | str | Sequence[str] = False

    def __post_init__(self) -> None:
        # None is Ray's default, and means the same.
        self.failure_config = self.failure_config or FailureConfig()
        self.checkpoint_config = self.checkpoint_config or CheckpointConfig()
        self.sync_config = self.sync_config or SyncConfig()
        if not hasattr(self.checkpoint_config, "checkpoint_frequency"):  # of training: Ray takes it, too
            theirs = self.checkpoint_config
            self.checkpoint_config = CheckpointConfig(
                theirs.num_to_keep, theirs.checkpoint_score_attribute, theirs.checkpoint_score_order
            )
        kinds = {"failure_config": FailureConfig, "checkpoint_config": CheckpointConfig, "sync_config": SyncConfig}
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise TypeError(
                    f"RunConfig.{name} must be a hpc.tune.{kind.__name__}, not {type(getattr(self, name)).__name__}"
                )
        check_name(self.name)
        self.log_files()
        if self.storage_filesystem is not None:
            self.storage()  # what is no file system, and a URL beside one, is an error now
            check_filesystem(self.storage_filesystem, "trials")

    def storage(self) -> tuple[Any, str]:
        """Where experiments have their directories: the pyarrow file system, or None for this machine's, and the path.

        Raises ImportError for a URL without pyarrow, and ValueError for one that pyarrow cannot open.
        """
        return place_of(self.storage_path, self.storage_filesystem)

    def log_files(self) -> tuple[str, str] | None:
        """The files of what trials print: stdout and stderr; None where it is not kept."""
        given = self.log_to_file
        if given is False or given is None:
            return None
        if given is True:
            return "stdout", "stderr"
        if isinstance(given, str):
            return given, given
        if isinstance(given, Sequence) and len(given) == 2 and all(isinstance(one, str) for one in given):
            return given[0], given[1]
        raise ValueError(f"RunConfig.log_to_file must be a bool, a name or two names, not {given!r}")


@dataclass
class TuneConfig:
    """What is searched for, and how.

    metric, mode ("min" or "max"): what is best, told to the scheduler and the search. search_alg: random and grid
    search by default; scheduler: FIFO. num_samples: so many trials, or rounds of a grid; -1: without end.
    max_concurrent_trials: at most so many at a time (None or 0: no limit). time_budget_s: after so many seconds, or a
    timedelta, all ends. reuse_actors: trials of the same resources use one process after the other. trial_name_creator,
    trial_dirname_creator: functions that name a trial and its directory.
    """

    mode: Literal["min", "max"] | None = None
    metric: str | None = None
    search_alg: Any = None
    scheduler: Any = None
    num_samples: int = 1
    max_concurrent_trials: int | None = None
    time_budget_s: int | float | datetime.timedelta | None = None
    reuse_actors: bool = False
    trial_name_creator: Callable[[Any], str] | None = None
    trial_dirname_creator: Callable[[Any], str] | None = None

    def __post_init__(self) -> None:
        if self.mode is not None and self.mode not in ("min", "max"):
            raise ValueError(f'TuneConfig.mode must be "min" or "max", not {self.mode!r}')
        need_int("TuneConfig.num_samples", self.num_samples, -1)
        if self.max_concurrent_trials is not None:
            need_int("TuneConfig.max_concurrent_trials", self.max_concurrent_trials, 0)
        if self.time_budget_s is not None:
            self.budget_s()

    def budget_s(self) -> float | None:
        """The time budget in seconds."""
        given = self.time_budget_s
        if isinstance(given, datetime.timedelta):
            given = given.total_seconds()
        if given is None:
            return None
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not given > 0:
            raise ValueError(f"TuneConfig.time_budget_s must be a number of seconds above 0, not {given!r}")
        return float(given)


@dataclass
class ResumeConfig:
    """What becomes of the trials of an experiment that goes on: each field is a `ResumeConfig.ResumeType`."""

    class ResumeType(enum.Enum):
        """RESUME: go on from the latest checkpoint; RESTART: from the beginning; SKIP: leave as it is."""

        RESUME = "resume"
        RESTART = "restart"
        SKIP = "skip"

    finished: Any = ResumeType.SKIP
    unfinished: Any = ResumeType.RESUME
    errored: Any = ResumeType.SKIP

    def __post_init__(self) -> None:
        for name in ("finished", "unfinished", "errored"):
            given = getattr(self, name)
            try:
                kind = self.ResumeType(given.lower()) if isinstance(given, str) else self.ResumeType(given)
            except ValueError:
                raise ValueError(f"ResumeConfig.{name} must be RESUME, RESTART or SKIP, not {given!r}") from None
            setattr(self, name, kind)


def config_of(kind: type[Any], name: str, value: Any) -> Any:
    """The value, or a new one of its class where there is none. Raises TypeError for what is of another class."""
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a hpc.tune.{kind.__name__}, not {type(value).__name__}")
    return value


def checked_space(space: Mapping[str, Any] | None) -> dict[str, Any]:
    """A param_space, or an algorithm's configuration, as a dict. Raises ValueError for what is none."""
    if space is None:
        return {}
    if hasattr(space, "algo_class") and hasattr(space, "to_dict"):
        space = space.to_dict()
    if not isinstance(space, dict):
        raise ValueError(f"param_space must be a dict, not {type(space).__name__}: {space!r}")
    if set(space) == {"grid_search"}:
        for one in space["grid_search"]:
            if not isinstance(one, dict):
                raise ValueError(
                    f"param_space is a grid_search of whole configurations, and {one!r} is no dict: give a dict for "
                    "each, or the grid a name, as in {'x': tune.grid_search([1, 2])}"
                )
    return space
