"""What this node was granted: CPUs, memory and accelerators.

The scheduler's grant is the truth, not the machine. CPUs: the least of the affinity mask, what the scheduler's
variables say and the CPU quota of any cgroup up the chain. Memory: the least of the memory limits up the chain, the
scheduler's figure and what is available. Accelerators: what the variables that make devices visible leave, else those
that the scheduler names, else those whose files may be opened (`core/accelerators/`).

Every function takes the root of the file system and the environment, so that tests give it theirs.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from hpc.core.accelerators import table
from hpc.core.accelerators.base import Device, parse_ids
from hpc.core.accelerators.table import Found
from hpc.core.node.reading import text_of
from hpc.core.node.spec import Granted, Start

UNLIMITED_BYTES = 1 << 60  # cgroup v1 says "no limit" with a number near 2**63


class NodeGrant(Struct, frozen=True):
    """What this node may use."""

    cpus: int
    mem_bytes: int
    found: Found

    @property
    def devices(self) -> tuple[Device, ...]:
        """The accelerators."""
        return self.found.devices


Ask = Callable[[Callable[[], Found]], Found]


def directly(question: Callable[[], Found]) -> Found:
    """Ask vendors' libraries in this process."""
    return question()


def apart(question: Callable[[], Found]) -> Found:
    """Ask them in a process of their own."""
    from hpc.core.node.apart import ask_apart

    return ask_apart(question, Found)


