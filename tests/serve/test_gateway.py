"""The gateway before real services: a proxy is killed under load, a job ends while streams run, a file is answered."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httptools", reason="the doors of Serve need httptools")

from deploying import until

import hpc
from hpc import serve
from hpc.serve.gateway.process import Gateway, GatewayOptions
from hpc.util.state import list_actors

httpx = pytest.importorskip("httpx", reason="httpx is not installed here")


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    hpc.init(num_cpus=4)
    try:
        yield
        serve.shutdown()
    finally:
        hpc.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "r"
    path.mkdir(mode=0o700)
    return path


@asynccontextmanager
async def gateway(folder: Path, **options: Any) -> AsyncIterator[Any]:
    made = Gateway(GatewayOptions(registry=str(folder), **options))
    await made.start()
    transport = httpx.AsyncHTTPTransport(uds=made.doors[0].removeprefix("unix:"))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
            yield client
    finally:
        await made.stop()


@serve.deployment(max_ongoing_requests=20, graceful_shutdown_wait_loop_s=0.0)
class Echo:
    async def __call__(self, request: Any) -> str:
        await asyncio.sleep(0.005)
        return f"{request.method} {len(await request.body())}"


def proxy_pid() -> int | None:
    rows = [row for row in list_actors() if row["name"].startswith("SERVE_PROXY_ACTOR") and row["state"] == "ALIVE"]
    return int(rows[0]["pid"]) if rows and rows[0]["pid"] else None


def test_a_proxy_is_killed_under_load_and_no_idempotent_request_fails(session: None, folder: Path) -> None:
    serve.run(Echo.bind())
    serve.announce(str(folder), apps=["default"])

    async def work() -> None:
        given: list[Any] = []
        is_over = asyncio.Event()

        async def load(client: Any, number: int) -> None:
            while not is_over.is_set():
                try:
                    if number % 2:
                        answer = await client.get("/")
                    else:
                        answer = await client.post("/", content=b"body", headers={"idempotency-key": str(len(given))})
                    given.append(answer.text if answer.status_code == 200 else answer.status_code)
                except httpx.HTTPError as error:
                    given.append(error)

        async with gateway(folder) as client:
            loads = [asyncio.ensure_future(load(client, number)) for number in range(8)]
            for _ in range(2):
                pid = await asyncio.to_thread(until, proxy_pid, "a proxy")
                before = len(given)
                while len(given) < before + 100:
                    await asyncio.sleep(0.01)
                os.kill(pid, signal.SIGKILL)
                await asyncio.to_thread(until, lambda old=pid: proxy_pid() not in (None, old), "another proxy")
                before = len(given)
                while len(given) < before + 100:
                    await asyncio.sleep(0.01)
            is_over.set()
            await asyncio.gather(*loads)
        failed = [one for one in given if one not in ("GET 0", "POST 4")]
        assert not failed and len(given) >= 400, failed

    asyncio.run(asyncio.wait_for(work(), 90))
    serve.withdraw(0.0)
    assert not list(folder.glob("*.job"))
    serve.delete("default")


JOB = """
    import asyncio, sys
    import hpc
    from hpc import serve
    from starlette.responses import StreamingResponse

    @serve.deployment(max_ongoing_requests=50, graceful_shutdown_wait_loop_s=0.1, graceful_shutdown_timeout_s=60)
    class Count:
        def __init__(self, name):
            self.name = name

        async def __call__(self, request):
            number = int(request.query_params.get("n", 0))
            if not number:
                return self.name
            async def items():
                for item in range(number):
                    yield f"{item}\\n"
                    await asyncio.sleep(0.05)
            return StreamingResponse(items())

    hpc.init(num_cpus=2)
    serve.run(Count.bind(sys.argv[1]))
    serve.announce(sys.argv[2], name=sys.argv[1])
    print("up", flush=True)
    sys.stdin.readline()
    serve.withdraw(1.2)
    serve.shutdown()
    hpc.shutdown()
    print("down", flush=True)
