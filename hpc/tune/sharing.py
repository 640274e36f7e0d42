"""Objects and resources that are bound to a trainable: with_parameters, with_resources."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import hpc
from hpc.tune.placement import PlacementGroupFactory, resource_dict_to_pg_factory
from hpc.tune.trainable import Trainable


def with_parameters(trainable: Any, **kwargs: Any) -> Any:
    """The trainable with these objects: they are put into the object store once, and each trial reads them there.

    A function gets them as keyword arguments, a class as those of ``setup``. References are taken as they are. Connects
    to a session where there is none. Raises ValueError for what is no trainable, TypeError for what cannot be stored.
    """
    _check("with_parameters", trainable)
    refs = {name: value if isinstance(value, hpc.ObjectRef) else _put(name, value) for name, value in kwargs.items()}
    if isinstance(trainable, type):
        return _class_with(trainable, refs)

    def with_objects(config: dict[str, Any]) -> Any:
        return trainable(config, **_fetch(refs))

    functools.update_wrapper(with_objects, trainable)
    del with_objects.__wrapped__  # type: ignore[attr-defined]  # its signature is that of the inner one
    with_objects.__name__ = str(getattr(trainable, "__name__", "tune_with_parameters"))
    return with_objects


def _class_with(trainable: type[Trainable], refs: dict[str, Any]) -> type[Trainable]:
    inner: Any = trainable.setup

    def setup(self: Trainable, config: dict[str, Any]) -> None:
        inner(self, config, **_fetch(refs))

    return _derived(trainable, {"setup": setup})


def _derived(trainable: type[Trainable], members: dict[str, Any]) -> type[Trainable]:
    """A class of the same name. It is sent to trials as a whole: nobody could import it."""
    return type(trainable.__name__, (trainable,), {"__module__": trainable.__module__, **members})


def _put(name: str, value: Any) -> Any:
    try:
        return hpc.put(value)
    except (TypeError, AttributeError) as error:
        raise TypeError(f"with_parameters({name}=...) cannot be sent to trials: {error}") from error


def _fetch(refs: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(refs, hpc.get(list(refs.values()))))


def with_resources(
    trainable: Any,
    resources: dict[str, float] | PlacementGroupFactory | Callable[[dict[str, Any]], PlacementGroupFactory],
) -> Any:
    """The trainable with these resources for each trial: a dict such as ``{"cpu": 2, "gpu": 0.5}``, a
    PlacementGroupFactory, or a function of the trial's configuration that returns one.

    Raises ValueError for what is no trainable, or no resources.
    """
    _check("with_resources", trainable)
    if isinstance(resources, dict):
        asked: Any = resource_dict_to_pg_factory(resources)
    elif isinstance(resources, PlacementGroupFactory) or callable(resources):
        asked = resources
    else:
        raise ValueError(
            f"with_resources takes a dict, a PlacementGroupFactory or a function, not {type(resources).__name__}"
        )
    if isinstance(trainable, type):
        return _class_asking(trainable, asked)
    if isinstance(trainable, types.MethodType):
        method = trainable

        def call_method(config: dict[str, Any]) -> Any:
            return method(config)

        call_method.__name__ = method.__name__
        trainable = call_method
    trainable._resources = asked
    return trainable


def _class_asking(trainable: type[Trainable], asked: Any) -> type[Trainable]:
    def default_resource_request(cls: type[Trainable], config: dict[str, Any]) -> Any:
        asks = callable(asked) and not isinstance(asked, PlacementGroupFactory)
        return asked(config) if asks else asked

    return _derived(trainable, {"default_resource_request": classmethod(default_resource_request)})


def _check(what: str, trainable: Any) -> None:
    if not callable(trainable) or (isinstance(trainable, type) and not issubclass(trainable, Trainable)):
        raise ValueError(f"{what} takes a function or a class derived from hpc.tune.Trainable, not {trainable!r}")
