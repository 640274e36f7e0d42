"""Which application a request goes to: the longest prefix, and of a split one of its applications. All of it is
pure."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from hpc.serve.messages import RouteRow, RouteTable

Headers = Sequence[tuple[bytes, bytes]]


class Routes:
    """The routes of a table, to look a path up: one look for each part of the path."""

    def __init__(self, table: RouteTable) -> None:
        self.table = table
        self._rows = {row.prefix: row for row in table.rows}
        self._longest = max(map(len, self._rows), default=0)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def match(self, path: str) -> RouteRow | None:
        """The row with the longest prefix of a path: /a is one of /a and /a/b, and none of /ab."""
        rows = self._rows
        at = path
        if len(at) > self._longest:  # a path may have thousands of parts, and no prefix has
            at = at[: max(at.rfind("/", 0, self._longest + 1), 0)]
        while at:
            row = rows.get(at)
            if row is not None:
                return row
            at = at[: at.rfind("/")] if "/" in at else ""
        return rows.get("/") if path.startswith("/") else None

    def listing(self) -> dict[str, str]:
        """What /-/routes says: prefixes and their applications."""
        return {row.prefix: row.app for row in self._rows.values()}

    def rows(self) -> list[RouteRow]:
        """All rows."""
        return list(self._rows.values())


def plain_path(path: bytes) -> str:
    """A path as it was received, as the text that routes are compared with."""
    text = path.decode("latin-1")
    return unquote(text) if "%" in text else text


def ingress_of(row: RouteRow, app: str) -> str:
    """The deployment that gets the requests of the row's own application, or of one of its split. Such a one may have
    no row of its own."""
    return row.ingress if app == row.app else row.ingresses.get(app, row.ingress)


def sticky_key(row: RouteRow, headers: Headers, session_id: str) -> bytes | None:
    """What keeps requests of one client at one application of a split; None where the request does not say it."""
    kind, _, name = row.sticky.partition(":")
    if kind == "session":
        return session_id.encode() or None
    if kind == "header":
        wanted = name.lower().encode()
        return next((value for key, value in headers if key == wanted), None)
    if kind == "cookie":
        return _cookie(headers, name)
    return None


def _cookie(headers: Headers, name: str) -> bytes | None:
    for key, value in headers:
        if key == b"cookie":
            for part in value.split(b";"):
                found, _, text = part.strip().partition(b"=")
                if found == name.encode():
                    return text
    return None
