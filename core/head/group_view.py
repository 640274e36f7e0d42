"""What the head tells of placement groups: rows for tables and people, with the domains of their nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from hpc.core.head.group import Group, LabelsOf
from hpc.core.resources import from_units

if TYPE_CHECKING:
    from hpc.core.policy.placement import Snapshot

#: Groups in one answer of which it is found out what they wait for: that goes over all nodes.
MAX_LOOKS = 20


def view(groups: Iterable[Group], snapshot: Snapshot | None, labels_of: LabelsOf) -> bytes:
    """Rows of groups. snapshot: what is free, as it was when a group was planned last."""
    looks = 0
    rows: list[dict[str, Any]] = []
    for group in groups:
        why = group.why or group.warned
        if not why and group.topology and snapshot is not None and group.waits and looks < MAX_LOOKS:
            looks += 1
            why = why_waits(group, snapshot)
        domains = [domains_of(node, labels_of) for node in group.nodes]
        rows.append(
            {
                "group": group.group.hex(),
                "name": group.name,
                "namespace": group.namespace,
                "strategy": group.strategy,
                "topology_strategy": dict(group.topology),
                "topology_assignments": _assigned(group, labels_of),
                "state": group.state,
                "bundles": [from_units(b) for b in group.bundles],
                "selectors": group.selectors,
                "nodes": group.nodes,
                "domains": domains,
                "detached": group.detached,
                "creator": str(group.creator),
                "why": why,
            }
        )
    return msgspec.json.encode(rows)


def why_waits(group: Group, snapshot: Snapshot) -> str:
    """What a group that asks for domains waits for."""
    from hpc.core.policy.group_reasons import why_group_waits

    if any(group.nodes):
        return "it waits until the bundles that it lost have room in the domain of those that it has"
    return why_group_waits(snapshot, group.bundles, group.strategy, group.selectors, group.topology)


def domains_of(node: int, labels_of: LabelsOf) -> dict[str, str]:
    """The labels that say where a node is; none for no node."""
    from hpc.core.policy.labels import NVLINK_DOMAIN, SWITCH, SWITCH_ABOVE, TPU_SLICE

    found = labels_of(node) if node else {}
    return {
        key: value
        for key, value in found.items()
        if key in (SWITCH, NVLINK_DOMAIN, TPU_SLICE) or key.startswith(SWITCH_ABOVE)
    }


def _assigned(group: Group, labels_of: LabelsOf) -> dict[str, str]:
    """The domain of each label of which the group wants one, while it has bundles there."""
    found = {}
    for key, how in group.topology:
        values = dict.fromkeys(value for node in group.nodes if node and (value := labels_of(node).get(key, "")))
        if how == "STRICT_PACK" and len(values) == 1:
            found[key] = next(iter(values))
    return found
