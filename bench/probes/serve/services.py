"""A service that does as little as it can, under one peer: python services.py WHO serves until its input ends.

It prints ``@port N`` once it listens. ``/`` answers "ok", ``/stream?n=COUNT&gap=MS`` sends pieces of 20 bytes, and
``/echo`` gives a body back. Of hpc and Ray it is a deployment with one replica and 100 requests at a time. Of uvicorn
it is an application of starlette, which "hpc-ingress" serves too. LitServe and BentoML answer a POST alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

CHUNK = b"0123456789abcdefghi\n"
AT_A_TIME = 100
#: Where a peer answers, if that is not a GET of /.
POSTS = {"litserve": "/predict", "bentoml": "/ok"}
#: The modes of a peer that the environment chooses.
MODES = {"ray-throughput": {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}, "ray-haproxy": {"RAY_SERVE_ENABLE_HA_PROXY": "1"}}
BENTO = """
import bentoml

@bentoml.service(workers=1)
class Bench:
    @bentoml.api(route="/ok")
    async def ok(self) -> str:
        return "ok"
"""
LIT = """
import sys
import litserve

class Api(litserve.LitAPI):
    def setup(self, device):
        pass

    def decode_request(self, request):
        return request

    def predict(self, x):
        return x

    def encode_response(self, output):
        return {"answer": "ok"}

if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False,
               log_level="error", access_log=False)
"""


async def chunks(count: int, gap_s: float) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield CHUNK
        await asyncio.sleep(gap_s)


def counts(query: Any) -> tuple[int, float]:
    return int(query.get("n", 1)), float(query.get("gap", 0)) / 1000


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# ---------------------------------------------------------------- what is served


def deployment(serve: Any) -> Any:
    from starlette.responses import Response, StreamingResponse

    @serve.deployment(max_ongoing_requests=AT_A_TIME)
    class Bench:
        async def __call__(self, request: Any) -> Any:
            path = request.scope["path"]
            if path == "/stream":
                return StreamingResponse(chunks(*counts(request.query_params)), media_type="text/plain")
            if path == "/echo":
                return Response(await request.body())
            return "ok"

    return Bench.bind()


def application() -> Any:
    """The same as an application of starlette."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route

    async def ok(request: Any) -> Any:
        return PlainTextResponse("ok")

    async def stream(request: Any) -> Any:
        return StreamingResponse(chunks(*counts(request.query_params)), media_type="text/plain")

    async def echo(request: Any) -> Any:
        return Response(await request.body())

    return Starlette(routes=[Route("/", ok), Route("/stream", stream), Route("/echo", echo, methods=["POST"])])


def ingress(serve: Any) -> Any:
    @serve.deployment(max_ongoing_requests=AT_A_TIME)
    @serve.ingress(application)
    class Bench:
        pass

    return Bench.bind()


# ---------------------------------------------------------------- who serves


def said(port: int) -> None:
    """Tell the port, and wait until the service is to end."""
    print(f"@port {port}", flush=True)
    sys.stdin.read()


def serve_hpc(make: Callable[[Any], Any]) -> None:
    import hpc
    from hpc import serve
    from hpc.serve.http.door import told

    hpc.init(num_cpus=4)
    serve.start(http_options={"host": "127.0.0.1", "port": 0})
    serve.run(make(serve))
    (doors,) = told().values()
    said(int(doors[-1].rpartition(":")[2]))
    serve.shutdown()
    hpc.shutdown()


def serve_ray() -> None:
    import ray
    from ray import serve

    port = free_port()
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(deployment(serve))
    said(port)
    serve.shutdown()
    ray.shutdown()


def serve_uvicorn(loop: str) -> None:
    import uvicorn

    port = free_port()
    config = uvicorn.Config(
        application(), port=port, log_level="warning", access_log=False, loop=loop, http="httptools"
    )
    server = uvicorn.Server(config)

    async def work() -> None:
        serving = asyncio.ensure_future(server.serve())
        await asyncio.to_thread(said, port)
        server.should_exit = True
        await serving

    if loop == "uvloop":
        import uvloop

        uvloop.run(work())
    else:
        asyncio.run(work())


def below(command: list[str], port: int, cwd: str | None = None) -> None:
    """Serve by a command in a group of processes of its own, which ends with this one."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, cwd=cwd
    )
    try:
        said(port)
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)


def serve_litserve() -> None:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "service.py")
        script.write_text(LIT)
        below([sys.executable, str(script), str(port)], port, folder)


def serve_bentoml() -> None:
    port = free_port()
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "service.py").write_text(BENTO)
        os.environ["BENTOML_HOME"] = folder
        words = ["serve", "service:Bench", "--host", "127.0.0.1", "--port", str(port)]
        below([sys.executable, "-m", "bentoml", *words], port, folder)


def main(who: str) -> None:
    os.environ.update(MODES.get(who, {}))
    if who == "hpc":
        serve_hpc(deployment)
    elif who == "hpc-ingress":
        serve_hpc(ingress)
    elif who == "ray" or who in MODES:
        serve_ray()
    elif who == "uvicorn-uvloop":
        serve_uvicorn("uvloop")
    elif who == "uvicorn-asyncio":
        serve_uvicorn("asyncio")
    elif who == "litserve":
        serve_litserve()
    elif who == "bentoml":
        serve_bentoml()
    else:
        raise SystemExit(f"there is no peer {who!r}")


if __name__ == "__main__":
    main(sys.argv[1])
