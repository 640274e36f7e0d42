"""A model behind a server of its own: vllm serve, SGLang, llama-server, or any that speaks as OpenAI's service does.

The server is a child of the replica, and ends with it. It listens on a socket in a directory that only its user may
enter. Its answers are passed on as they come: all that it can do is there, and none of its code is imported.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from urllib.parse import quote

import msgspec

from hpc.serve.llm.child_http import Answer, Door, LoopbackDoor, UnixDoor, ask
from hpc.serve.llm.engine import EngineError, EngineStats
from hpc.serve.llm.openai import EVENTS, JSON
from hpc.serve.llm.schema import ApiError
from hpc.serve.llm.served import Model, Reply, broken, opened, refused

#: How many of its last lines are told when a server does not begin.
TOLD_LINES = 20
#: How often to ask a server that begins whether it has; how long it may take to say that it is well.
LOOK_AGAIN_S = 0.1
HEALTH_S = 10.0
#: How long to wait for the last words of a server that has ended: what it has begun may hold its output open for good.
LAST_WORDS_S = 1.0
#: What a path has beside letters and digits. All else goes on as %XX: a path that ends its line would be two requests.
PATH_MARKS = "/-._~!$&'()*+,;=:@"


class ChildConfig(msgspec.Struct, kw_only=True):
    """How to start a server.

    server: "vllm", "sglang" or "llama-server"; or "" with a command of one's own. In that, {socket}, {port}, {model}
    and {model_id} are filled in; it listens on the socket, or on the port of 127.0.0.1 if it names one.
    args: further words for it. env: further variables. health: the path that answers 200 once the model is there.
    start_timeout_s: how long that may take; stop_timeout_s: how long the server may take to end."""

    server: str = "vllm"
    command: list[str] | None = None
    args: list[str] = []
    env: dict[str, str] = {}
    health: str = "/health"
    start_timeout_s: float = 1800.0
    stop_timeout_s: float = 30.0


def _vllm(config: ChildConfig, model: str, model_id: str, folder: Path) -> tuple[list[str], Door]:
    door = UnixDoor(str(folder / "s"))
    # Without a time of its own the server drops what runs when it is told to end.
    grace = str(int(config.stop_timeout_s))
    words = ["vllm", "serve", model, "--uds", door.path, "--served-model-name", model_id, "--shutdown-timeout", grace]
    return words, door


def _llama(config: ChildConfig, model: str, model_id: str, folder: Path) -> tuple[list[str], Door]:
    # It takes a host that ends so for a socket.
    door = UnixDoor(str(folder / "s.sock"))
    return ["llama-server", "--model", model, "--host", door.path, "--alias", model_id], door


def _sglang(config: ChildConfig, model: str, model_id: str, folder: Path) -> tuple[list[str], Door]:
    door = LoopbackDoor(free_port(), secrets.token_urlsafe(32))
    file = folder / "sglang.yaml"
    # The words of a command can be read by all users of a machine; this file cannot.
    file.write_text(f'api-key: "{door.key}"\n')
    words = [sys.executable, "-m", "sglang.launch_server", "--config", str(file), "--model-path", model]
    return [*words, "--served-model-name", model_id, "--host", "127.0.0.1", "--port", str(door.port)], door


SERVERS: dict[str, Callable[[ChildConfig, str, str, Path], tuple[list[str], Door]]] = {
    "vllm": _vllm,
    "sglang": _sglang,
    "llama-server": _llama,
}


def free_port() -> int:
    """A port of this machine that nobody uses at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def command_of(config: ChildConfig, model: str, model_id: str, folder: Path) -> tuple[list[str], Door]:
    """What to start, and where it will listen."""
    if config.command is not None:
        text = " ".join(config.command)
        if ("{socket}" in text) == ("{port}" in text):
            raise ValueError("command: one of {socket} and {port} says where the server is to listen")
        door: Door = UnixDoor(str(folder / "s")) if "{socket}" in text else LoopbackDoor(free_port(), "")
        place = {"{socket}": getattr(door, "path", ""), "{port}": str(getattr(door, "port", ""))}
        return [_filled(word, {**place, "{model}": model, "{model_id}": model_id}) for word in config.command], door
    if config.server not in SERVERS:
        raise ValueError(f"server={config.server!r}: {', '.join(SERVERS)}, or give a command of your own")
    words, door = SERVERS[config.server](config, model, model_id, folder)
    return [*words, *config.args], door


