"""All actors of the session as rows: as their owners know them, and those that have ended as their nodes remember."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from hpc.state import gather
from hpc.state.gather import Row


def actor_rows(what: str = "list_actors") -> list[Row]:
    """One row for each, first those whose owner still knows them. Warns of what is missing in the name of ``what``."""
    rows = gather.explain_setups(gather.from_processes("actors").warn(what))
    rows, dropped = joined(rows, gather.from_raylets("ended_actors").warn(what))
    if dropped:
        warnings.warn(f"{what}: {dropped} actors that have ended are not remembered any more", stacklevel=3)
    workers = gather.from_raylets("workers").warn(what)
    if any(row["state"] == "DEAD" for row in rows):
        workers += gather.from_raylets("ended").warn(what)
    pids = {row["worker_id"]: row["pid"] for row in workers}
    for row in rows:
        row["pid"] = pids.get(row["worker_id"] or row["last_worker_id"], 0)
    return rows


def joined(known: Iterable[Row], ended: Iterable[Row]) -> tuple[list[Row], int]:
    """Owners' rows and those of nodes, each actor once, and how many are missing. An owner that was asked first may
    have told its node meanwhile: then the node's row is the later one."""
    found = {row["actor_id"]: row for row in known}
    dropped = 0
    for row in ended:
        if not row["actor_id"]:
            dropped += row["dropped"]
            continue
        row.pop("request", None)
        found[row["actor_id"]] = row
    return list(found.values()), dropped
