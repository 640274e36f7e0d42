"""The gate of the dashboard: whether one request is served, decided from its facts alone.

A browser sends requests of any page, and a port of 127.0.0.1 is open to every user of a machine. So three things are
checked on every method. The name by which the server was reached must be its own: a foreign name would be DNS
rebinding. The page that asks must be its own: a foreign one would act with the user's cookie. And there must be the
cookie. It is given once, for a token that only the terminal of `hpc dashboard` has shown. Rejected: passwords (users
choose, forget and share them), and a token in each address (proxies and histories keep addresses).
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

#: Names by which a browser reaches a port that was forwarded to its own machine.
OWN_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
#: Browsers that may look at a time: the one that came first has to come again by a new link.
MOST_BROWSERS = 16
#: A header that pages of other origins cannot send without being asked for first.
MARK = "x-hpc"
READING = frozenset({"GET", "HEAD"})
ENTER = "api/enter"


class Asked(NamedTuple):
    """The facts of a request. ``path`` is relative to the dashboard's root; a header that is missing is empty."""

    method: str
    path: str
    host: str
    origin: str = ""
    fetch_site: str = ""
    is_marked: bool = False
    is_known: bool = False


class Refusal(NamedTuple):
    """Why a request is refused; ``status`` is that of HTTP."""

    status: int
    why: str


def decide(asked: Asked, names: Iterable[str] = ()) -> Refusal | None:
    """None where the request is served. ``names``: by which the server may be reached beside those of this machine."""
    if host_name(asked.host) not in OWN_NAMES | set(names):
        return Refusal(421, "this server is not known by that name: give it to hpc dashboard with --host")
    if asked.origin and asked.origin.partition("://")[2] != asked.host and _name_of(asked.origin) not in names:
        return Refusal(403, "a page of another origin asks")
    if asked.fetch_site in ("cross-site", "same-site") and asked.path.startswith("api/"):
        return Refusal(403, "a page of another site asks")
    if asked.method not in READING and asked.method != "POST":
        return Refusal(405, "only GET, HEAD and POST are answered")
    if not asked.path.startswith("api/"):
        return None if asked.method in READING else Refusal(405, "a page is read by GET")
    if asked.method == "POST" and not asked.is_marked:
        return Refusal(403, f"a POST needs the header {MARK}")
    if asked.path == ENTER:
        return None if asked.method == "POST" else Refusal(405, "a token is handed in by POST")
    if not asked.is_known:
        return Refusal(401, "no cookie of this dashboard: open the link that hpc dashboard has printed")
    return None


def host_name(host: str) -> str:
    """The name in a Host header, without the port."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).lower()


def _name_of(origin: str) -> str:
    return host_name(origin.partition("://")[2])


class Keys:
    """The token of the next browser, and the cookies of those that have come in. ``random`` makes 128 bits as text."""

    def __init__(self, random: Callable[[], str] = lambda: secrets.token_urlsafe(16)) -> None:
        self._random = random
        self._cookies: OrderedDict[str, None] = OrderedDict()
        self.token = random()

    def enter(self, token: str) -> str | None:
        """A cookie for the token, which is used up by this; None for any other text."""
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            return None
        cookie, self.token = self._random(), self._random()
        self._cookies[cookie] = None
        if len(self._cookies) > MOST_BROWSERS:
            self._cookies.popitem(last=False)
        return cookie

    def knows(self, cookie: str) -> bool:
        """Whether a browser has come in with this cookie."""
        return any(hmac.compare_digest(cookie.encode(), one.encode()) for one in self._cookies)