def _filled(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word


class ChildModel(Model):
    """A server of its own, and requests that are passed on to it."""

    def __init__(self, model_id: str, model: str, config: ChildConfig) -> None:
        self._model_id = model_id
        self._model = model
        self._config = config
        self._folder: Path | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._printing: asyncio.Task[None] | None = None
        self._last: deque[str] = deque(maxlen=TOLD_LINES)
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="hpc-llm-"))
        words, self._door = command_of(self._config, self._model, self._model_id, self._folder)
        if shutil.which(words[0]) is None:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise EngineError(f"{words[0]} is not installed here: put it on the PATH of the replicas (runtime_env)")
        self._process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **self._config.env},
            umask=0o077,
        )
        self._printing = asyncio.create_task(self._print(self._process))
        try:
            await asyncio.wait_for(self._until_well(self._process), self._config.start_timeout_s)
        except BaseException as error:
            await self.stop()
            if isinstance(error, asyncio.TimeoutError):
                seconds = self._config.start_timeout_s
                raise EngineError(f"{words[0]} did not begin within {seconds:g} s:{self._told()}") from error
            raise

    async def answer(self, path: str, body: bytes) -> Reply:
        self._began()
        is_open = False
        try:
            answer = await ask(self._door, "POST", quote(path, safe=PATH_MARKS), body)
            kind = answer.headers.get("content-type", JSON)
            if not kind.startswith(EVENTS):
                return Reply(answer.code, kind, await answer.body())
            stream = self._passed(answer)
            is_open = True
            return Reply(answer.code, kind, stream=await opened(stream))
        except EngineError as error:
            return refused(ApiError(503, str(error), code="engine_unavailable"))
        finally:
            if not is_open:
                self._left()

    def stats(self) -> EngineStats:
        return EngineStats(running=self._running)

    async def check_health(self) -> None:
        if self._process is None or self._process.returncode is not None:
            raise EngineError(f"the model's server has ended:{self._told()}")
        try:
            answer = await asyncio.wait_for(ask(self._door, "GET", self._config.health), HEALTH_S)
        except asyncio.TimeoutError as error:
            raise EngineError(f"the model's server did not say within {HEALTH_S:g} s that it is well") from error
        answer.close()
        if answer.code != 200:
            raise EngineError(f"the model's server answers {answer.code} to {self._config.health}")

    async def drain(self) -> None:
        await self._idle.wait()

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                try:
                    await asyncio.wait_for(_ended(process), self._config.stop_timeout_s)
                except asyncio.TimeoutError:
                    process.kill()
                    await _ended(process)
            await self._printed()
            if self._printing is not None:
                self._printing.cancel()
            process._transport.close()  # type: ignore[attr-defined]  # our end of its output
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    # -------------------------------------------------------------- below

    async def _passed(self, answer: Answer) -> AsyncGenerator[bytes, None]:
        """The events of the server. What breaks it off is told as one more."""
        try:
            async with aclosing(answer.parts()) as parts:
                async for part in parts:
                    yield part
        except EngineError as error:
            yield broken(ApiError(500, str(error)))
        finally:
            answer.close()
            self._left()

    def _began(self) -> None:
        self._running += 1
        self._idle.clear()

    def _left(self) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()

    async def _until_well(self, process: asyncio.subprocess.Process) -> None:
        """Wait until the server says that it is there. Raises EngineError if it ends before that."""
        while True:
            try:
                await self.check_health()
                return
            except EngineError:
                await asyncio.sleep(LOOK_AGAIN_S)
            if process.returncode is not None:
                await self._printed()
                raise EngineError(f"the model's server ended with {process.returncode} as it began:{self._told()}")

    async def _print(self, process: asyncio.subprocess.Process) -> None:
        """What the server says is what the replica says; its last lines are kept for errors."""
        assert process.stdout is not None
        while line := await _line(process.stdout):
            text = line.decode(errors="replace").rstrip()
            self._last.append(text)
            print(text, flush=True)

    async def _printed(self) -> None:
        """Wait until all that a server said that has ended is printed."""
        if self._printing is not None:
            await asyncio.wait({self._printing}, timeout=LAST_WORDS_S)

    def _told(self) -> str:
        return "".join(f"\n  {line}" for line in self._last) or " it said nothing"


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Wait until a server has ended. `wait` of asyncio would wait for the end of its output too."""
    while process.returncode is None:
        await asyncio.sleep(LOOK_AGAIN_S)


async def _line(stream: asyncio.StreamReader) -> bytes:
    """A line, or as much of a very long one as fits; empty at the end."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.read(error.consumed)
