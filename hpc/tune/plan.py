"""One experiment as its user has asked for it, checked before anything runs."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass, replace
from typing import Any

from hpc import cloudpickle
from hpc.runs.files import Files, files_of, join
from hpc.tune.config import ResumeConfig, RunConfig, TuneConfig, checked_space, config_of
from hpc.tune.error import TuneError
from hpc.tune.flat import flatten_dict
from hpc.tune.placement import PlacementGroupFactory, resource_dict_to_pg_factory
from hpc.tune.registry import as_class, asks_for_resources, dumps, name_of, resources_of, travelling
from hpc.tune.retention import Rule
from hpc.tune.trainable import FunctionTrainable, Trainable
from hpc.tune.variants import path_name, split_space

#: "0": trials stay in the directory in which the session's workers are.
CHDIR_VARIABLE = "RAY_CHDIR_TO_TRIAL_DIR"
#: "1": an experiment without a name has none with the time.
NO_DATE_VARIABLE = "TUNE_DISABLE_DATED_SUBDIR"


@dataclass
class Plan:
    """What is run, how, and where its results go.

    named: whether the user has named it, so that it is found again; made: whether its directory is. given_resources: of
    each trial, by tune.run. resume: what becomes of the trials that are there; None: those that are unfinished go on.
    """

    trainable: type[Trainable]
    data: bytes
    name: str
    space: dict[str, Any]
    tune: TuneConfig
    run: RunConfig
    named: bool
    given_resources: PlacementGroupFactory | None = None
    resume: ResumeConfig | None = None
    filesystem: Any = None
    storage_path: str = ""
    made: bool = False

    @property
    def path(self) -> str:
        """The experiment's directory."""
        return join(self.storage_path, str(self.run.name))

    @property
    def is_function(self) -> bool:
        """Whether the trainable is a function."""
        return issubclass(self.trainable, FunctionTrainable)

    @property
    def chdir(self) -> bool:
        """Whether each trial has its own working directory."""
        return os.environ.get(CHDIR_VARIABLE, "1") != "0"

    @property
    def checkpoint_at_end(self) -> bool:
        """Whether trials save when they end."""
        asked = self.run.checkpoint_config.checkpoint_at_end
        return not self.is_function if asked is None else asked

    @property
    def retention(self) -> Rule:
        """Which checkpoints of a trial stay."""
        told = self.run.checkpoint_config
        return Rule(told.num_to_keep, told.checkpoint_score_attribute, told.checkpoint_score_order)

    def resources(self, config: dict[str, Any]) -> PlacementGroupFactory:
        """The room of a trial with this configuration."""
        return self.given_resources or resources_of(self.trainable, config)


def make_plan(
    trainable: Any,
    space: Any = None,
    tune_config: TuneConfig | None = None,
    run_config: RunConfig | None = None,
    resources: Any = None,
    resume: ResumeConfig | None = None,
) -> Plan:
    """The plan of this experiment.

    Raises TuneError, TypeError or ValueError for what cannot be an experiment. There is no trainable, or it cannot be
    sent to trials; options contradict each other; the space is no dict.
    """
    if trainable is None:
        raise TuneError("give a trainable: a function of one argument, or a class derived from hpc.tune.Trainable")
    if hasattr(trainable, "fit") and not isinstance(trainable, type):
        raise TypeError(
            f"a {type(trainable).__name__} is no trainable: call its fit() in a function, and give that function with "
            "tune.with_resources(function, tune.PlacementGroupFactory([{}, one bundle for each rank]))"
        )
    cls, name = as_class(trainable), name_of(trainable)
    tune, run = config_of(TuneConfig, "tune_config", tune_config), config_of(RunConfig, "run_config", run_config)
    given = None
    if resources is not None:
        if asks_for_resources(cls):
            raise ValueError(
                f"resources_per_trial was given, and {name} asks for its own resources: leave one of the two out"
            )
        given = resources if isinstance(resources, PlacementGroupFactory) else resource_dict_to_pg_factory(resources)
    space = travelling(checked_space(space))
    _check_constants(space)
    plan = Plan(cls, dumps(cls), name, space, tune, run, bool(run.name), given, resume)
    checkpoints = run.checkpoint_config
    if plan.is_function and (checkpoints.checkpoint_frequency or checkpoints.checkpoint_at_end):
        raise ValueError(
            "checkpoint_frequency and checkpoint_at_end are for class trainables: a function gives its checkpoints to "
            "tune.report(metrics, checkpoint=...)"
        )
    if not run.name:
        run = plan.run = replace(run, name=_dated(name))
    plan.filesystem, plan.storage_path = run.storage()
    return plan


def _check_constants(space: dict[str, Any]) -> None:
    """Raise TypeError for a constant that no trial could be sent."""
    for path, value in split_space(space)[0]:
        if value is not None and type(value) not in (bool, int, float, str):
            try:
                cloudpickle.dumps(value)
            except Exception as error:
                raise TypeError(
                    f"`{path_name(path)}` of param_space cannot be sent to trials: {error}. Make such objects in the "
                    "trainable"
                ) from error


def make_directory(plan: Plan) -> None:
    """Make the experiment's directory; one without a name gets a directory that nobody else has.

    Raises TuneError where it cannot be written.
    """
    files, name = files_of(plan.filesystem), str(plan.run.name)
    try:
        files.make_dirs(plan.storage_path)
        for number in itertools.count(2):
            if _made_anew(files, plan.path) or plan.named or plan.made:
                break
            plan.run = replace(plan.run, name=f"{name}-{number}")
        files.make_dirs(plan.path)  # what is there and no directory is an error
        plan.made = True
    except OSError as error:
        raise TuneError(
            f"the experiment's directory {plan.path} cannot be made: {error}. Set RunConfig(storage_path=...) to a "
            "directory that can be written, and that all nodes see"
        ) from error


def _made_anew(files: Files, path: str) -> bool:
    """Make a directory; whether it was not there before."""
    if not files.local:
        return not files.exists(path)
    try:
        os.mkdir(path)
    except FileExistsError:
        return False
    return True


def _dated(name: str) -> str:
    if os.environ.get(NO_DATE_VARIABLE, "0") == "1":
        return name
    return f"{name}_{time.strftime('%Y-%m-%d_%H-%M-%S')}"


def described(plan: Plan) -> dict[str, Any]:
    """What `restored` makes the plan of again, without the trainable."""
    return {"space": plan.space, "tune": plan.tune, "run": plan.run, "resources": plan.given_resources}


def restored(
    told: dict[str, Any], path: str, filesystem: Any, trainable: Any, space: dict[str, Any] | None, resume: ResumeConfig
) -> Plan:
    """The plan of an experiment that is there. Raises ValueError for a space with other parameters."""
    if space is not None and _keys(space) != _keys(told["space"]):
        raise ValueError(
            f"param_space has the parameters {_keys(space)}, and the experiment in {path} has {_keys(told['space'])}: "
            "give the same ones, or leave param_space out"
        )
    storage_path, _, name = path.rstrip("/").rpartition("/")
    run = replace(told["run"], name=name, storage_path=storage_path or "/", storage_filesystem=filesystem)
    space = told["space"] if space is None else space
    return make_plan(trainable, space, told["tune"], run, told["resources"], resume)


def _keys(space: dict[str, Any]) -> list[str]:
    return sorted(flatten_dict(space))
