"""Checks of the machine that they run on: a login node, a laptop, or each node of a job."""

from __future__ import annotations

import os
import platform
import resource
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from hpc.core.accelerators.base import ids_by_resource, parse_ids
from hpc.core.accelerators.table import TABLE
from hpc.core.node import address, detect, fabric_devices
from hpc.core.node.limits import OPEN_FILES
from hpc.core.node.spec import Granted
from hpc.core.policy import fabric
from hpc.core.store.arena import create_arena
from hpc.doctor.finding import Check, Finding, fail, ok, warn

#: Fewer open files than this are not enough for a raylet with some 300 workers.
FEW_FILES = 4096
#: Fewer processes and threads than this run out with a few dozen workers whose libraries start threads.
FEW_PROCESSES = 4096
#: torch's data loaders and NCCL put segments here.
SMALL_SHM_BYTES = 1 << 30
PROBE_BYTES = 16 << 20
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def checks(interface: str | None = None, fabric_env: str = "") -> list[tuple[str, Check]]:
    """The checks in the order in which people read them. interface: as in `hpc-launch --interface`. fabric_env: the
    runtime's option."""
    return [
        ("python", python),
        ("cpus", cpus),
        ("memory", memory),
        ("shared memory", shared_memory),
        ("open files", open_files),
        ("processes", processes),
        ("interface", lambda: network(interface)),
        ("fabric", lambda: fabric_environment(os.environ, interface, fabric_env)),
        ("proxies", lambda: proxies(os.environ)),
        ("gpus", lambda: gpus(os.environ)),
    ]


def python() -> Iterator[Finding]:
    seen = f"{platform.python_version()} at {sys.executable}"
    yield ok("python", seen)
    if sys.platform != "linux":
        yield fail("system", sys.platform, "hpc runs on Linux")


def cpus() -> Iterator[Finding]:
    """The CPUs that this process may use, beside those that the machine has."""
    usable, there = detect.granted_cpus({}, ()), os.cpu_count() or 1
    yield ok("cpus", f"{usable} of {there}")
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads and threads.isdigit() and int(threads) > usable:
        yield warn(
            "cpus", f"OMP_NUM_THREADS={threads} with {usable} CPUs", "unset OMP_NUM_THREADS: each worker gets its own"
        )


def memory() -> Iterator[Finding]:
    limit, free = detect.cgroup_memory_limit(), detect.available_memory()
    seen = f"{_gib(free)} free" + (f", limit of the cgroup {_gib(limit)}" if limit else ", no limit of a cgroup")
    usable = min(free, limit or free)
    if usable < 1 << 30:
        yield warn("memory", seen, "ask for more (--mem): a node needs some 500 MB beside its tasks")
    else:
        yield ok("memory", seen)


def shared_memory() -> Iterator[Finding]:
    """The object store is a nameless file in memory; other libraries use /dev/shm."""
    try:
        os.close(create_arena(PROBE_BYTES))
        yield ok("shared memory", "a file in memory can be made")
    except OSError as error:
        yield fail("shared memory", f"memfd_create: {error}", "the container or sandbox forbids it: see docs/memory.md")
    try:
        shm = shutil.disk_usage("/dev/shm")
    except OSError as error:
        yield warn("/dev/shm", str(error), "mount one: torch's data loaders and NCCL use it")
        return
    seen = f"{_gib(shm.free)} of {_gib(shm.total)} free"
    if shm.total < SMALL_SHM_BYTES:
        yield warn("/dev/shm", seen, "torch's data loaders and NCCL need more: --shm-size of the container")
    else:
        yield ok("/dev/shm", seen)


def open_files() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else hard
    seen = f"{soft} now, {most} at most (hpc raises it by itself)"
    if most < FEW_FILES:
        yield warn("open files", seen, f"ulimit -Hn {FEW_FILES} or more: a raylet needs 3 for each worker")
    else:
        yield ok("open files", seen)


def processes() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    limit = hard if soft == resource.RLIM_INFINITY else soft
    if limit != resource.RLIM_INFINITY and limit < FEW_PROCESSES:
        yield warn(
            "processes", f"{limit} processes and threads", f"ulimit -u {FEW_PROCESSES} or more, or fewer workers"
        )
    else:
        yield ok("processes", "no limit" if limit == resource.RLIM_INFINITY else f"{limit} processes and threads")


