"""What the nodes of a session have, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hpc.core.resources import UNIT
from hpc.launchers.session_nodes import SessionNode


def granted(nodes: Sequence[SessionNode]) -> str:
    """`4 nodes, 8 CPUs, 16 GPUs`: what there is to work with, so that a stingy grant is seen at once."""
    cpus = sum(float(info.hello.get("cpus") or 0) for info in nodes)
    devices = Counter[str]()
    for info in nodes:
        devices.update({name: len(ids) for name, ids in (info.hello.get("devices") or {}).items()})
    words = [(len(nodes), "node"), (cpus, "CPU"), *((count, name.removesuffix("s")) for name, count in devices.items())]
    return ", ".join(f"{n:g} {word}{'' if n == 1 else 's'}" for n, word in words)


def as_rows(nodes: Sequence[SessionNode]) -> list[dict[str, Any]]:
    """The same as rows, of the form in which the head of a session tells of its nodes: nothing of them is free."""
    rows = []
    for info in nodes:
        gpus = len((info.hello.get("devices") or {}).get("GPU", ()))
        totals = {"CPU": round(float(info.hello.get("cpus") or 0) * UNIT), "GPU": gpus * UNIT}
        row = {"node": info.node, "host": info.host or "", "gateway": False, "alive": True, "why": "", "free": {}}
        rows.append({**row, "totals": {name: units for name, units in totals.items() if units}})
    return rows


def too_few_gpus(nodes: Sequence[SessionNode], ranks: int) -> str:
    """What to know where some ranks have no GPU of their own; empty where all have one, or none has."""
    least = min((len((info.hello.get("devices") or {}).get("GPU", ())) for info in nodes), default=0)
    if not 0 < least < ranks:
        return ""
    return f"{ranks} ranks on a node with {least} GPUs: those with LOCAL_RANK from {least} on have none of their own"
