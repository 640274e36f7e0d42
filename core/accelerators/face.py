"""What a vendor's class is, and what it may look at.

A class finds the devices of one vendor that this node was granted, and shows a process its own among them. It looks
only at what its `Probe` gives: files below a root, an environment, a way to import the vendor's Python module. So the
same code runs in tests without the hardware. Files come first: a vendor's library is loaded only where the device files
say that there is something to ask about.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from importlib import import_module
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from hpc.core.accelerators.base import Device, parse_ids
from hpc.core.natural import natural

ON = ("1", "true")
METADATA_TIMEOUT_S = 1.0


def fetch(url: str, headers: Mapping[str, str]) -> str:
    """The text at an address of the machine's own network; OSError where nobody answers."""
    from urllib.request import Request, urlopen  # for rented machines alone

    with urlopen(Request(url, headers=dict(headers)), timeout=METADATA_TIMEOUT_S) as answer:
        return str(answer.read().decode())


class Probe(Struct, frozen=True):
    """Where vendors look.

    environ: the variables of this node. root: of the file system. load: imports a module, ImportError where it is
    absent. fetch: the text at an address, OSError where nobody answers.
    """

    environ: Mapping[str, str]
    root: str = "/"
    load: Callable[[str], Any] = import_module
    fetch: Callable[[str, Mapping[str, str]], str] = fetch

    def path(self, *parts: str) -> str:
        """A path below the root."""
        return os.path.join(self.root, *parts)

    def names(self, folder: str, pattern: str = ".*") -> list[str]:
        """The names in a folder that the pattern fits as a whole, by their numbers; none where there is no folder."""
        try:
            found = os.listdir(self.path(folder))
        except OSError:
            return []
        return sorted((name for name in found if re.fullmatch(pattern, name)), key=natural)

    def text(self, *parts: str) -> str:
        """What a file says, without white space around it; empty where it cannot be read."""
        try:
            with open(self.path(*parts), encoding="utf-8", errors="replace") as file:
                return file.read().strip()
        except OSError:
            return ""

    def number(self, *parts: str, default: int = 0) -> int:
        """The number, decimal or with 0x, that a file says."""
        try:
            return int(self.text(*parts), 0)
        except ValueError:
            return default

    def exists(self, *parts: str) -> bool:
        """Whether there is such a file or folder."""
        return os.path.exists(self.path(*parts))

    def openable(self, *parts: str) -> bool:
        """Whether this process may read and write a device file: a device cgroup forbids it others' devices."""
        return os.access(self.path(*parts), os.R_OK | os.W_OK)

    def neighbours(self, folder: str) -> tuple[int, tuple[int, ...]]:
        """The NUMA node and the CPUs next to the PCI device with this folder in sysfs; -1 and none: not known."""
        return self.number(folder, "numa_node", default=-1), parse_cpus(self.text(folder, "local_cpulist"))

    def on_pci(self, bus: str) -> tuple[int, tuple[int, ...]]:
        """The same by the address of a PCI device, as 00000000:3B:00.0."""
        domain, _, rest = bus.lower().partition(":")
        return self.neighbours(f"sys/bus/pci/devices/{domain[-4:]:0>4}:{rest}")


class Vendor:
    """One vendor's accelerators. name: what a device's `vendor` says. variable: what the vendor's software reads to
    know which devices a process may use. prefix: what stands there before each id. noset: the user's word that this
    runtime leaves the variable alone."""

    name: ClassVar[str]
    resource: ClassVar[str]
    variable: ClassVar[str]
    noset: ClassVar[str]
    prefix: ClassVar[str] = ""

    def present(self, probe: Probe) -> bool:
        """Whether there are device files of this vendor: the cheap question that comes first."""
        raise NotImplementedError

    def spoken_of(self, environ: Mapping[str, str]) -> bool:
        """Whether variables of this vendor say which devices this node may use."""
        return self.variable in environ

    def granted(self, environ: Mapping[str, str]) -> tuple[str, ...] | None:
        """The ids to which variables of this vendor restrict this node; None: to none."""
        value = environ.get(self.variable)
        return None if value is None else parse_ids(value)

    def detect(self, probe: Probe, named: Sequence[str] = ()) -> tuple[Device, ...]:
        """The devices that this node may use. named: how the scheduler numbers them, where no variable says so."""
        raise NotImplementedError

    def show(self, ids: Sequence[str], devices: Iterable[Device], environ: MutableMapping[str, str]) -> None:
        """Make these devices, and no others, visible to the process with this environment. devices: all of the node."""
        if environ.get(self.noset, "").lower() not in ON:
            self.set(tuple(ids), tuple(devices), environ)

    def set(self, ids: tuple[str, ...], devices: tuple[Device, ...], environ: MutableMapping[str, str]) -> None:
        """Set the variables, which the user has not forbidden."""
        environ[self.variable] = ",".join(self.prefix + ident for ident in ids)

    def hide(self, environ: MutableMapping[str, str]) -> None:
        """Make no device visible to a process that holds none, where the vendor's software has a word for none."""

    def chosen(self, found: Sequence[Device], ids: Sequence[str] | None) -> tuple[Device, ...]:
        """The devices to which the node is restricted, of all that were found. An id that is absent ends the list."""
        if ids is None:
            return tuple(found)
        by_id = {device.id: device for device in found}
        there: list[Device] = []
        for ident in ids:
            if ident not in by_id:
                break
            there.append(by_id[ident])
        return tuple(there)


def linked(device: Device, links: Iterable[str]) -> Device:
    """The device with links to those with these ids."""
    return replace(device, links=tuple(links))


def only_links_among(devices: Sequence[Device]) -> tuple[Device, ...]:
    """The devices, with no link to one that is not among them."""
    there = {device.id for device in devices}
    return tuple(linked(device, [ident for ident in device.links if ident in there]) for device in devices)


def parse_cpus(text: str) -> tuple[int, ...]:
    """The numbers of a list of CPUs like 0-3,8."""
    cpus: list[int] = []
    for part in text.split(","):
        span = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part.strip())
        if span:
            cpus += range(int(span[1]), int(span[2] or span[1]) + 1)
    return tuple(cpus)


def without_libraries(probe: Probe) -> Probe:
    """The same place with no vendor's module to import: what the files alone say."""

    def refuse(name: str) -> Any:
        raise ImportError(f"{name} is not asked")

    return replace(probe, load=refuse)
