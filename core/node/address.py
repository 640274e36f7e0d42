"""Which address of this machine a node listens on.

The order: what the user names (an interface or an address); 127.0.0.1 when the whole session is on one machine; a fast
network (hsn0, ib0, ...) that is up, when there are several nodes; the address from which packets leave for the outside;
the host's own; the first interface. Where there is none, a single node takes 127.0.0.1. For several that is an error:
each would be known to the others by an address that is their own.

IPv4 only: SIOCGIFCONF lists it in one call without any library. Rejected: psutil (a dependency for one
call), parsing `ip addr` (absent in containers).
"""

from __future__ import annotations

import array
import fcntl
import re
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from hpc.core.natural import natural
from hpc.core.node.reading import text_of

SIOCGIFCONF = 0x8912
SIOCGIFFLAGS = 0x8913
IFREQ_BYTES = 40  # sizeof(struct ifreq) where a pointer has 8 bytes
IFF_UP, IFF_LOOPBACK, IFF_RUNNING = 0x1, 0x8, 0x40
LOOPBACK = "127.0.0.1"

_FAST = re.compile(r"(hsn|ib|opa|hfi)[a-z]*\d")


class Interface(NamedTuple):
    """A network interface with an IPv4 address."""

    name: str
    addr: str
    up: bool

    @property
    def loopback(self) -> bool:
        return self.addr.startswith("127.")


class InterfaceError(Exception):
    """The interface that was asked for is not there; the text lists those that are."""


class NoNetworkError(InterfaceError):
    """Other nodes are to reach this one, and it has no interface but loopback."""


def list_interfaces() -> list[Interface]:
    """The interfaces of this machine that have an IPv4 address, in the kernel's order."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        size = 64 * IFREQ_BYTES
        while True:
            buffer = array.array("B", bytes(size))
            request = struct.pack("iP", size, buffer.buffer_info()[0])
            used = struct.unpack("iP", fcntl.ioctl(probe.fileno(), SIOCGIFCONF, request))[0]
            if used < size:
                break
            size *= 2
        found: list[Interface] = []
        data = buffer.tobytes()[:used]
        for at in range(0, used, IFREQ_BYTES):
            raw_name = data[at : at + 16]
            name = raw_name.split(b"\0", 1)[0].decode("ascii", "replace")
            addr = socket.inet_ntoa(data[at + 20 : at + 24])
            found.append(Interface(name, addr, _is_up(probe, raw_name)))
        return found


def _is_up(probe: socket.socket, raw_name: bytes) -> bool:
    try:
        answer = fcntl.ioctl(probe.fileno(), SIOCGIFFLAGS, struct.pack("16sh22x", raw_name, 0))
    except OSError:
        return False
    flags: int = struct.unpack("16sh22x", answer)[1]
    return bool(flags & IFF_UP and (flags & IFF_RUNNING or flags & IFF_LOOPBACK))


def interface_with(addr: str) -> str:
    """The name of this machine's interface that has the address; empty if there is none."""
    return next((i.name for i in list_interfaces() if i.addr == addr), "")


def outside_address() -> str | None:
    """The local address of a route to the outside (no packet is sent), if there is one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # reserved for documentation: nobody's machine
            addr: str = probe.getsockname()[0]
        except OSError:
            return None
    return None if addr == "0.0.0.0" else addr


def hostname_address(path: str = "/etc/hosts") -> str | None:
    """The address of this host's name in the hosts file. Asking the DNS was rejected: where no server answers, which is
    common on compute nodes, the lookup takes 10 s."""
    name = socket.gethostname()
    for line in text_of(path).splitlines():
        addr, *names = line.partition("#")[0].split() or [""]
        if name in names and "." in addr:
            return addr
    return None


def choose(
    interfaces: Sequence[Interface],
    *,
    wanted: str | None = None,
    loopback: bool = False,
    many_nodes: bool = False,
    outside: str | None = None,
    hostname: str | None = None,
) -> Interface:
    """Pick the interface by the order above; InterfaceError if `wanted` is not there or is down, NoNetworkError if
    there are several nodes and no network."""
    if wanted:
        return _named(interfaces, wanted)
    if loopback:
        return Interface("lo", LOOPBACK, True)
    usable = [i for i in interfaces if i.up and not i.loopback]
    if many_nodes:
        fast = sorted((i for i in usable if _FAST.match(i.name)), key=lambda i: natural(i.name))
        if fast:
            return fast[0]
    for addr in (outside, hostname):
        for interface in usable:
            if interface.addr == addr:
                return interface
    if many_nodes and not usable:
        raise NoNetworkError(
            "other nodes cannot reach this one: it has no network interface that is up; there are: "
            f"{_listed(interfaces)}. Have one brought up, or, if all nodes are on this machine, say --interface=lo"
        )
    return usable[0] if usable else Interface("lo", LOOPBACK, True)


def _listed(interfaces: Sequence[Interface]) -> str:
    there = ", ".join(f"{i.name} ({i.addr}{'' if i.up else ', down'})" for i in interfaces)
    return there or "none with an IPv4 address"


def _named(interfaces: Sequence[Interface], wanted: str) -> Interface:
    matches = [i for i in interfaces if wanted in (i.name, i.addr)]
    if any(i.up for i in matches):
        return next(i for i in matches if i.up)
    problem = "is down" if matches else "is not on this machine"
    raise InterfaceError(f"interface {wanted} {problem}; there are: {_listed(interfaces)}")


def node_address(*, wanted: str | None, loopback: bool, many_nodes: bool) -> Interface:
    """The interface and address that a node of this machine listens on."""
    if loopback and not wanted:
        return Interface("lo", LOOPBACK, True)
    return choose(
        list_interfaces(),
        wanted=wanted,
        loopback=loopback,
        many_nodes=many_nodes,
        outside=outside_address(),
        hostname=hostname_address(),
    )