def network(interface: str | None) -> Iterator[Finding]:
    """The address that nodes would talk over, and that this machine reaches it itself."""
    there = ", ".join(f"{i.name} {i.addr}" for i in address.list_interfaces() if not i.loopback) or "none but loopback"
    try:
        chosen = address.node_address(wanted=interface, loopback=False, many_nodes=True)
    except address.NoNetworkError:
        chosen = None
    except address.InterfaceError as error:
        yield fail("interface", str(error), "--interface=NAME with one of those that are there")
        return
    if chosen is None or chosen.loopback:
        yield warn(
            "interface", "only loopback", "sessions on this machine alone work; for several nodes a network is needed"
        )
        return
    try:
        with socket.create_server((chosen.addr, 0)) as server:
            socket.create_connection(server.getsockname(), timeout=2.0).close()
    except OSError as error:
        seen = f"{chosen.name} {chosen.addr} does not take a connection from here: {error}"
        yield fail("interface", seen, "a firewall? --interface=NAME chooses another: " + there)
        return
    yield ok("interface", f"{chosen.name} {chosen.addr} (there are: {there})")


def fabric_environment(env: Mapping[str, str], interface: str | None, told: str, root: str = "/") -> Iterator[Finding]:
    """What network libraries are told on a node like this one; what is set already counts. told: `fabric_env`."""
    try:
        chosen = address.node_address(wanted=interface, loopback=False, many_nodes=True)
    except address.InterfaceError:
        return  # that is said of the interface
    try:
        profile = fabric.read_profile(told)
    except ValueError as error:
        yield fail("fabric", str(error), "fabric_env takes NAME=VALUE ..., with quotes as in a shell")
        return
    devices = fabric_devices.find(root)
    there = fabric.environment(chosen.name, devices, profile, {})
    names = ", ".join(f"{device.name} ({device.kind})" for device in devices) or "no device of a fast network"
    yield ok("fabric", f"{names}; " + " ".join(f"{name}={shlex.quote(env.get(name, there[name]))}" for name in there))


def proxies(env: Mapping[str, str]) -> Iterator[Finding]:
    """hpc uses none, but libraries of tasks may send what is for this machine to one."""
    found = [name for name in PROXIES if env.get(name)]
    spared = (env.get("no_proxy") or env.get("NO_PROXY") or "").split(",")
    if found and not {"localhost", "127.0.0.1", "*"} & {part.strip() for part in spared}:
        yield warn("proxies", ", ".join(found), "export no_proxy=localhost,127.0.0.1 so that local traffic stays here")
    else:
        yield ok("proxies", ", ".join(found) or "none")


def gpus(env: Mapping[str, str], root: str = "/", ask: detect.Ask = detect.apart) -> Iterator[Finding]:
    """The accelerators that are there, those that this process may use, and what their makers say of them."""
    found = detect.granted_devices(Granted(), (), env, root, ask).devices
    usable = [device for device in found if device.resource == "GPU"]
    names = [name for entry in TABLE if entry.resource == "GPU" for name in entry.variables]
    visible = next(((name, env[name]) for name in names if name in env), None)
    files = _nvidia_devices(root)
    there = max(len(files), len(usable))
    if visible:
        unrestricted = {name: value for name, value in env.items() if name not in names}
        everything = detect.granted_devices(Granted(), (), unrestricted, root, ask).devices
        there = max(len(files), sum(device.resource == "GPU" for device in everything))
    if not there and not found:
        yield ok("gpus", "none")
        return
    kinds = ", ".join(dict.fromkeys(device.kind for device in usable if device.kind))
    seen = f"{len(usable)} usable, {there} in the machine{f' ({kinds})' if kinds else ''}"
    if visible:
        seen += f", {visible[0]}={visible[1]}"
    wanted = parse_ids(visible[1]) if visible else ()
    instances = any(ident.startswith("MIG-") for ident in wanted)
    if there and visible and (len(wanted) > len(usable) or (len(usable) > there and not instances)):
        yield fail("gpus", seen, f"{visible[0]} names devices that are not here")
    elif there and not usable:
        yield warn("gpus", seen, "ask for them: --gpus-per-node=N")
    elif there or usable:
        yield ok("gpus", seen)
    for name, ids in ids_by_resource(device for device in found if device.resource != "GPU").items():
        yield ok("gpus", f"{name}: {len(ids)} usable")
    for device in found:
        if device.fault:
            yield fail("gpus", f"{device.resource} {device.id}: {device.fault}", "--exclude the node, tell its staff")
    if files and find_spec("pynvml") is None:
        yield warn("gpus", "nvidia-ml-py is absent: MIG, NVLink and memory are not known", "pip install 'hpc[gpu]'")
    if files and usable and shutil.which("nvidia-smi") is None:
        yield warn("gpus", "no nvidia-smi on the PATH", "load the module of the driver, or of CUDA")


def _nvidia_devices(root: str) -> list[str]:
    return [path.name for path in Path(root, "dev").glob("nvidia[0-9]*")]


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
