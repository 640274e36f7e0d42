"""A client that asks at a steady rate over kept connections, and says what became of each request.

    python -m bench.serve.client ADDRESS RATE CONNECTIONS KINDS [PATH]     unix:/a/path or http://127.0.0.1:80; get,post

It prints its counts five times a second, and all of its outcomes once its input ends. Kinds: ``get``, ``post``, and
``keyed``, a POST with an Idempotency-Key. Nothing is asked again: what breaks has failed. Programs use it by `Load`.
"""

from __future__ import annotations

import asyncio
import collections
import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from bench import spaces

#: A request without an answer after this long has failed.
LIMIT_S = 30.0
TELL_S = 0.2
BODY = b"0123456789" * 10
#: Different answers that are counted apart.
MOST_ANSWERS = 50


class Broken(Exception):
    """A connection that has no further answer; the text says how."""


class Connection:
    """One kept connection, which is opened when it is needed."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes, dict[bytes, bytes]]:
        """The status, body and headers of an answer. Raises Broken and OSError."""
        if self._reader is None or self._reader.at_eof():
            await self._open()
        assert self._reader is not None and self._writer is not None
        try:
            self._writer.write(request)
            head = await self._reader.readuntil(b"\r\n\r\n")
            headers = dict(re.findall(rb"([^\r\n:]+): *([^\r\n]*)\r\n", head.lower()))
            body = await self._body(headers)
        except asyncio.IncompleteReadError as error:
            self.close()
            raise Broken("it was closed in an answer" if error.partial else "it was closed before an answer") from None
        except BaseException:
            self.close()
            raise
        if headers.get(b"connection") == b"close":
            self.close()
        return int(head[9:12]), body, headers

    async def _open(self) -> None:
        self.close()
        if self._address.startswith("unix:"):
            opened = await asyncio.open_unix_connection(self._address.removeprefix("unix:"))
        else:
            host, _, port = self._address.rpartition("//")[2].rpartition(":")
            opened = await asyncio.open_connection(host, int(port))
        self._reader, self._writer = opened

    async def _body(self, headers: dict[bytes, bytes]) -> bytes:
        assert self._reader is not None
        if b"content-length" in headers:
            return await self._reader.readexactly(int(headers[b"content-length"]))
        parts = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            parts.append((await self._reader.readexactly(size + 2))[:-2])
        await self._reader.readexactly(2)
        return b"".join(parts)

    def close(self) -> None:
        """Close it."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


