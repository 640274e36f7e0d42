"""The gate of a door: whether a request is served, by its head alone. All of it is pure, but for the file of keys.

A door on TCP is open to every user of the machine, and a forwarded one to every page in the user's browser. So the
name by which the service is reached must be its own: a foreign one would be DNS rebinding. A page that asks must be of
one of these names. Where there is a file of keys the request has one of them. Keys are compared by their hashes, all
of them each time, in a time that says nothing of them.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import stat
from collections import OrderedDict
from collections.abc import Iterable

from hpc.serve.http.head import Head, Refused

#: Names by which a forwarded port is reached.
OWN_NAMES = frozenset({"localhost", ""})
#: Any name: the door stands behind something that looks at it.
ANY = "*"
LEAST_KEY_LENGTH = 16
MOST_CLIENTS = 10_000
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class KeyFileError(Exception):
    """The file of keys cannot be used; the text says what to do."""


class Keys:
    """The keys of a file, one in each line; empty lines and those that begin with # are none."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._hashes: list[bytes] = []
        self.read()

    def read(self) -> None:
        """Read the file if it has changed. Raises KeyFileError where others can read it, or it has no key."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise KeyFileError(f"the file of API keys cannot be read: {error}") from None
        with os.fdopen(fd, "rb") as file:
            facts = os.fstat(fd)
            stamp = (facts.st_mtime_ns, facts.st_ino, facts.st_size)
            if facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o077:
                raise KeyFileError(
                    f"the file of API keys {self._path} belongs to another user or is open to others: chmod 600 it"
                )
            if stamp == self._stamp:
                return
            words = [line.strip() for line in file]
        keys = [word for word in words if word and not word.startswith(b"#")]
        if not keys or min(map(len, keys)) < LEAST_KEY_LENGTH:
            raise KeyFileError(
                f"{self._path} needs a key of {LEAST_KEY_LENGTH} or more characters in each line: openssl rand -hex 32"
            )
        self._hashes = [hashlib.sha256(key).digest() for key in keys]
        self._stamp = stamp

    def close(self) -> None:
        """Let nobody in, since the file can be used no more."""
        self._hashes, self._stamp = [], None

    def knows(self, key: bytes) -> bytes | None:
        """The hash of the key, if it is one of them."""
        given = hashlib.sha256(key).digest()
        found = False
        for one in self._hashes:
            found |= hmac.compare_digest(one, given)
        return given if found else None


def presented_key(head: Head) -> bytes:
    """The key of a request: `Authorization: Bearer KEY`, or `X-API-Key: KEY`. Empty where there is none."""
    for name, value in head.headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
        if name == b"x-api-key":
            return value
    return b""


class Bucket:
    """A number of requests per second for each client, and twice as many at once."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = max(1.0, 2 * rate)
        self._clients: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def take(self, client: object, now: float) -> bool:
        """Take one of the client's requests. Returns whether there was one."""
        left, at = self._clients.pop(client, (self._most, now))
        left = min(self._most, left + (now - at) * self._rate)
        is_allowed = left >= 1.0
        self._clients[client] = (left - 1.0 if is_allowed else left, now)
        if len(self._clients) > MOST_CLIENTS:
            self._clients.popitem(last=False)
        return is_allowed


def host_name(host: str) -> str:
    """The name in a Host header, without the port."""
    if host.startswith("["):
        return host.partition("]")[0][1:].lower()
    return host.partition(":")[0].lower()


class Names:
    """The names by which a door may be reached. An address is one always: nobody can point it elsewhere."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = OWN_NAMES | {name.lower() for name in names}
        self._is_any = ANY in self._names
        self._known: dict[bytes, bool] = {}

    def __contains__(self, host: object) -> bool:
        assert isinstance(host, bytes)
        known = self._known.get(host)
        if known is None:
            known = self._look(host_name(host.decode("latin-1")))
            if len(self._known) < 1000:
                self._known[host] = known
        return known

    def knows_page(self, host: bytes) -> bool:
        """Whether pages of this host may act here. An address is no name for that: anyone's page may have one."""
        name = host_name(host.decode("latin-1"))
        if self._is_any or name in self._names or name.endswith(".localhost"):
            return True
        address = _address(name)
        return address is not None and address.is_loopback

    def _look(self, name: str) -> bool:
        return self._is_any or name in self._names or name.endswith(".localhost") or _address(name) is not None


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


class Gate:
    """Looks at the head of each request of a door. ``open_paths``: without a key, but not for websockets."""

    def __init__(
        self,
        names: Names,
        keys: Keys | None = None,
        rate: float | None = None,
        open_paths: Iterable[bytes] = (b"/-/healthz",),
    ) -> None:
        self._names = names
        self._keys = keys
        self._bucket = Bucket(rate) if rate else None
        self._open_paths = frozenset(open_paths)

    def admit(self, head: Head, client: object, now: float) -> None:
        """Raise Refused unless the request may be served."""
        if head.host not in self._names:
            raise Refused(
                421,
                "this service is not known by that name: call it localhost, or name it in HTTPOptions.allowed_hosts",
            )
        if self._keys is None:
            self._check_origin(head)
        elif head.path not in self._open_paths or head.upgrade:
            client = self._keys.knows(presented_key(head))
            if client is None:
                raise Refused(401, "a key is needed: Authorization: Bearer KEY")
        if self._bucket is not None and not self._bucket.take(client, now):
            raise Refused(429, "there are too many requests: come again in a second")

    def _check_origin(self, head: Head) -> None:
        """A page of another site acts with the user's reach. It has no key; where none is needed its name must be
        known for what changes something, and for websockets."""
        for name, value in head.headers:
            if name == b"origin" and (head.method not in _READING or head.upgrade):
                host = value.partition(b"://")[2]
                if host != head.host and (not host or not self._names.knows_page(host)):
                    raise Refused(403, "a page of another site asks: name its host in HTTPOptions.allowed_hosts")