def detect(start: Start, rank: int, environ: Mapping[str, str], root: str = "/", ask: Ask = directly) -> NodeGrant:
    """The grant of the node `rank`, its part of it where several nodes divide one machine. ask: how the libraries of
    vendors of accelerators are asked."""
    said = start.granted(rank)
    cpus = granted_cpus(environ, start.grant_env.get("cpus", ()), root)
    cpus = cpus if said.cpus is None else max(1, min(cpus, said.cpus))
    mem_bytes = granted_memory(environ, start.grant_env, cpus, root)
    mem_bytes = mem_bytes if said.mem_mb is None else min(mem_bytes, said.mem_mb << 20)
    found = granted_devices(said, start.grant_env.get("gpus", ()), environ, root, ask)
    parts = start.machine_share
    part = rank % parts
    return NodeGrant(max(1, cpus // parts), mem_bytes // parts, part_of(found, part, parts))


def granted_cpus(environ: Mapping[str, str], grant_env: Sequence[str], root: str = "/") -> int:
    """The CPUs that this process may use at once, at least 1."""
    counts = [len(os.sched_getaffinity(0))]
    counts += [n for n in (_number(environ.get(name)) for name in grant_env) if n]
    quota = cgroup_cpu_quota(root)
    if quota is not None:
        counts.append(max(1, int(quota)))
    return max(1, min(counts))


def granted_memory(
    environ: Mapping[str, str], grant_env: Mapping[str, Sequence[str]], cpus: int, root: str = "/"
) -> int:
    """The bytes of memory that the node may use."""
    limits = [available_memory(root)]
    for name in grant_env.get("mem_mb", ()):
        limits.append(_megabytes(environ.get(name)))
    for name in grant_env.get("mem_mb_per_cpu", ()):
        limits.append(_megabytes(environ.get(name)) * cpus)
    limits.append(cgroup_memory_limit(root) or 0)
    return min((limit for limit in limits if limit > 0), default=1 << 30)


def granted_devices(
    said: Granted, grant_env: Sequence[str], environ: Mapping[str, str], root: str = "/", ask: Ask = directly
) -> Found:
    """The accelerators of this node, and what else it has because of them. ask: how vendors' libraries are asked."""
    values = [environ[name] for name in grant_env if environ.get(name)]
    named = parse_ids(values[0]) if values else tuple(said.devices)
    there = table.present(environ, root)
    found = table.Found()
    if there:
        from hpc.core.accelerators.face import Probe, without_libraries
        from hpc.core.node.apart import NotAnswered

        probe = Probe(environ, root)
        try:
            found = ask(lambda: table.find(probe, there, named, said.gpus))
        except NotAnswered as error:
            found = table.find(without_libraries(probe), there, named, said.gpus)
            print(f"accelerators by their device files alone, a library is silent: {error}", file=sys.stderr)
    if said.gpus == 0 or any(vendor.resource == "GPU" for vendor in there):
        return found
    return replace(found, devices=(*table.spoken_of(environ, named), *found.devices))


def part_of(found: Found, part: int, parts: int) -> Found:
    """A node's part where several divide a machine: its share of the devices of each resource. A slice is whole."""
    if parts == 1:
        return found
    of_each: dict[str, list[Device]] = {}
    for device in found.devices:
        of_each.setdefault(device.resource, []).append(device)
    own = [d[part * len(d) // parts : (part + 1) * len(d) // parts] for d in of_each.values()]
    return table.Found(tuple(device for devices in own for device in devices))


def switches_above(environ: Mapping[str, str], names: Sequence[str]) -> tuple[str, ...]:
    """The switches between the top of the network and this node, from a variable like root.s1.NODE; none: ()."""
    for name in names:
        if environ.get(name):
            return tuple(part for part in environ[name].split(".")[:-1] if part)
    return ()


def boot_id(root: str = "/") -> str:
    """Names this boot of this machine: two processes with the same one share a kernel."""
    return text_of(os.path.join(root, "proc/sys/kernel/random/boot_id")).strip()


def available_memory(root: str = "/") -> int:
    """MemAvailable in bytes, 0 if it cannot be read."""
    for line in text_of(os.path.join(root, "proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def cgroup_memory_limit(root: str = "/") -> int | None:
    """The tightest memory limit of this process's cgroup and those above it, in bytes."""
    limits: list[int] = []
    for version, folder in cgroup_chain("memory", root):
        name = "memory.max" if version == 2 else "memory.limit_in_bytes"
        limit = _number(text_of(os.path.join(folder, name)))
        if limit and limit < UNLIMITED_BYTES:
            limits.append(limit)
    return min(limits, default=None)


def cgroup_cpu_quota(root: str = "/") -> float | None:
    """The tightest CPU quota of this process's cgroup and those above it, in CPUs."""
    quotas: list[float] = []
    for version, folder in cgroup_chain("cpu", root):
        if version == 2:
            words = text_of(os.path.join(folder, "cpu.max")).split()
        else:
            words = [
                text_of(os.path.join(folder, "cpu.cfs_quota_us")).strip(),
                text_of(os.path.join(folder, "cpu.cfs_period_us")).strip(),
            ]
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def cgroup_chain(controller: str, root: str = "/") -> list[tuple[int, str]]:
    """(version, folder) of this process's cgroup for `controller` and of each one above it that is visible."""
    chain: list[tuple[int, str]] = []
    for version, mount_root, mount_point in _cgroup_mounts(controller, root):
        path = _cgroup_path(version, controller, root)
        if path is None:
            continue
        inside = path[len(mount_root.rstrip("/")) :] if _is_below(path, mount_root) else "/"
        top = os.path.normpath(os.path.join(root, mount_point.lstrip("/")))
        folder = os.path.normpath(os.path.join(top, inside.lstrip("/")))
        if not _is_below(folder, top) or not os.path.isdir(folder):
            folder = top
        while True:
            chain.append((version, folder))
            if folder == top:
                break
            folder = os.path.dirname(folder)
    return chain


def _cgroup_mounts(controller: str, root: str) -> list[tuple[int, str, str]]:
    mounts: list[tuple[int, str, str]] = []
    for line in text_of(os.path.join(root, "proc/self/mountinfo")).splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2":
            mounts.append((2, fields[3], fields[4]))
        elif kind[0] == "cgroup" and controller in kind[2].split(","):
            mounts.append((1, fields[3], fields[4]))
    return mounts


def _cgroup_path(version: int, controller: str, root: str) -> str | None:
    for line in text_of(os.path.join(root, "proc/self/cgroup")).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if version == 2 and number == "0" and not controllers:
            return path
        if version == 1 and controller in controllers.split(","):
            return path
    return None


def _is_below(path: str, top: str) -> bool:
    return top == "/" or path == top or path.startswith(top.rstrip("/") + "/")


def _number(text: str | None) -> int | None:
    """The first number in "4", "2(x3)" or "8,16"; None for "max" or nothing."""
    match = re.match(r"\s*(\d+)", text or "")
    return int(match[1]) if match else None


def _megabytes(text: str | None) -> int:
    match = re.fullmatch(r"\s*(\d+)\s*([KMGT]?)B?\s*", text or "", re.IGNORECASE)
    if match is None:
        return 0
    return int(match[1]) << {"K": 10, "": 20, "M": 20, "G": 30, "T": 40}[match[2].upper()]
