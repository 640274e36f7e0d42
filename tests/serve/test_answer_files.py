"""Files of requests: each line has one answer, whatever is killed, and requests of low priority take free slots."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httptools", reason="the doors of Serve need httptools")

from deploying import until

import hpc
from hpc import serve


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    hpc.init(num_cpus=4)
    try:
        yield
        serve.shutdown()
    finally:
        hpc.shutdown()


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
