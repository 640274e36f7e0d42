"""The dashboard's web server as an application: what is at which address. Every request goes through the gate first."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from hpc.core.exceptions import GetTimeoutError, SessionLostError
from hpc.dashboard.feed import Feed
from hpc.dashboard.gate import MARK, OWN_NAMES, Asked, Keys, decide, host_name
from hpc.dashboard.pages.registry import BY_NAME, PAGES
from hpc.dashboard.views import Params

STATIC = Path(__file__).parent / "static"
#: What can be read, by its name in an address: a name that is not in here is nothing, whatever is in it.
FILES = {str(path.relative_to(STATIC)): path for path in STATIC.rglob("*") if path.is_file()}
#: A token is shorter; more than this is read of nobody, as everybody on the machine reaches the port.
MOST_TOKEN_BYTES = 200
#: And nobody is waited for longer than this.
TOKEN_S = 10.0
COOKIE = "hpc_dashboard"
#: A browser runs and loads nothing but what this server gives it.
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
#: Browsers complain of this one where they take an origin for insecure: another name than localhost, without TLS.
WHERE_SECURE = {"cross-origin-opener-policy": "same-origin"}

Scope = dict[str, Any]
Call = Callable[..., Awaitable[Any]]


class Gate:
    """Lets a request through, or answers it with a refusal; and puts the headers on every answer."""

    def __init__(self, app: Call, keys: Keys, names: Iterable[str], root: str, cookie: str) -> None:
        self._app, self._keys, self._names, self._root = app, keys, frozenset(names), root.rstrip("/")
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Call, send: Call) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._root and scope["path"].startswith(f"{self._root}/"):  # a proxy that leaves its own part in the path
            scope = {**scope, "path": scope["path"][len(self._root) :]}
        request = Request(scope)
        refusal = decide(
            Asked(
                scope["method"],
                scope["path"].lstrip("/"),
                request.headers.get("host", ""),
                request.headers.get("origin", ""),
                request.headers.get("sec-fetch-site", ""),
                MARK in request.headers,
                self._keys.knows(request.cookies.get(self._cookie, "")),
            ),
            self._names,
        )

        forwarded, host = request.headers.get("x-forwarded-proto", ""), request.headers.get("host", "")
        added = {**HEADERS, **(WHERE_SECURE if forwarded == "https" or host_name(host) in OWN_NAMES else {})}

        async def with_headers(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                more = [(name.encode(), value.encode()) for name, value in added.items()]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        answer = self._app if refusal is None else JSONResponse({"error": refusal.why}, refusal.status)
        await answer(scope, receive, with_headers)


def build(
    feed: Feed, keys: Keys, names: Iterable[str] = (), root: str = "", on_enter: Callable[[], None] = lambda: None
) -> Starlette:
    """The application. ``names`` and ``root``: how proxies reach it; ``on_enter`` is called when a token was used."""
    # Browsers keep the cookies of all ports of a machine together: one dashboard must not replace that of another.
    name = f"{COOKIE}_{secrets.token_hex(4)}"

    async def enter(request: Request) -> Response:
        try:
            token = await asyncio.wait_for(_beginning(request), TOKEN_S)
        except asyncio.TimeoutError:
            return JSONResponse({"error": "the token has not come in time"}, 408)
        cookie = keys.enter(token.decode(errors="replace"))
        if cookie is None:
            why = "this link was used, or is none: hpc dashboard has printed a new one"
            return JSONResponse({"error": why}, 403)
        on_enter()
        answer = JSONResponse({})
        # Without a path of its own the cookie is sent to api/ below this very dashboard only, wherever a proxy puts it.
        answer.headers["set-cookie"] = f"{name}={cookie}; HttpOnly; SameSite=Strict"
        return answer

    async def pages(_: Request) -> Response:
        return JSONResponse([{"name": page.name, "title": page.title, "key": page.key} for page in PAGES])

    async def page(request: Request) -> Response:
        if (found := BY_NAME.get(request.path_params["page"])) is None:
            return _missing("page")
        try:
            body = await feed.once(found, Params(request.query_params))
        except asyncio.TimeoutError:
            return JSONResponse({"error": "the session has not answered in time"}, 504)
        return Response(body, media_type="application/json")

    async def follow(request: Request) -> Response:
        if (found := BY_NAME.get(request.path_params["page"])) is None:
            return _missing("page")
        events = feed.follow(found, Params(request.query_params))
        return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-store"})

    async def more(request: Request) -> Response:
        found = BY_NAME.get(request.path_params["page"])
        asks = (found.acts if request.method == "POST" else found.more) if found else {}
        ask = asks.get(request.path_params["what"])
        if ask is None:
            return _missing("question")
        try:
            answer = await run_in_threadpool(ask, Params(request.query_params))
        except (FileNotFoundError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 404)
        except (GetTimeoutError, SessionLostError) as error:
            return JSONResponse({"error": str(error)}, 504)
        return Response(msgspec.json.encode(answer), media_type="application/json")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        feed.start()
        yield
        await run_in_threadpool(feed.asker.close)

    routes = [
        Route("/api/enter", enter, methods=["POST"]),
        Route("/api/pages", pages),
        Route("/api/page/{page}", page),
        Route("/api/feed/{page}", follow),
        Route("/api/more/{page}/{what}", more, methods=["GET", "POST"]),
        Route("/{file:path}", _static),
    ]
    middleware = [
        Middleware(Gate, keys=keys, names=names, root=root, cookie=name),
        Middleware(GZipMiddleware, minimum_size=500),
    ]
    return Starlette(routes=routes, middleware=middleware, lifespan=lifespan)


def _missing(what: str) -> Response:
    return JSONResponse({"error": f"there is no such {what}"}, 404)


async def _beginning(request: Request) -> bytes:
    """The body as far as a token goes; the rest stays unread."""
    found = b""
    async for piece in request.stream():
        found += piece[: MOST_TOKEN_BYTES - len(found)]
        if len(found) >= MOST_TOKEN_BYTES:
            break
    return found


async def _static(request: Request) -> Response:
    """A file of the page; the browser keeps it, and asks whether it is still the same."""
    name = str(request.path_params["file"])
    path = FILES.get(name.removeprefix("static/") or "index.html")
    if path is None:
        return _missing("file")
    body = path.read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match", "").removeprefix("W/") == tag:
        return Response(status_code=304, headers=headers)
    kind = "text/javascript" if path.suffix == ".js" else mimetypes.guess_type(path.name)[0] or "text/plain"
    return Response(body, media_type=kind, headers=headers)