@dataclass
class Outcomes:
    """What became of requests of one kind. ``failed``: how many, by the reason; ``at``: when the first of each was."""

    asked: int = 0
    ok: int = 0
    failed: collections.Counter[str] = field(default_factory=collections.Counter)
    at: dict[str, float] = field(default_factory=dict)
    answers: collections.Counter[str] = field(default_factory=collections.Counter)
    latencies: list[float] = field(default_factory=list)
    retry_after: int = 0

    def fail(self, why: str, now: float) -> None:
        """A request has failed."""
        self.failed[why] += 1
        self.at.setdefault(why, now)

    def told(self) -> dict[str, Any]:
        """All of it as plain data."""
        latencies = sorted(self.latencies) or [0.0]
        return {
            "asked": self.asked, "ok": self.ok, "failed": dict(self.failed), "at": self.at,
            "answers": dict(self.answers), "retry_after": self.retry_after,
            "p50_ms": latencies[len(latencies) // 2] * 1e3, "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3,
            "worst_ms": latencies[-1] * 1e3,
        }  # fmt: skip


class Client:
    """All connections of a run."""

    def __init__(self, address: str, rate: float, kinds: list[str], path: str) -> None:
        self.address = address
        self.every_s = 1 / rate if rate else 0.0
        self.kinds = kinds
        self.path = path
        self.outcomes = {kind: Outcomes() for kind in kinds}
        self.is_over = False
        self.began = time.monotonic()
        #: The longest time without an answer 200, and when the last one came.
        self.gap_s, self._last = 0.0, self.began

    async def run(self, connections: int) -> None:
        """Ask until it is over."""
        await asyncio.gather(*(self._connection(number, connections) for number in range(connections)))

    async def _connection(self, number: int, of: int) -> None:
        connection, turn = Connection(self.address), number
        while not self.is_over:
            early_s = self.began + turn * self.every_s - time.monotonic()
            if early_s > 0:
                await asyncio.sleep(min(early_s, TELL_S))
                if early_s > TELL_S:
                    continue
            kind = self.kinds[turn % len(self.kinds)]
            await self._ask(connection, kind, turn)
            turn += of
        connection.close()

    def request(self, kind: str, turn: int) -> bytes:
        """The bytes of a request."""
        if kind == "get":
            return b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n" % self.path.encode()
        key = b"idempotency-key: %d\r\n" % turn if kind == "keyed" else b""
        head = b"POST %s HTTP/1.1\r\nhost: localhost\r\n%scontent-length: %d\r\n\r\n"
        return head % (self.path.encode(), key, len(BODY)) + BODY

    async def _ask(self, connection: Connection, kind: str, turn: int) -> None:
        outcomes, began = self.outcomes[kind], time.monotonic()
        outcomes.asked += 1
        try:
            status, body, headers = await asyncio.wait_for(connection.ask(self.request(kind, turn)), LIMIT_S)
        except asyncio.TimeoutError:
            outcomes.fail(f"no answer in {LIMIT_S:g} s", began - self.began)
            return
        except (Broken, OSError) as error:
            outcomes.fail(str(error) or type(error).__name__, began - self.began)
            return
        now = time.monotonic()
        outcomes.latencies.append(now - began)
        outcomes.retry_after += b"retry-after" in headers
        if status != 200:
            outcomes.fail(f"{status}", began - self.began)
            return
        outcomes.ok += 1
        self.gap_s, self._last = max(self.gap_s, now - self._last), now
        text = body[:100].decode("latin-1")
        if text in outcomes.answers or len(outcomes.answers) < MOST_ANSWERS:
            outcomes.answers[text] += 1


class Load:
    """The client in a process of its own, as long as the block runs. `end` has what became of each kind."""

    def __init__(
        self, address: str, *, rate: float = 0.0, connections: int = 16, kinds: str = "get", path: str = "/"
    ) -> None:
        words = [address, str(rate), str(connections), kinds, path]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.serve.client", *words], cwd=spaces.ROOT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._said: dict[str, Any] = {"asked": 0}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said = json.loads(line)

    @property
    def asked(self) -> int:
        """Requests so far."""
        return int(self._said["asked"])

    def more(self, count: int, limit_s: float = 60.0) -> None:
        """Wait until so many more have been asked."""
        wanted, until = self.asked + count, time.monotonic() + limit_s
        while self.asked < wanted:
            if time.monotonic() > until or self._process.poll() is not None:
                raise TimeoutError(f"the client has asked {self.asked} times, and not {wanted}")
            time.sleep(0.05)

    def end(self) -> dict[str, Any]:
        """Stop; the outcomes by their kinds, and the longest gap between two answers."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(LIMIT_S + 15)
        self._reader.join()
        return self._said

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join()


async def main(address: str, rate: str, connections: str, kinds: str, path: str = "/") -> None:
    client = Client(address, float(rate), kinds.split(","), path)
    running = asyncio.ensure_future(client.run(int(connections)))
    ended = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    while not ended.done():
        await asyncio.wait([ended], timeout=TELL_S)
        print(json.dumps({"asked": sum(one.asked for one in client.outcomes.values())}), flush=True)
    client.is_over = True
    await running
    told = {kind: outcomes.told() for kind, outcomes in client.outcomes.items()}
    asked = sum(one.asked for one in client.outcomes.values())
    print(json.dumps({"asked": asked, "gap_ms": client.gap_s * 1e3, **told}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
