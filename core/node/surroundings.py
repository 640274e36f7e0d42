"""What a supervisor adds to the environment of all that it starts: for network libraries, and for compilers' caches."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import NamedTuple

from hpc.core.node.settings import switch, text
from hpc.core.node.spec import NodeSpec
from hpc.core.policy import fabric


class Prepared(NamedTuple):
    """The variables that were set; and what has gone wrong and is no reason to stop, or ""."""

    added: dict[str, str]
    problem: str = ""


def prepare(spec: NodeSpec, environ: MutableMapping[str, str]) -> Prepared:
    """Set the variables that nobody has set yet.

    Raises ValueError for a `fabric_env` that cannot be read. Caches stay where libraries have them on a machine that
    runs no job: there is one home folder, and it is warm.
    """
    alone = switch("loopback", spec.config)
    root = text("probe_root", spec.config, environ)
    profile = {} if alone else fabric.read_profile(text("fabric_env", spec.config, environ))
    added = fabric.environment(spec.interface, () if alone else _devices(root), profile, environ)
    environ.update(added)
    archive_dir = text("cache_dir", spec.config, environ)
    if not (spec.allocation or archive_dir):
        return Prepared(added)
    from hpc.core.node import caches  # not for a machine that runs no job

    folder = caches.folder_of(spec.dir)
    os.makedirs(folder, exist_ok=True)
    added |= caches.environment(folder, environ)
    environ.update(added)
    try:
        if archive_dir:
            caches.unpack(archive_dir, folder)
    except (OSError, ValueError) as error:
        return Prepared(added, f"the caches begin empty: {error}")
    return Prepared(added)


def _devices(root: str) -> tuple[fabric.FabricDevice, ...]:
    """The devices of fast networks."""
    from hpc.core.node.fabric_devices import find  # not for a session on one machine

    return find(root)
