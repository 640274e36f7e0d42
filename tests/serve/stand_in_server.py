"""A program that stands in for a server of models: it listens where it is told and answers as OpenAI's service does.

Its answers say what it was asked. It is well at the third time of asking. A stream goes on until its reader leaves,
which it prints. By its last word it fails: "ends" as it begins, "deaf" to SIGTERM, "breaks" off its streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import Any

asked = 0


async def head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return first, headers, body


def answer(writer: asyncio.StreamWriter, code: int, value: Any) -> None:
    body = json.dumps(value).encode()
    writer.write(b"HTTP/1.1 %d x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (code, len(body)))
    writer.write(body)


async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mode: str) -> None:
    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    left = asyncio.ensure_future(reader.read())
    for number in range(1_000_000):
        event = b'data: {"number": %d}\n\n' % number
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await writer.drain()
        if mode == "breaks" and number == 2:
            break
        await asyncio.wait({left}, timeout=0.001)
        if left.done():
            print("the reader left", flush=True)
            break
    left.cancel()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mode: str) -> None:
    global asked
    with contextlib.suppress(ConnectionError):
        first, headers, body = await head(reader)
        method, path, _ = first.split()
        if path == "/health":
            asked += 1
            answer(writer, 200 if asked > 2 else 503, {})
        elif b'"stream": true' in body:
            await stream(reader, writer, mode)
        else:
            told = {"path": path, "method": method, "body": json.loads(body), "key": headers.get("authorization")}
            answer(writer, 200 if path != "/tokenize" else 404, {**told, "word": os.environ.get("STAND_IN_WORD")})
        await writer.drain()
    writer.close()


async def main(place: str, mode: str) -> None:
    if mode == "ends":
        print("no weights here", flush=True)
        sys.exit(3)
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer, mode)

    if place.isdigit():
        server = await asyncio.start_server(handle, "127.0.0.1", int(place))
    else:
        server = await asyncio.start_unix_server(handle, place)
    print(f"it has begun, {os.stat(place).st_mode & 0o777 if not place.isdigit() else 0:o}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
