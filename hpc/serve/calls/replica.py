"""The actor of a replica: it accepts or rejects requests, runs them, and says how it is.

A call that it accepts is one call of the actor and one answer. It takes as many requests at a time as the deployment
allows, whoever sends them; the next one is told that the replica is full. `probe` and `stats` have a thread of their
own, so that code that blocks the event loop is no silence.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import pickle
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, NamedTuple

import hpc
from hpc import cloudpickle, spi
from hpc.serve import context as contexts
from hpc.serve.calls import remote_calls
from hpc.serve.calls.reporting import LoadTeller
from hpc.serve.calls.servable import Servable
from hpc.serve.context import NO_REQUEST, RequestContext, cancel_children, current_request
from hpc.serve.messages import (
    HttpOpened,
    HttpReply,
    HttpRequest,
    Rejected,
    ReplicaFacts,
    ReplicaID,
    ReplicaStats,
    RequestMeta,
    http_request,
    meta_of,
    packed_http,
)
from hpc.serve.metrics import ReplicaNumbers
from hpc.serve.multiplex import loaded_models, unload_all

#: The group of calls that have a thread of their own.
CONTROL = "control"
#: A request that found no room comes again within this time.
WANTED_S = 0.6
#: The beginning of an answer that goes on has at most this many bytes: callers load it where they read.
OPENED_BYTES = 64 * 1024
#: A piece of a stream has the weight of one for each of these bytes: what its caller has not taken is bounded by that.
WEIGHT_BYTES = 64 * 1024
#: An answer whose rest nobody has asked for after this time has lost its reader.
CLAIM_S = 30.0
#: A replica without requests waits for this long until callers know that it takes none: what is sent to it meanwhile
#: goes elsewhere, and would be lost with its process.
TOLD_S = 0.3


class _Opened(NamedTuple):
    """An answer that has begun, and whose rest nobody reads yet. ``kept``: its first bytes, where they are many."""

    answer: Any
    kept: bytes
    request: RequestContext
    timer: asyncio.TimerHandle


class Replica:
    """One replica of a deployment. Its actor has a concurrency group `CONTROL`. The controller calls all but `call`,
    `stream`, `http`, `http_rest` and `http_drop`."""

    def __init__(self, replica_id: ReplicaID, spec: Any, app: Any, gang: Any = None) -> None:
        self._id = replica_id
        self._spec = spec
        self._app = app
        self._gang = gang
        self._config = spec.config
        self._limit: int = spec.config.max_ongoing_requests
        self._ongoing = 0
        #: How many broadcasts run: the limit is higher by them.
        self._beside = 0
        #: When a request of no low priority found no room.
        self._wanted_at = 0.0
        self._is_draining = False
        self._idle = asyncio.Event()
        self._beginning: asyncio.Task[ReplicaFacts] | None = None
        self._servable: Servable | None = None
        self._asgi: Any = None
        self._user_config: Any = None
        self._numbers = itertools.count(1)
        self._streams: dict[str, _Opened] = {}
        self._drops: set[asyncio.Task[None]] = set()
        self._is_deleted = False
        self._metrics = ReplicaNumbers(replica_id)
        self._borrower: Any = None
        self._telling: asyncio.Task[None] | None = None

    # -------------------------------------------------------------- its life

    async def begin(self, user_config: Any = None, rank: int = 0, world_size: int = 1) -> ReplicaFacts:
        """Make the user's object and give it its config. Called again, by another controller, it says the same again.

        Raises what the constructor raises."""
        if self._beginning is None:
            self._beginning = asyncio.ensure_future(self._begin(user_config, rank, world_size))
        return await asyncio.shield(self._beginning)

    async def _begin(self, user_config: Any, rank: int, world_size: int) -> ReplicaFacts:
        spec = self._spec
        args, kwargs = pickle.loads(spec.init_args)
        servable = Servable(cloudpickle.loads(spec.callable), args, kwargs, self._limit)

        def known(instance: Any) -> None:
            contexts.here.replica = contexts.ReplicaContext(
                self._id, instance, self._config, contexts.ReplicaRank(rank), world_size, spec.code_version, self._gang
            )

        await servable.construct(known)
        await servable.reconfigure(user_config, rank)
        self._user_config = user_config
        if spec.is_asgi:
            app = self._app_of(servable, getattr(servable.instance, "_asgi_app", None))
            await app.start()
            self._asgi = app
        self._servable = servable
        self._telling = asyncio.ensure_future(LoadTeller(self._id, self._metrics, lambda: self._ongoing).run())
        identity = spi.whoami()
        return ReplicaFacts(
            os.getpid(), identity.node.hex(), identity.worker.hex(), spec.is_asgi, servable.hooks(),
            getattr(servable.instance, "_hpc_docs_path", None) or "",
        )  # fmt: skip

    async def reconfigure(self, config: Any, rank: int = 0, world_size: int = 1) -> None:
        """Take another config in place. The user's `reconfigure` runs where its own part of it is another one."""
        servable = self._ready()
        self._config = config
        self._limit = config.max_ongoing_requests + self._beside
        servable.resize(config.max_ongoing_requests)
        replica = contexts.here.replica
        changed_rank = replica is not None and replica.rank.rank != rank
        if replica is not None:
            replica._deployment_config, replica.world_size = config, world_size
            replica.rank = contexts.ReplicaRank(rank)
        if config.user_config != self._user_config or changed_rank:
            self._user_config = config.user_config
            await servable.reconfigure(config.user_config, rank)

    async def check_health(self) -> None:
        """Raises what the user's `check_health` raises. Without one a replica is well when it can answer this."""
        servable = self._ready()
        if servable.has("check_health"):
            await servable.hook("check_health")

    @hpc.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    async def probe(self) -> int:
        """How many requests run: it can always be asked."""
        return self._ongoing

    async def stats(self) -> ReplicaStats:
        """What runs, what the user's hooks say, and which models are loaded."""
        servable = self._ready()
        scaling = await servable.hook("record_autoscaling_stats") if servable.has("record_autoscaling_stats") else {}
        routing = await servable.hook("record_routing_stats") if servable.has("record_routing_stats") else {}
        return ReplicaStats(self._ongoing, scaling or {}, routing or {}, loaded_models())

    async def until_end(self) -> None:
        """Never returns: the call breaks when the replica ends."""
        await asyncio.get_running_loop().create_future()

    async def drain(self, wait_loop_s: float = 0.0, timeout_s: float | None = None) -> bool:
        """Take no request any more. Waits for ``wait_loop_s``, until no caller sends here; then until nothing runs, and
        clients have read what was sent here. An idle one waits for `TOLD_S` at most.
        False where something still does after ``timeout_s`` in all."""
        self._is_draining = True
        if self._borrower is not None:
            self._borrower.leave()
        try:
            await asyncio.wait_for(self._drained(wait_loop_s), timeout_s)
        except asyncio.TimeoutError:
            return False
        return True

    async def _drained(self, wait_loop_s: float) -> None:
        await asyncio.sleep(wait_loop_s if self._ongoing else min(wait_loop_s, TOLD_S))
        while self._ongoing:
            self._idle.clear()
            await self._idle.wait()
        if self._borrower is not None:  # what a client has not read of its answer is here still
            await self._borrower.returned()

    async def stop(self) -> None:
        """Run the user's ``__del__``, once, and unload what is loaded. What it raises is raised here."""
        if self._is_deleted:
            return
        self._is_deleted = self._is_draining = True
        if self._asgi is not None:
            await self._asgi.stop()
        await unload_all()
        if self._servable is not None:
            await self._servable.delete()

    def _ready(self) -> Servable:
        if self._servable is None:
            raise RuntimeError(f"{self._id} has not begun")
        return self._servable

    # -------------------------------------------------------------- requests

    async def call(self, meta: bytes, /, *args: Any, **kwargs: Any) -> Any:
        """Run a method; its value, or Rejected."""
        told = meta_of(meta)
        if self._is_full(told):
            return self._reject(told)
        request = self._enter(told)
        servable = self._ready()
        try:
            method = servable.method(request.method)
            if told.is_grpc:
                value = await remote_calls.value(servable, method.name, args[0])
            elif method.kind == "async":
                value = await method.call(*args, **kwargs)
                if inspect.isasyncgen(value):
                    raise TypeError(_GENERATOR.format(method.name))
            else:
                value = await servable.call(request.method, args, kwargs)
        except asyncio.CancelledError:
            self._cancelled()
            raise
        except BaseException:
            self._metrics.errors += 1
            raise
        finally:
            self._leave()
        return value

    async def stream(self, meta: bytes, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Run a method that is a generator. Its first item is None where the request is accepted, else Rejected."""
        told = meta_of(meta)
        if self._is_full(told):
            yield self._reject(told)
            return
        request = self._enter(told)
        servable, name = self._ready(), request.method
        items: Any = remote_calls.items(servable, name, args[0]) if told.is_grpc else servable.items(name, args, kwargs)
        try:
            yield None
            async for item in items:
                yield item
        except (asyncio.CancelledError, GeneratorExit):
            self._cancelled()
            raise
        except BaseException:
            self._metrics.errors += 1
            raise
        finally:
            self._leave()
            await items.aclose()

    async def broadcast(self, meta: bytes, /, *args: Any, **kwargs: Any) -> Any:
        """Run a method whatever else runs: it takes the place of no request, and none takes its place."""
        servable = self._ready()
        request = self._enter(meta_of(meta))
        self._beside += 1
        self._limit += 1
        try:
            return await servable.call(request.method, args, kwargs)
        except asyncio.CancelledError:
            self._cancelled()
            raise
        except BaseException:
            self._metrics.errors += 1
            raise
        finally:
            self._leave()
            self._beside -= 1
            self._limit -= 1

    def _is_full(self, meta: RequestMeta) -> bool:
        """Whether there is no room for a request: it goes elsewhere."""
        if self._ongoing >= self._limit or self._is_draining:
            return True
        return meta.priority < 0 and self._is_for_others()

    def _is_for_others(self) -> bool:
        """Whether a request of low priority has to leave room. A slot stays free for the next one of another priority,
        and a request that was turned away comes first."""
        return self._ongoing + 1 >= self._limit > 1 or time.monotonic() - self._wanted_at < WANTED_S

    def _reject(self, meta: RequestMeta) -> Rejected:
        self._metrics.rejected += 1
        if meta.priority >= 0:
            self._wanted_at = time.monotonic()
        return Rejected(self._ongoing, self._is_draining)

    def _enter(self, meta: RequestMeta, is_call: bool = True) -> RequestMeta:
        """A request is accepted: the code that runs from here on serves it."""
        self._ongoing += 1
        attempt = f"{meta.request_id}/{next(self._numbers)}"
        current_request.set(
            RequestContext(
                meta.route,
                meta.request_id,
                meta.app_name,
                meta.multiplexed_model_id,
                meta.session_id,
                meta.is_http,
                trace=meta.trace,
                attempt_id=attempt,
                priority=meta.priority,
                is_call=is_call,
                began=time.monotonic(),
            )
        )
        return meta

    def _leave(self, request: RequestContext | None = None) -> None:
        self._ongoing -= 1
        request = request or current_request.get()
        self._metrics.took(time.monotonic() - request.began, request.route)
        if not self._ongoing and self._is_draining:
            self._idle.set()

    def _cancelled(self) -> None:
        """What the request has begun elsewhere ends with it."""
        self._metrics.cancelled += 1
        cancel_children(current_request.get().attempt_id)

    # -------------------------------------------------------------- HTTP

    async def http(self, meta: bytes, data: bytes) -> Any:
        """Answer a request of HTTP: a whole answer, or the beginning of one whose rest `http_rest` has, or Rejected."""
        told = meta_of(meta)
        if self._is_full(told):
            return self._reject(told)
        request_id = self._enter(told).request_id
        streams = False
        try:
            request = http_request(data)
            answer = await self.http_app().handle(request, partial(self._pull, request, request_id))
            self._metrics.errors += answer.status >= 500
            if type(answer) is HttpReply:
                return packed_http(answer)
            ident = f"{request_id}/{next(self._numbers)}"
            first, kept = (answer.first, b"") if len(answer.first) <= OPENED_BYTES else (b"", answer.first)
            timer = asyncio.get_running_loop().call_later(CLAIM_S, self._unclaimed, ident)
            self._streams[ident] = _Opened(answer, kept, current_request.get(), timer)
            streams = True
            return packed_http(HttpOpened(ident, answer.status, answer.headers, first))
        except asyncio.CancelledError:
            self._cancelled()
            raise
        except BaseException:
            self._metrics.errors += 1
            raise
        finally:
            if not streams:
                self._leave()

    async def http_rest(self, ident: str) -> AsyncIterator[bytes]:
        """The rest of a streamed answer. Where nobody reads it to its end, what makes it is cancelled."""
        found = self._taken(ident)
        if found is None:
            raise RuntimeError(f"there is no stream {ident}: it has ended, or it is read already")
        answer = found.answer
        current_request.set(found.request)
        try:
            if found.kept:
                yield found.kept
            async for piece in answer:
                yield piece
                for _ in range(len(piece) // WEIGHT_BYTES):  # callers pass over these, once the piece is taken
                    yield b""
        except (asyncio.CancelledError, GeneratorExit):
            self._cancelled()
            raise
        finally:
            self._leave()
            await answer.close()

    async def http_drop(self, ident: str) -> None:
        """Nobody reads the rest of a streamed answer. Where `http_rest` has it, that was cancelled."""
        found = self._taken(ident)
        if found is not None:
            self._metrics.cancelled += 1
            cancel_children(found.request.attempt_id)
            self._leave(found.request)
            await found.answer.close()

    def http_app(self) -> Any:
        """What answers HTTP; a plain deployment has it with its first request of HTTP."""
        if self._asgi is None:
            servable = self._ready()
            self._asgi = self._app_of(servable, servable.instance)
        return self._asgi

    async def join(self, path: str) -> None:
        """Let the proxy that listens at a path lend its connections."""
        from hpc.serve.http.borrower import Borrower

        self._ready()
        if self._borrower is None:
            spi.tell_work(_work_of_its_own)
            self._borrower = Borrower(self, self._id.unique_id)
        self._borrower.join(path)

    def has_room(self, spare: int) -> bool:
        """Whether it takes a request of a connection that was lent. Others that wait come first."""
        if self._is_draining or self._ongoing >= self._limit:
            self._wanted_at = time.monotonic()
            return False
        return self._ongoing < spare and (not self._wanted_at or time.monotonic() - self._wanted_at >= WANTED_S)

    def enter(self, meta: RequestMeta) -> None:
        """Such a request begins, in the context that serves it. It is no call of the actor."""
        self._enter(meta, is_call=False)

    def left(self, *, is_error: bool = False, is_cancelled: bool = False) -> None:
        """Such a request has ended, in its context, which others may have after it."""
        if is_cancelled:
            self._cancelled()
        elif is_error:
            self._metrics.errors += 1
        self._leave()
        current_request.set(NO_REQUEST)

    def _taken(self, ident: str) -> _Opened | None:
        found = self._streams.pop(ident, None)
        if found is not None:
            found.timer.cancel()
        return found

    def _unclaimed(self, ident: str) -> None:
        """Its caller has ended before it has asked for the rest."""
        task = asyncio.get_running_loop().create_task(self.http_drop(ident))
        self._drops.add(task)
        task.add_done_callback(self._drops.discard)

    def _app_of(self, servable: Servable, target: Any) -> Any:
        from hpc.serve.http.asgi import App

        return App(target, is_asgi=self._spec.is_asgi, in_thread=servable.in_thread)

    async def _pull(self, request: HttpRequest, request_id: str) -> Any:
        """What the client sends further, as an event of ASGI: the proxy has it."""
        if not request.proxy:
            return {"type": f"{request.kind}.disconnect"}
        proxy = pickle.loads(request.proxy)
        return await proxy.receive.remote(request_id)


def _work_of_its_own() -> tuple[str, str] | None:
    """The request that this code serves, where no call of the actor does: one of a connection that was lent."""
    request = current_request.get()
    return None if request.is_call or not request.attempt_id else (request.attempt_id, "Replica.http")


_GENERATOR = (
    "Method '{}' returned a generator. You must use `handle.options(stream=True)` to call generators on a deployment."
)
