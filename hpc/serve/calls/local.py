"""An application in this process, for tests and debuggers: ``serve.run(app, _local_testing_mode=True)``.

No session is needed. All deployments run on the event loop of one thread, with the same code that runs in a replica.
Arguments and results are pickled on the way, so that what would not travel fails here too. There are no limits, no
second replica and no HTTP.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import pickle
import queue
import threading
from collections.abc import Callable
from typing import Any

from hpc import cloudpickle
from hpc.serve import context as contexts
from hpc.serve.calls import routers
from hpc.serve.calls.call import MISSING, Call, Kind
from hpc.serve.calls.servable import Servable
from hpc.serve.context import RequestContext, add_child, cancel_children, current_request
from hpc.serve.deployments import Application, build
from hpc.serve.messages import DeploymentID, ReplicaID, RequestMeta
from hpc.serve.specs import DeploymentSpec
from hpc.util.loop_thread import LoopThread

_loop = LoopThread("hpc-serve-local")


class LocalCall(Call):
    """A request of a local deployment. ``future`` has its value; ``items`` those of a stream, and its end."""

    __slots__ = ("future", "items", "result_value")

    def __init__(self, router: Any, kind: Kind, meta: RequestMeta, args: Any, kwargs: Any, parent: str) -> None:
        super().__init__(router, kind, meta, args, kwargs, parent)
        self.future: concurrent.futures.Future[Any] | None = None
        self.items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.result_value: Any = None

    def wait(self, timeout_s: float | None) -> Any:
        """Until it is over, in this thread."""
        over = threading.Event()
        self.when_over(over.set)
        if not over.wait(timeout_s):
            raise TimeoutError("Timed out waiting for result.")
        return MISSING

    def value(self) -> Any:
        """Its value. Raises what it has raised."""
        if self.error is not None:
            raise self.error
        return self.result_value

    argument = value

    async def next_item(self) -> Any:
        """The next item of a stream."""
        item = await asyncio.get_running_loop().run_in_executor(None, self.items.get)
        if type(item) is _End:
            self.items.put(item)
            if item.error is None:
                raise StopAsyncIteration
            raise item.error
        return item

    def next_item_sync(self) -> Any:
        """The next item of a stream."""
        item = self.items.get()
        if type(item) is _End:
            self.items.put(item)
            if item.error is None:
                raise StopIteration
            raise item.error
        return item


class _End:
    """Stands behind the last item."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class LocalRouter:
    """Stands for the router of a deployment that runs here."""

    has_replicas = True

    def __init__(self, app: str, spec: DeploymentSpec) -> None:
        self.deployment_id = DeploymentID(spec.name, app)
        self.lock = threading.RLock()
        self._spec = spec
        self._numbers = iter(range(1 << 62))
        self.servable: Servable
        self._context: contexts.ReplicaContext

    async def construct(self) -> None:
        """Make the user's object, and give it its config."""
        args, kwargs = pickle.loads(self._spec.init_args)
        config = self._spec.config
        self.servable = Servable(cloudpickle.loads(self._spec.callable), args, kwargs, config.max_ongoing_requests)

        def known(instance: Any) -> None:
            self._context = contexts.ReplicaContext(
                ReplicaID("local", self.deployment_id), instance, config, contexts.ReplicaRank(), 1
            )
            contexts.here.local.set(self._context)

        await self.servable.construct(known)
        await self.servable.reconfigure(config.user_config, 0)

    def begin(
        self, kind: Kind, meta: RequestMeta, args: tuple[Any, ...], kwargs: dict[str, Any], is_safe: bool = False
    ) -> LocalCall:
        """As of `Router`."""
        parent = current_request.get().attempt_id
        call = LocalCall(self, kind, meta, args, kwargs, parent)
        if parent:
            add_child(parent, call.serial, lambda: self.cancel(call))
        return call

    def submit(self, call: LocalCall, *, by_parent: bool = True) -> None:
        """As of `Router`."""
        if call.is_cancelled:
            call.finish(call.cancelled_error())
            return
        try:
            call.args, call.kwargs = cloudpickle.loads(cloudpickle.dumps((call.args, call.kwargs)))
        except Exception as error:
            call.finish(error)
            return
        run: Callable[..., Any] = self._stream if call.kind == "stream" else self._call
        context = contextvars.Context()
        work = run(call, call.args, call.kwargs)
        call.future = context.run(asyncio.run_coroutine_threadsafe, work, _loop.get())
        if call.kind == "stream":
            call.finish()

    def _enter(self, call: LocalCall) -> str:
        meta = call.meta
        attempt = f"{meta.request_id}/{next(self._numbers)}"
        contexts.here.local.set(self._context)
        current_request.set(
            RequestContext(
                meta.route,
                meta.request_id,
                self.deployment_id.app_name,
                meta.multiplexed_model_id,
                meta.session_id,
                attempt_id=attempt,
            )
        )
        return attempt

    async def _call(self, call: LocalCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        attempt = self._enter(call)
        try:
            call.result_value = await self.servable.call(call.meta.method, args, kwargs)
        except asyncio.CancelledError:
            cancel_children(attempt)
            call.finish(call.cancelled_error())
        except BaseException as error:
            call.finish(error)
        else:
            call.finish()

    async def _stream(self, call: LocalCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        attempt = self._enter(call)
        error: BaseException | None = None
        try:
            async for item in self.servable.items(call.meta.method, args, kwargs):
                call.items.put(item)
        except asyncio.CancelledError:
            cancel_children(attempt)
            error = call.cancelled_error()
        except BaseException as raised:
            error = raised
        call.items.put(_End(error))
        call.forget()

    def soon(self, work: Callable[..., None], *args: Any) -> None:
        """As of `Router`: nobody waits for anybody here."""
        work(*args)

    def cancel(self, call: LocalCall) -> None:
        """As of `Router`."""
        call.is_cancelled = True
        if call.future is not None:
            call.future.cancel()
            if call.kind == "stream":
                call.items.put(_End(call.cancelled_error()))
        call.finish(call.cancelled_error())  # its coroutine may not have begun, and says nothing then

    def strand(self, family: object) -> None:
        """As of `Router`: nothing waits here."""


def run_locally(target: Application, name: str) -> Any:
    """Run an application in this process; returns the handle of its ingress. Raises what a constructor raises."""
    from hpc.serve.handle import DeploymentHandle

    spec = build(target, name, None)
    routers.forget_local(name)
    for one in spec.deployments:
        router = LocalRouter(name, one)
        asyncio.run_coroutine_threadsafe(router.construct(), _loop.get()).result()
        routers.local_routers[router.deployment_id] = router
    return DeploymentHandle[Any](spec.ingress, name)
