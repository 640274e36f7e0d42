"""A language model behind its API, under one who serves it, and clients that read its streams.

    python llm.py toy|hf|transformers FOLDER CLIENTS TOKENS SECONDS

toy and hf are models of hpc.serve, transformers its own `transformers serve --continuous-batching`; the last two with
the model in FOLDER. CLIENTS is a list (1,4,16). Each client asks again once it has its answer of so many TOKENS. Prints
``@bench {...}``: for each number of clients tokens/s, and ms to the first token.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpc.serve.llm.child_http import Door, LoopbackDoor, UnixDoor, ask
from hpc.serve.llm.engine import EngineError
from hpc.serve.llm.process import free_port

START_S = 120.0
CHAT = "/v1/chat/completions"
#: For both who run the model: room for all clients.
BLOCKS, BATCH_TOKENS = 64, 256


@contextlib.contextmanager
def served(who: str, folder: str) -> Iterator[tuple[Door, str]]:
    """Where the model is served, and its name there."""
    if who == "transformers":
        with by_transformers(folder) as door:
            yield door, folder
        return
    import hpc
    from hpc import serve
    from hpc.serve.llm import LLMConfig, build_openai_app
    from hpc.serve.messages import CONTROLLER_NAME, NAMESPACE

    arguments: dict[str, Any] = {}
    if who == "hf":
        arguments = {"num_blocks": BLOCKS, "max_batch_tokens": BATCH_TOKENS, "device": "cpu", "max_memory": 0.2}
    hpc.init(num_cpus=4)
    try:
        loading = {"model_id": who, "model_source": folder}
        config = LLMConfig(model_loading_config=loading, llm_engine=who, engine_kwargs=arguments)
        serve.run(build_openai_app({"llm_configs": [config]}))
        controller = hpc.get_actor(CONTROLLER_NAME, namespace=NAMESPACE)
        doors = hpc.get(controller.wait_proxies.remote())
        path = next(door for listed in doors.values() for door in listed if door.startswith("unix:"))
        yield UnixDoor(path.removeprefix("unix:")), who
        serve.shutdown()
    finally:
        hpc.shutdown()


@contextlib.contextmanager
def by_transformers(folder: str) -> Iterator[Door]:
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", folder, "--continuous-batching"]
    command += ["--port", str(port), "--host", "127.0.0.1", "--device", "cpu", "--cb-num-blocks", str(BLOCKS)]
    command += ["--cb-max-batch-tokens", str(BATCH_TOKENS), "--cb-max-memory-percent", "0.2"]
    # As many threads as a replica has: more of them make a small model slower.
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=env)
    try:
        yield LoopbackDoor(port, "any")
    finally:
        child.terminate()
        try:
            child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


async def until_well(door: Door, model: str) -> None:
    """Wait until it answers, and its first answer is made."""
    end = time.monotonic() + START_S
    while True:
        try:
            await stream(door, model, "warm", 4)
            return
        except (EngineError, ValueError):
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.2)


async def stream(door: Door, model: str, text: str, tokens: int) -> tuple[float, int]:
    """Ask once: ms to the first text, and how many tokens came."""
    fields = {"model": model, "messages": [{"role": "user", "content": text}], "stream": True, "temperature": 0}
    body = json.dumps({**fields, "max_tokens": tokens}).encode()
    began = time.perf_counter()
    answer = await ask(door, "POST", CHAT, body)
    first, count, left = 0.0, 0, b""
    if answer.code != 200:
        raise ValueError(f"{answer.code}: {await answer.body()!r}")
    async for part in answer.parts():
        *events, left = (left + part).split(b"\n\n")
        for event in events:
            if event.startswith(b"data: {"):
                choices = json.loads(event[6:])["choices"]
                # The model says a byte with each token, and each of its bytes is a character.
                if new := len((choices[0]["delta"].get("content") if choices else "") or ""):
                    first = first or time.perf_counter()
                    count += new
    answer.close()
    return (first - began) * 1000, count


async def load(door: Door, model: str, clients: int, tokens: int, seconds: float) -> dict[str, Any]:
    """This many clients, for this long."""
    firsts: list[float] = []
    made = 0
    began = time.perf_counter()
    end = began + seconds

    async def one(number: int) -> None:
        nonlocal made
        turn = 0
        while time.perf_counter() < end:
            first, count = await stream(door, model, f"client {number}, turn {turn}", tokens)
            firsts.append(first)
            made += count
            turn += 1

    await asyncio.gather(*map(one, range(clients)))
    taken = time.perf_counter() - began
    firsts.sort()
    return {
        f"rate_{clients}": made / taken,
        f"first_p50_ms_{clients}": statistics.median(firsts),
        f"first_p99_ms_{clients}": firsts[int(0.99 * (len(firsts) - 1))],
    }


def main(who: str, folder: str, clients: str, tokens: str, seconds: str) -> int:
    async def run(door: Door, model: str) -> dict[str, Any]:
        await until_well(door, model)
        found: dict[str, Any] = {}
        for count in map(int, clients.split(",")):
            found |= await load(door, model, count, int(tokens), float(seconds))
        return found

    with served(who, folder) as (door, model):
        print("@bench " + json.dumps(asyncio.run(run(door, model))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
