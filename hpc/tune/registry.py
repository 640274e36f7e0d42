"""Trainables by name, and what a program gives as a trainable."""

from __future__ import annotations

import importlib
import inspect
import io
from collections.abc import Callable
from typing import Any

import cloudpickle

from hpc.tune.error import TuneError
from hpc.tune.placement import PlacementGroupFactory, resource_dict_to_pg_factory
from hpc.tune.trainable import FunctionTrainable, Trainable, function_name, wrap_function

#: Algorithms of hpc.rllib, which a Tuner finds by name without an import.
LIBRARY_TRAINABLES = {
    "APEX": "hpc.rllib.algorithms.apex_dqn.ApexDQN",
    "APPO": "hpc.rllib.algorithms.appo.APPO",
    "BC": "hpc.rllib.algorithms.bc.BC",
    "CQL": "hpc.rllib.algorithms.cql.CQL",
    "DQN": "hpc.rllib.algorithms.dqn.DQN",
    "IMPALA": "hpc.rllib.algorithms.impala.IMPALA",
    "MARWIL": "hpc.rllib.algorithms.marwil.MARWIL",
    "PPO": "hpc.rllib.algorithms.ppo.PPO",
    "SAC": "hpc.rllib.algorithms.sac.SAC",
}
_trainables: dict[str, type[Trainable]] = {}
#: The room of a trial that asks for none: one object for all of them.
_ONE_CPU = resource_dict_to_pg_factory()
_creators: dict[str, Callable[..., Any]] = {}


def register_trainable(name: str, trainable: Any, warn: bool = True) -> None:
    """Give a trainable a name, by which a Tuner finds it in this process.

    Raises TypeError for what is none, and ValueError for a function that does not take one argument.
    """
    _trainables[name] = as_class(trainable)


def register_env(name: str, env_creator: Callable[..., Any]) -> None:
    """Give a function that makes environments of reinforcement learning a name; `env_creator_of` finds it."""
    if not callable(env_creator):
        raise TypeError(f"register_env takes a function, not {type(env_creator).__name__}")
    _creators[name] = env_creator


def env_creator_of(name: str) -> Callable[..., Any]:
    """The function that was registered by `register_env`. Raises TuneError where there is none."""
    try:
        return _creators[name]
    except KeyError:
        raise TuneError(f"no environment is registered as {name!r}: call tune.register_env") from None


class NamedEnv(str):
    """The name of an environment that brings its function to the processes that it is sent to."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        return _named, (str(self), _creators[str(self)])

    def __deepcopy__(self, memo: Any) -> NamedEnv:
        return self


def _named(name: str, env_creator: Callable[..., Any]) -> NamedEnv:
    """The name, where it arrives: what was registered there under it stays."""
    _creators.setdefault(name, env_creator)
    return NamedEnv(name)


def travelling(space: dict[str, Any]) -> dict[str, Any]:
    """A configuration whose environment is known in the trials too, where a name was registered for it here."""
    env = space.get("env")
    return {**space, "env": NamedEnv(env)} if isinstance(env, str) and env in _creators else space


def get_trainable_cls(trainable_name: str) -> type[Trainable]:
    """The trainable that was registered by this name, or the algorithm. Raises TuneError where there is none."""
    found = _trainables.get(trainable_name)
    if found is not None:
        return found
    if trainable_name in LIBRARY_TRAINABLES:
        module, _, name = LIBRARY_TRAINABLES[trainable_name].rpartition(".")
        shipped: type[Trainable] = getattr(importlib.import_module(module), name)
        return shipped
    raise TuneError(
        f"no trainable is registered as {trainable_name!r}: call tune.register_trainable, or give an algorithm: "
        f"{', '.join(LIBRARY_TRAINABLES)}"
    )


def as_class(trainable: Any) -> type[Trainable]:
    """The class of what a program gives as a trainable: a class, a function of one argument, or a registered name.

    Raises TuneError for an unknown name, TypeError for what is no trainable, ValueError for a function that does not
    take one argument.
    """
    if isinstance(trainable, str):
        return get_trainable_cls(trainable)
    if isinstance(trainable, type):
        if issubclass(trainable, Trainable):
            return trainable
        raise TypeError(f"the class {trainable.__name__} is no trainable: derive it from hpc.tune.Trainable")
    if callable(trainable):
        return wrap_function(trainable)
    raise TypeError(f"a trainable is a function, a class or a registered name, not {type(trainable).__name__}")


def name_of(trainable: Any) -> str:
    """The name of a trainable, as trials and experiments have it."""
    if isinstance(trainable, str):
        return trainable
    if isinstance(trainable, type):
        return trainable.__name__
    return function_name(trainable)


def is_function_trainable(trainable: Any) -> bool:
    """Whether it reports by itself, from a function."""
    return issubclass(as_class(trainable), FunctionTrainable)


def dumps(trainable: type[Trainable]) -> bytes:
    """The trainable as trials get it. Raises TypeError, which names what cannot be sent, for one that cannot."""
    try:
        data: bytes = cloudpickle.dumps(trainable)
        return data
    except Exception as error:
        from hpc.util import inspect_serializability

        found = io.StringIO()
        inspect_serializability(trainable, name=trainable.__name__, print_file=found)
        raise TypeError(
            f"the trainable {trainable.__name__} cannot be sent to trials: {error}. Make such objects inside of it, or "
            f"give what can be sent by tune.with_parameters.\n{found.getvalue()}"
        ) from error


def resources_of(trainable: type[Trainable], config: dict[str, Any]) -> PlacementGroupFactory:
    """The room of a trial with this configuration: what the trainable asks for, else one CPU.

    Raises TuneError where the trainable asks for something that is no room.
    """
    asked = trainable.default_resource_request(config)
    if asked is None:
        return _ONE_CPU
    if isinstance(asked, dict):
        return resource_dict_to_pg_factory(asked)
    if not isinstance(asked, PlacementGroupFactory):
        raise TuneError(
            f"{trainable.__name__} asks for {asked!r} as its resources: give a PlacementGroupFactory or a dict"
        )
    return asked


def asks_for_resources(trainable: type[Trainable]) -> bool:
    """Whether it has its own default_resource_request, which tune.run's resources_per_trial would contradict."""
    mine = inspect.getattr_static(trainable, "default_resource_request")
    if issubclass(trainable, FunctionTrainable):
        return trainable.default_resource_request({}) is not None
    return mine is not inspect.getattr_static(Trainable, "default_resource_request")
