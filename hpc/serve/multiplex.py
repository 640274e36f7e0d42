"""Many models in one replica: `@serve.multiplexed` loads them when they are wanted, and unloads what was not used.

Requests that want the same model while it is being loaded wait for the one load. A model that has to make room is the
one that was used longest ago. Its ``__del__`` is run at once, and awaited where it is a coroutine.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import Any

from hpc.serve.context import current_request, replica_context, shared_context
from hpc.serve.context import get_multiplexed_model_id as get_multiplexed_model_id


class Models:
    """The models of one loader in this replica."""

    def __init__(self, load: Callable[..., Any], owner: Any, limit: int) -> None:
        self._load = load
        self._owner = owner
        self._limit = limit
        self.loaded: OrderedDict[str, Any] = OrderedDict()
        self.loading: dict[str, asyncio.Future[Any]] = {}
        self._turn = asyncio.Lock()

    async def get(self, model_id: str) -> Any:
        """The model, loaded where it is not yet. Raises what its loader raises."""
        if not isinstance(model_id, str):
            raise TypeError("The model ID must be a string.")
        if not model_id:
            raise ValueError("The model ID cannot be empty.")
        if model_id in self.loaded:
            self.loaded.move_to_end(model_id)
            return self.loaded[model_id]
        underway = self.loading.get(model_id)
        if underway is None:
            load = self._bring(model_id)
            context = shared_context(current_request.get())  # the one that came first may be cancelled
            underway = self.loading[model_id] = context.run(asyncio.ensure_future, load)
            underway.add_done_callback(lambda done: self._brought(model_id, done))
        return await asyncio.shield(underway)

    def _brought(self, model_id: str, done: asyncio.Future[Any]) -> None:
        self.loading.pop(model_id, None)
        if not done.cancelled():
            done.exception()  # those that wait have it

    async def _bring(self, model_id: str) -> Any:
        async with self._turn:
            while 0 < self._limit <= len(self.loaded):
                await self.unload_oldest()
            model = await (self._load(model_id) if self._owner is None else self._load(self._owner, model_id))
            self.loaded[model_id] = model
            return model

    async def unload_oldest(self) -> None:
        """Take out the model that was used longest ago, and run its ``__del__``."""
        _, model = self.loaded.popitem(last=False)
        end = getattr(model, "__del__", None)
        if end is None:
            return
        if inspect.iscoroutinefunction(end):
            await end()
        else:
            await asyncio.get_running_loop().run_in_executor(None, end)
        try:
            model.__del__ = lambda *_: None
        except AttributeError:
            pass


#: All of this replica.
_all: list[Models] = []


def loaded_models() -> list[str]:
    """The models that this replica has or is loading: requests for them are sent here."""
    return sorted({ident for models in _all for ident in (*models.loaded, *models.loading)})


async def unload_all() -> None:
    """Unload all models of this replica, the oldest first."""
    for models in _all:
        while models.loaded:
            await models.unload_oldest()


class _Loader:
    """A decorated loader: its models, for each object where it is a method."""

    def __init__(self, loader: Callable[..., Any], limit: int) -> None:
        self._loader = loader
        self._limit = limit
        self._found: dict[int, tuple[Any, Models]] = {}

    def __reduce__(self) -> tuple[Any, ...]:  # what is loaded here stays here
        return _Loader, (self._loader, self._limit)

    async def load(self, args: tuple[Any, ...]) -> Any:
        """The model of a call. Raises TypeError for other arguments, RuntimeError outside of replicas."""
        if not 1 <= len(args) <= 2:
            raise TypeError("Functions decorated with `@serve.multiplexed` must take exactly one `model_id` argument.")
        owner, model_id = (args[0], args[1]) if len(args) == 2 else (None, args[0])
        if replica_context() is None:
            raise RuntimeError(
                "`@serve.multiplex` can only be used within a deployment (failed to retrieve Serve replica context)."
            )
        known = self._found.get(id(owner))
        if known is None:
            known = self._found[id(owner)] = owner, Models(self._loader, owner, self._limit)
            _all.append(known[1])
        return await known[1].get(model_id)


def multiplexed(func: Callable[..., Any] | None = None, max_num_models_per_replica: int = 3) -> Any:
    """Make a loader of models of an async function or method that takes the id of a model. It keeps so many in each
    replica (-1: any number). Requests name theirs by ``handle.options(multiplexed_model_id=...)`` or the header
    ``serve_multiplexed_model_id``, and go to a replica that has it.

    Raises TypeError for what is no coroutine function with one argument, ValueError for a number below 1."""
    if func is not None:
        _check(func)
    if not isinstance(max_num_models_per_replica, int):
        raise TypeError("max_num_models_per_replica must be an integer.")
    if max_num_models_per_replica != -1 and max_num_models_per_replica <= 0:
        raise ValueError("max_num_models_per_replica must be positive.")

    def decorate(loader: Callable[..., Any]) -> Callable[..., Any]:
        _check(loader)
        found = _Loader(loader, max_num_models_per_replica)

        @wraps(loader)
        async def load(*args: Any) -> Any:
            return await found.load(args)

        return load

    return decorate(func) if func is not None else decorate


def _check(func: Callable[..., Any]) -> None:
    if not callable(func):
        raise TypeError("The `multiplexed` decorator must be used with a function or method.")
    if not inspect.iscoroutinefunction(func):
        raise TypeError("@serve.multiplexed can only be used to decorate async functions or methods.")
    if not 1 <= len(inspect.signature(func).parameters) <= 2:
        raise TypeError(
            "@serve.multiplexed can only be used to decorate functions or methods with at least one 'model_id: str' "
            "argument."
        )
