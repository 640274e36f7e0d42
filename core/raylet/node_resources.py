"""What a node offers: the resources that it was granted and those that its user added, in units; its labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hpc.core.accelerators.base import INSTANCE_RESOURCES, ids_by_resource
from hpc.core.node.settings import text
from hpc.core.pieces import MAX_DEVICES
from hpc.core.policy.labels import labels_of_host, node_labels
from hpc.core.resources import UNIT, to_units

if TYPE_CHECKING:
    from hpc.core.node.spec import NodeSpec


def node_totals(spec: NodeSpec, store_bytes: int) -> dict[str, int]:
    """The resources of a node in units: what was granted, what the user added."""
    if spec.gateway:
        return {}
    totals = {
        "CPU": to_units("CPU", spec.cpus),
        "memory": max(0, spec.mem_bytes - store_bytes) * UNIT,
        "object_store_memory": store_bytes * UNIT,
        f"node:{spec.interface_addr}": UNIT,
    }
    for resource, ids in ids_by_resource(spec.devices).items():
        totals[resource] = len(ids) * UNIT
    for kind in dict.fromkeys(device.kind for device in spec.devices if device.kind):
        totals[f"accelerator_type:{kind}"] = UNIT
    for name, amount in {**spec.device_resources, **spec.overrides.resources}.items():
        totals[name] = to_units(name, amount)
    for name in INSTANCE_RESOURCES:
        if totals.get(name, 0) > MAX_DEVICES * UNIT:
            raise ValueError(f"a node has at most {MAX_DEVICES:,} of {name}, not {totals[name] / UNIT:g}")
    return totals


def labels_of(spec: NodeSpec, host: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The labels of a node: what its devices say, then its host's name, then the user, each over the ones before."""
    kind = next((device.kind for device in spec.devices if device.kind), "")
    of_host = labels_of_host(text("labels_of_host", spec.config, environ), host)
    given = {**spec.device_labels, **of_host, **spec.overrides.labels}
    return node_labels(given, spec.node, host, kind, spec.switches)