"""


def test_a_job_ends_while_ten_streams_run_and_all_are_whole(tmp_path: Path, folder: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(textwrap.dedent(JOB))

    def job(name: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(script), name, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def line(of: subprocess.Popen[str], wanted: str) -> None:
        assert of.stdout is not None
        assert wanted in iter(lambda: (of.stdout.readline() or wanted).strip(), None)  # type: ignore[union-attr]

    async def work(first: subprocess.Popen[str]) -> subprocess.Popen[str]:
        given: list[str] = []
        is_over = asyncio.Event()

        async def load(client: Any) -> None:
            while not is_over.is_set():
                answer = await client.post("/", content=b"x")
                given.append(answer.text if answer.status_code == 200 else f"{answer.status_code} {answer.text}")
                await asyncio.sleep(0.01)

        async with gateway(folder) as client:
            await asyncio.to_thread(line, first, "up")
            loads = [asyncio.ensure_future(load(client)) for _ in range(3)]
            second = job("b")
            await asyncio.to_thread(line, second, "up")
            # While both serve, streams go to either.
            streams = [asyncio.ensure_future(client.get("/?n=60")) for _ in range(10)]
            await asyncio.sleep(0.3)
            assert first.stdin is not None
            first.stdin.write("end\n")
            first.stdin.flush()
            await asyncio.to_thread(line, first, "down")
            answers = [await stream for stream in streams]
            given.append((await client.get("/")).text)
            is_over.set()
            await asyncio.gather(*loads)
        whole = "".join(f"{item}\n" for item in range(60))
        assert [answer.text for answer in answers] == [whole] * 10
        assert set(given) == {"a", "b"} and given[-1] == "b"
        return second

    first = job("a")
    second = None
    try:
        second = asyncio.run(asyncio.wait_for(work(first), 90))
        second.communicate("end\n", timeout=60)
        assert (first.wait(30), second.returncode) == (0, 0)
    finally:
        for one in (first, second):
            if one is not None and one.poll() is None:
                one.kill()
                one.wait()


@serve.deployment(max_ongoing_requests=4, graceful_shutdown_wait_loop_s=0.0)
class Square:
    async def __call__(self, number: Any) -> Any:
        await asyncio.sleep(0.004)
        if number == "wrong":
            raise ValueError("no number")
        return number * number


BATCH = """
    import sys
    import hpc
    from hpc import serve
    hpc.init(address=sys.argv[1])
    print(serve.answer_file(serve.get_app_handle("square"), sys.argv[2], sys.argv[3], at_once=8))
    hpc.shutdown()
"""


def test_a_file_is_answered_line_by_line_through_kills(session: None, tmp_path: Path) -> None:
    handle = serve.run(Square.bind(), name="square", route_prefix=None)
    requests, answers = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [json.dumps("wrong" if number == 50 else number) for number in range(3000)]
    requests.write_text("\n".join([*lines[:100], "{no json", *lines[100:]]) + "\n")
    script = tmp_path / "batch.py"
    script.write_text(textwrap.dedent(BATCH))
    command = [sys.executable, str(script), "auto", str(requests), str(answers)]
    for least in (20, 200):
        run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        until(lambda n=least: answers.exists() and answers.read_bytes().count(b"\n") >= n, "some answers")
        took = time.monotonic()
        assert handle.remote(3).result(timeout_s=30) == 9
        assert time.monotonic() - took < 10.0
        run.kill()
        assert run.wait() == -signal.SIGKILL, run.stderr and run.stderr.read()
    with answers.open("ab") as file:
        file.write(b'{"line": 9')  # a line that was being written
    done = serve.answer_file(handle, str(requests), str(answers), at_once=8)
    assert (done.lines, done.errors) == (3001, 2) and done.before >= 200
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [row["line"] for row in rows] == list(range(3001))
    assert rows[3]["output"] == 9 and rows[3000]["output"] == 2999 * 2999
    assert "no number" in rows[50]["error"] and "no JSON" in rows[100]["error"]
    assert serve.answer_file(handle, str(requests), str(answers)).before == 3001
    requests.write_text("1\n2\n")
    with pytest.raises(serve.exceptions.RayServeException, match="other requests"):
        serve.answer_file(handle, str(requests), str(answers))
    serve.delete("square")


def test_low_priority_takes_free_slots_only(session: None) -> None:
    @serve.deployment(max_ongoing_requests=3, graceful_shutdown_wait_loop_s=0.0)
    class Held:
        def __init__(self) -> None:
            self.open = asyncio.Event()
            self.running = 0

        async def hold(self) -> int:
            self.running += 1
            await self.open.wait()
            return self.running

        async def __call__(self) -> str:
            return "at once"

        async def let_go(self) -> None:
            self.open.set()

    handle = serve.run(Held.bind(), name="held", route_prefix=None)
    low = [handle.hold.options(priority=-1).remote() for _ in range(6)]
    # Two of them run, and one slot stays free for others, which are answered meanwhile.
    assert [handle.remote().result(timeout_s=30) for _ in range(5)] == ["at once"] * 5
    handle.let_go.remote().result(timeout_s=30)
    assert max(one.result(timeout_s=30) for one in low) == 6
    serve.delete("held")
