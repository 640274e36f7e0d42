"""A model behind a server of its own: a stand-in is started, asked, left in the middle of an answer, and ended."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hpc.serve.llm.engine import EngineError
from hpc.serve.llm.process import ChildConfig, ChildModel, command_of

PROGRAM = str(Path(__file__).with_name("stand_in_server.py"))
CHAT = "/v1/chat/completions"


def child(mode: str = "well", place: str = "{socket}", **options: Any) -> ChildModel:
    options = {"start_timeout_s": 60, "stop_timeout_s": 20, **options}
    return ChildModel("m", "weights", ChildConfig(command=[sys.executable, PROGRAM, place, mode], **options))


def served(model: ChildModel, use: Callable[[ChildModel], Awaitable[None]]) -> None:
    async def run() -> None:
        await model.start()
        try:
            await use(model)
        finally:
            await model.stop()

    asyncio.run(run())


@pytest.mark.parametrize("place", ["{socket}", "{port}"])
def test_what_the_server_answers_is_the_answer(place: str, capfd: pytest.CaptureFixture[str]) -> None:
    async def use(model: ChildModel) -> None:
        reply = await model.answer(CHAT, b'{"model": "m", "any": "thing"}')
        told = json.loads(reply.body)
        assert (reply.status, told["path"], told["body"]) == (200, CHAT, {"model": "m", "any": "thing"})
        assert told["word"] == "hello"
        assert (await model.answer("/tokenize", b"{}")).status == 404
        # A client writes %0D%0A in a path: that is no further request, which might be one that clients may not make.
        split = await model.answer("/v1/é HTTP/1.1\r\nhost: a\r\n\r\nPOST /reset", b"{}")
        told = json.loads(split.body)
        assert told["path"] == "/v1/%C3%A9%20HTTP/1.1%0D%0Ahost:%20a%0D%0A%0D%0APOST%20/reset"
        await model.check_health()
        await model.drain()
        assert model.stats().running == 0

    served(child(place=place, env={"STAND_IN_WORD": "hello"}), use)
    # What the server says is what the replica says; nobody else may knock at its socket.
    assert f"it has begun, {'700' if place == '{socket}' else '0'}" in capfd.readouterr().out


def test_a_reader_that_leaves_is_seen_by_the_server(capfd: pytest.CaptureFixture[str]) -> None:
    async def use(model: ChildModel) -> None:
        reply = await model.answer(CHAT, b'{"stream": true}')
        assert reply.content_type == "text/event-stream" and reply.stream is not None
        seen = b""
        async for part in reply.stream:
            seen += part
            if b'"number": 5' in seen:
                break
        assert seen.startswith(b'data: {"number": 0}\n\ndata: {"number": 1}')
        assert model.stats().running == 1
        await reply.stream.aclose()
        await model.drain()
        unread = await model.answer(CHAT, b'{"stream": true}')
        assert unread.stream is not None
        await unread.stream.aclose()
        await model.drain()
        while model._last.count("the reader left") < 2:
            await asyncio.sleep(0.01)

    served(child(), use)


def test_a_stream_that_breaks_off_says_so() -> None:
    async def use(model: ChildModel) -> None:
        reply = await model.answer(CHAT, b'{"stream": true}')
        assert reply.stream is not None
        seen = b"".join([part async for part in reply.stream]).decode()
        assert seen.count('"number"') == 3
        *_, error, done, _ = seen.split("\n\n")
        assert "broke off" in json.loads(error.removeprefix("data: "))["error"]["message"]
        assert done == "data: [DONE]"
        await model.drain()

    served(child("breaks"), use)


def test_a_server_that_ends_is_not_well_and_answers_503() -> None:
    async def use(model: ChildModel) -> None:
        assert model._process is not None
        model._process.kill()
        await model._process.wait()
        with pytest.raises(EngineError, match="has ended"):
            await model.check_health()
        reply = await model.answer(CHAT, b"{}")
        assert reply.status == 503
        assert json.loads(reply.body)["error"]["code"] == "engine_unavailable"

    served(child(), use)


def test_a_server_that_does_not_begin_says_why() -> None:
    async def run() -> None:
        with pytest.raises(EngineError, match=r"ended with 3 as it began:\n  no weights here"):
            await child("ends").start()
        with pytest.raises(EngineError, match=r"did not begin within 0\.5 s"):
            await child(health="/nowhere", start_timeout_s=0.5).start()
        with pytest.raises(EngineError, match="not installed here"):
            await ChildModel("m", "w", ChildConfig(command=["no-such-server", "{socket}"])).start()

    asyncio.run(run())


def test_a_server_that_leaves_another_process_behind_has_ended() -> None:
    program = "import subprocess, sys; subprocess.Popen(['sleep', '8']); print('no weights'); sys.exit(3)"

    async def run() -> None:
        began = asyncio.get_running_loop().time()
        model = ChildModel("m", "w", ChildConfig(command=[sys.executable, "-c", program, "{socket}"]))
        with pytest.raises(EngineError, match=r"ended with 3 as it began:\n  no weights"):
            await model.start()
        assert asyncio.get_running_loop().time() - began < 7

    asyncio.run(run())


def test_a_server_that_is_deaf_is_killed() -> None:
    async def run() -> None:
        model = child("deaf", stop_timeout_s=0.2)
        await model.start()
        process = model._process
        await model.stop()
        assert process is not None and process.returncode == -9

    asyncio.run(run())


def test_known_servers_listen_where_nobody_else_may_knock(tmp_path: Path) -> None:
    vllm, door = command_of(ChildConfig(args=["--enforce-eager"]), "org/model", "name", tmp_path)
    assert vllm[:3] == ["vllm", "serve", "org/model"]
    assert vllm[vllm.index("--uds") + 1] == door.path == str(tmp_path / "s")  # type: ignore[union-attr]
    assert vllm[-1] == "--enforce-eager" and "--shutdown-timeout" in vllm
    llama, door = command_of(ChildConfig(server="llama-server"), "a.gguf", "name", tmp_path)
    assert llama[llama.index("--host") + 1] == door.path  # type: ignore[union-attr]
    sglang, door = command_of(ChildConfig(server="sglang"), "org/model", "name", tmp_path)
    key = door.key  # type: ignore[union-attr]
    assert key and not any(key in word for word in sglang)
    assert key in Path(sglang[sglang.index("--config") + 1]).read_text()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ChildConfig(server="x"), "server='x'"),
        (ChildConfig(command=["a"]), "one of {socket} and {port}"),
        (ChildConfig(command=["a", "{socket}", "{port}"]), "one of {socket} and {port}"),
    ],
)
def test_a_command_that_cannot_be_is_refused(config: ChildConfig, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        command_of(config, "m", "m", tmp_path)
