"""A supervisor looks at its machine: the NodeSpec of this node, and what it says of itself in hello."""

from __future__ import annotations

import os
import platform
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import zmq

from hpc._version import __version__
from hpc.core.accelerators.base import INSTANCE_RESOURCES, Device, ids_by_resource, offered
from hpc.core.accelerators.table import show
from hpc.core.node import address, detect
from hpc.core.node.address import Interface
from hpc.core.node.limits import check_sizes, raise_open_files
from hpc.core.node.settings import text
from hpc.core.node.spec import NodeSpec, Overrides, Start


def find_interface(start: Start) -> Interface:
    """The address that this node listens on; InterfaceError if what the user asked for is not there."""
    return address.node_address(
        wanted=start.interface,
        loopback=start.loopback,
        many_nodes=start.world > 1 or start.first_node > 1,
    )


def make_spec(start: Start, rank: int, directory: str, interface: Interface) -> NodeSpec:
    """The node `rank` of the group that `start` describes: what it was granted, or what the user said it has.
    LimitError if a limit of the shell is too small for it."""
    root = text("probe_root", start.config, os.environ)
    grant = detect.detect(start, rank, os.environ, root, ask=detect.apart)
    for device in grant.devices:
        if device.fault:
            print(f"{device.resource} {device.id} is offered and has a fault: {device.fault}", file=sys.stderr)
    wanted = start.overrides
    cpus = grant.cpus if wanted.num_cpus is None else wanted.num_cpus
    spec = NodeSpec(
        session=start.session,
        node=start.first_node + rank,
        rank=rank,
        world=start.world,
        dir=directory,
        interface=interface.name,
        interface_addr=interface.addr,
        cpus=0 if start.gateway else cpus,
        granted_cpus=grant.cpus,
        mem_bytes=wanted.memory_bytes or grant.mem_bytes,
        devices=() if start.gateway else offered_devices(grant.devices, wanted),
        device_resources={} if start.gateway else grant.found.resources,
        device_labels={} if start.gateway else grant.found.labels,
        overrides=wanted,
        config=start.config,
        preload=tuple(start.preload),
        mode=start.mode,
        head_rank=start.head_rank,
        driver_host=start.driver_host,
        gateway=start.gateway,
        allocation=start.allocation,
        switches=detect.switches_above(os.environ, start.grant_env.get("topology", ())),
        time_left_s=start.time_left_s,
    )
    if start.mode != "ranks":
        raise_open_files()
        check_sizes(spec.store_bytes)
    return spec


def offered_devices(granted: tuple[Device, ...], wanted: Overrides) -> tuple[Device, ...]:
    """The devices of a node: those that it was granted, or as many of each resource as the user said."""
    counts = {"GPU": wanted.num_gpus, **{name: wanted.resources.get(name) for name in INSTANCE_RESOURCES[1:]}}
    for resource, count in counts.items():
        granted = offered(granted, resource, count)
    return granted


def device_env(devices: tuple[Device, ...]) -> dict[str, str]:
    """The variables by which a process that uses all devices of the node sees them."""
    environ: dict[str, str] = {}
    show(ids_by_resource(devices), devices, environ)
    return environ


def hello_facts(spec: NodeSpec) -> dict[str, Any]:
    """What every supervisor says of its node: where it is, what it has, and the versions of its software."""
    return {
        "host": socket.gethostname(),
        "boot": detect.boot_id(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "hpc": __version__,
        "modules": {"msgspec": msgspec.__version__, "zmq": zmq.__version__},
        "dir": spec.dir,
        "addr": spec.interface_addr,
        "cpus": spec.cpus,
        "devices": ids_by_resource(spec.devices),
        "device_env": device_env(spec.devices),
        "mem_bytes": spec.mem_bytes,
    }


def session_facts(spec: NodeSpec, hello: Mapping[str, Any], added: Mapping[str, str]) -> dict[str, Any]:
    """What session.json says: enough to find and name the session, and no secret. added: the variables of networks and
    caches, for a driver on this node."""
    return {
        "session": spec.session,
        "node": spec.node,
        "pid": hello["pid"],
        "host": hello["host"],
        "boot": hello["boot"],
        "head_ep": hello.get("head_ep"),
        "started": time.time(),
        "environ": dict(added),
    }
