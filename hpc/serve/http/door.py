"""The doors of a node's service: a socket of the user's own, and TCP where it was asked for.

The socket lies in the node's directory, which only its user can enter. `ssh -L` forwards a port of another machine to
it; so nothing listens on the network. A port of TCP is open to all users of the machine: it has keys, or a warning.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import shlex
import socket
import ssl
import stat
from pathlib import Path
from typing import Any

import msgspec

from hpc import spi
from hpc.serve.messages import DOORS_KEY, NAMESPACE
from hpc.util.node import get_node_ip_address

#: The name of the socket; a path of a socket has 107 bytes at most.
SOCKET = "serve.sock"
#: What listens here listens at all addresses of the machine.
ALL_ADDRESSES = ("0.0.0.0", "::")
#: The port on the user's own machine in the line that is printed.
LOCAL_PORT = 8000


class DoorError(Exception):
    """A door cannot be opened; the text says what to do."""


def socket_path(directory: str) -> str:
    """Where the socket of a node goes. Raises DoorError unless the directory is the user's alone."""
    facts = os.stat(directory)
    if facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o077:
        raise DoorError(f"{directory} is open to others, so no door is made in it: chmod 700 it")
    return str(Path(directory) / SOCKET)


def clear(path: str) -> None:
    """Take away the socket of a proxy that is gone."""
    try:
        if stat.S_ISSOCK(os.stat(path, follow_symlinks=False).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        pass


def bound(path: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket at a path, which its user alone can open from the first moment on."""
    clear(path)
    found = socket.socket(socket.AF_UNIX, kind)
    before = os.umask(0o177)
    try:
        found.bind(path)
    finally:
        os.umask(before)
    return found


def tls_context(options: Any) -> ssl.SSLContext | None:
    """The certificate and key of the options; None where they have none. With ssl_ca_certs a client needs a
    certificate,
    as well. Raises DoorError for files that cannot be used."""
    if not options.ssl_certfile:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(options.ssl_certfile, options.ssl_keyfile, options.ssl_keyfile_password)
        if options.ssl_ca_certs:
            context.load_verify_locations(options.ssl_ca_certs)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise DoorError(f"TLS cannot be used with {options.ssl_certfile}: {error}") from None
    return context


def machine_names() -> set[str]:
    """The names of this machine, long and short."""
    name = socket.gethostname()
    return {name, name.partition(".")[0]}


def reachable_name() -> str:
    """The name by which other machines reach this one. It is the address that its node listens on, where its own name
    says nothing of it here: so others will not know it either."""
    name = socket.gethostname()
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        found = []
    if any(not ipaddress.ip_address(str(row[4][0]).partition("%")[0]).is_loopback for row in found):
        return name
    address = get_node_ip_address()
    return name if ipaddress.ip_address(address).is_loopback else address


def ssh_line(path: str, host: str, user: str = "", login: str = "", port: int = LOCAL_PORT) -> str:
    """The line for a terminal of another machine, which leads a port there to the socket here."""
    user = user or user_name()
    jump = f"-J {user}@{login} " if login else ""
    return f"ssh -N {jump}-L {port}:{shlex.quote(path)} {user}@{host}"


def user_name() -> str:
    """The user's name on this machine."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container without its host's users
        return os.environ.get("USER", str(os.getuid()))


def told() -> dict[str, list[str]]:
    """The doors of each node with a proxy, as its proxy has told: `unix:PATH`, and `http://HOST:PORT` where there is
    one.
    {} where no service runs."""
    data = spi.kv_get(NAMESPACE, DOORS_KEY)
    found: dict[str, list[str]] = msgspec.msgpack.decode(data) if data else {}
    return found
