"""Models as applications of Serve: a deployment for each model, and an ingress before all of them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

import hpc
from hpc import serve
from hpc.serve import metrics
from hpc.serve.context import replica_context
from hpc.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from hpc.serve.llm.config import LLMConfig, LLMServingArgs, serving_args
from hpc.serve.llm.ingress import Backend, OpenAiApp
from hpc.serve.llm.models import model_of
from hpc.serve.llm.schema import ApiError
from hpc.serve.llm.served import Reply, broken, opened

if TYPE_CHECKING:
    from hpc.serve.deployments import Application
    from hpc.serve.handle import DeploymentHandle


#: How long requests have to hear that their model has ended.
TOLD_S = 1.0
#: How often metrics say how an engine stands, and what they say.
TELL_S = 2.0
GAUGES = {
    "hpc_llm_running": "sequences that the engine runs",
    "hpc_llm_waiting": "sequences that wait in the engine",
    "hpc_llm_kv_used": "tokens for which memory is in use",
    "hpc_llm_kv_total": "tokens for which there is memory",
    "hpc_llm_prefix_hits": "tokens that were not computed again",
    "hpc_llm_preempted": "sequences that lost their memory and were computed again",
}


class LLMServer:
    """A replica of a model. `answer` is what the ingress calls; the others are for handles, with dicts as requests."""

    async def __init__(self, llm_config: LLMConfig) -> None:  # type: ignore[misc]
        self._config = llm_config
        self._model: Any = model_of(llm_config)
        await self._model.start()
        self._tasks: list[asyncio.Future[None]] = []
        if in_replica():
            self._tasks.append(asyncio.ensure_future(self._end_with_model()))
            if llm_config.log_engine_metrics:
                self._tasks.append(asyncio.ensure_future(self._tell()))

    async def _end_with_model(self) -> None:
        """A model that has ended by itself takes the replica along, at once: another one takes its place."""
        why = await self._model.lost()
        print(f"the model {self._config.model_id} has ended, and this replica with it: {why}", flush=True)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._model.drain(), TOLD_S)
        hpc.kill(hpc.get_runtime_context().current_actor)

    async def _tell(self) -> None:
        """Have the metrics of the session say how the engine stands."""
        gauges = {name: metrics.Gauge(name, text, ("model",)) for name, text in GAUGES.items()}
        while True:
            stats = msgspec.structs.asdict(self._model.stats())
            for name, gauge in gauges.items():
                gauge.set(stats[name.removeprefix("hpc_llm_")], {"model": self._config.model_id})
            await asyncio.sleep(TELL_S)

    async def answer(self, path: str, body: bytes) -> AsyncGenerator[Any, None]:
        """The answer to a POST: a status with the content's type and a whole body or None, then parts of the body."""
        reply = await self._model.answer(path, body)
        if reply.stream is None:
            yield reply.status, reply.content_type, reply.body
            return
        try:
            yield reply.status, reply.content_type, None
            async for part in reply.stream:
                yield part
        finally:
            await reply.stream.aclose()

    async def chat(self, request: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """An answer to a conversation: a dict, or with "stream" the text of each event."""
        async for item in self._called("/v1/chat/completions", request):
            yield item

    async def completions(self, request: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """How a text goes on: a dict, or with "stream" the text of each event."""
        async for item in self._called("/v1/completions", request):
            yield item

    async def embeddings(self, request: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """Vectors for texts, as one dict."""
        async for item in self._called("/v1/embeddings", request):
            yield item

    async def tokenize(self, request: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """The tokens of a text, as one dict."""
        async for item in self._called("/tokenize", request):
            yield item

    async def detokenize(self, request: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """The text of tokens, as one dict."""
        async for item in self._called("/detokenize", request):
            yield item

    async def _called(self, path: str, request: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        body = msgspec.json.encode({"model": self._config.model_id, **request})
        reply = await self._model.answer(path, body)
        if reply.stream is None:
            yield msgspec.json.decode(reply.body)
            return
        try:
            async for part in reply.stream:
                yield part.decode()
        finally:
            await reply.stream.aclose()

    async def llm_config(self) -> LLMConfig:
        """What this replica was made from."""
        return self._config

    async def engine_stats(self) -> dict[str, int]:
        """How the engine stands: sequences that run and wait, memory in tokens, tokens that were not computed again."""
        return msgspec.structs.asdict(self._model.stats())

    async def check_health(self) -> None:
        """Raise EngineError if the engine cannot serve any more: the replica is replaced then."""
        await self._model.check_health()

    def __del__(self) -> Any:
        # Serve awaits what this returns; the interpreter, which comes later, gets nothing.
        model, self._model = getattr(self, "_model", None), None
        for task in getattr(self, "_tasks", ()):
            task.cancel()
        return None if model is None else model.stop()


class OpenAiIngress:
    """The ingress: it speaks as OpenAI's service does, and asks the deployment of each model.

    llm_deployments: handles by the names of the models; model_cards: what else GET /v1/models tells of them."""

    #: This says to Serve that `_asgi_app` answers the requests.
    _hpc_ingress = True

    def __init__(
        self,
        llm_deployments: Mapping[str, DeploymentHandle[Any]],
        model_cards: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        backends = {name: through(handle) for name, handle in llm_deployments.items()}
        self._asgi_app = OpenAiApp(backends, model_cards)


#: Ray's other name for it.
LLMRouter = OpenAiIngress


def through(handle: DeploymentHandle[Any]) -> Backend:
    """A model behind a handle. Closing a stream that has not come to its end cancels the request in the replica."""
    streaming = handle.options(stream=True, method_name="answer")

    async def ask(path: str, body: bytes) -> Reply:
        parts = _until_left(streaming.remote(path, body))
        try:
            status, content_type, whole = await anext(parts)
        except Exception as error:
            raise _told(error) from error
        if whole is not None:
            async for _ in parts:
                raise AssertionError("an answer that is whole has parts")
            return Reply(status, content_type, whole)
        return Reply(status, content_type, stream=await opened(_rest(parts)))

    return ask


async def _rest(parts: AsyncGenerator[Any, None]) -> AsyncGenerator[bytes, None]:
    """The rest of a stream. A replica that dies on the way is told in it."""
    async with aclosing(parts):
        try:
            async for part in parts:
                yield part
        except Exception as error:
            yield broken(_told(error))


def _told(error: Exception) -> ApiError:
    """What a client is told when the replica did not answer."""
    if isinstance(error, BackPressureError):
        return ApiError(
            error.status_code, str(error), code="overloaded", kind="rate_limit_error", retry_after_s=error.retry_after_s
        )
    if isinstance(error, (DeploymentUnavailableError, ReplicaUnavailableError)):
        return ApiError(503, str(error), code="model_unavailable")
    return ApiError(500, str(error) or type(error).__name__, code="model_failed")


async def _until_left(response: Any) -> AsyncGenerator[Any, None]:
    is_whole = False
    try:
        async for item in response:
            yield item
        is_whole = True
    finally:
        if not is_whole:
            response.cancel()


def build_llm_deployment(
    llm_config: LLMConfig | Mapping[str, Any],
    *,
    name_prefix: str | None = None,
    bind_kwargs: dict[str, Any] | None = None,
    override_serve_options: dict[str, Any] | None = None,
    deployment_cls: type | None = None,
) -> Application:
    """A deployment of one model, without an ingress: its handle has `chat`, `completions` and others."""
    if not isinstance(llm_config, LLMConfig):
        llm_config = serving_args({"llm_configs": [llm_config]}).llm_configs[0]
    assert isinstance(llm_config, LLMConfig)
    cls = deployment_cls or _class(llm_config.server_cls) or LLMServer
    options = llm_config.deployment_options()
    name = options.get("name", llm_config.model_id.replace("/", "--").replace(".", "_"))
    options["name"] = (f"{cls.__name__}:" if name_prefix is None else name_prefix) + name
    options.update(override_serve_options or {})
    return serve.deployment(cls, **options).bind(llm_config=llm_config, **(bind_kwargs or {}))


def build_openai_app(llm_serving_args: LLMServingArgs | Mapping[str, Any]) -> Application:
    """An application that speaks as OpenAI's service does, for one or more models. `serve.run` takes it.

    Raises ValueError that names the field for arguments that are wrong."""
    args = serving_args(llm_serving_args)
    configs: list[LLMConfig] = args.llm_configs
    cls = _class(args.ingress.ingress_cls) or OpenAiIngress
    wished = max((config.experimental_configs.get("num_ingress_replicas", 1) for config in configs), default=1)
    options = {"name": cls.__name__, "num_replicas": wished, "max_ongoing_requests": 1000}
    if "autoscaling_config" in args.ingress_deployment_config:
        del options["num_replicas"]
    options.update(args.ingress_deployment_config)
    return serve.deployment(cls, **options).bind(
        llm_deployments={config.model_id: build_llm_deployment(config) for config in configs},
        model_cards={config.model_id: {"metadata": {"engine": config.engine}} for config in configs},
        **args.ingress.ingress_extra_kwargs,
    )


def in_replica() -> bool:
    """Whether this process is a replica of a session, which has metrics."""
    return replica_context() is not None


def _class(given: Any) -> Any:
    """A class, or one that is named: "module:name" or "module.name"."""
    if not isinstance(given, str):
        return given
    module, _, name = given.replace(":", ".").rpartition(".")
    return getattr(importlib.import_module(module), name)
