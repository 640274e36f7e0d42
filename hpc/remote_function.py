"""Remote functions: what ``@hpc.remote`` makes of a function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from hpc import options as opts
from hpc.core.ids import return_id
from hpc.core.owner.client import MAX_PENDING_BYTES, Client
from hpc.core.owner.ref import ObjectRef
from hpc.core.wire import Task
from hpc.core.worker.context import current_task
from hpc.session import ensure_client
from hpc.submit import export, pack_arguments, shape_of


class RemoteFunction:
    """A function that runs elsewhere: ``f.remote(...)`` returns a reference to its result at once."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self._function = function
        self._options = opts.check_options(options, actor=False)
        self._name = str(options.get("name") or getattr(function, "__qualname__", repr(function)))
        self._client: Client | None = None
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{self._name}() is a remote function: call {self._name}.remote() instead")

    def __getstate__(self) -> dict[str, Any]:
        return {"_function": self._function, "_options": self._options, "_name": self._name, "_client": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def options(self, **options: Any) -> RemoteFunction:
        """The same function with other options; ``self`` stays as it is."""
        return RemoteFunction(self._function, {**self._options, **options})

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """Not supported yet."""
        raise NotImplementedError("task graphs (bind) are not supported yet")

    def _prepare(self, client: Client) -> None:
        options = self._options
        retry = opts.option(options, "retry_exceptions")
        kinds = tuple(retry) if isinstance(retry, (list, tuple)) else None
        self._fn = export(client, (self._function, kinds), self._name)
        held, placement = opts.amounts(options, actor=False)
        self._shape = shape_of(client, held, placement, opts.strategy(options), opts.env_vars(options), False)
        self._num_returns = int(opts.option(options, "num_returns"))
        self._retries = int(opts.option(options, "max_retries"))
        self._retry_exceptions = bool(retry)
        self._client = client

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a call. Returns an ObjectRef, a list of them for several return values, None for none."""
        client = ensure_client()
        if self._client is not client:
            self._prepare(client)
        data, refs, holds, _alive = pack_arguments(client, args, kwargs)
        context = current_task.get()
        count = self._num_returns
        machine = client.machine
        if machine.pending_bytes > MAX_PENDING_BYTES:
            client.wait_for_room()
        with client.lock:
            if machine.dropped:
                machine.drain_dropped()
            task = machine.new_ids(count)
            msg = Task(
                task,
                0,
                self._fn,
                self._name,
                data,
                count,
                [],
                refs,
                holds,
                0,
                0 if context is None else context.depth + 1,
                self._retry_exceptions,
            )
            machine.submit(msg, self._shape, self._retries, self._retry_exceptions, holds)
            if machine.urgent:
                client._flush()
        if machine.woken:
            client._after()
        if count == 1:
            return ObjectRef(task, client)
        return [ObjectRef(return_id(task, index), client) for index in range(count)] if count else None
