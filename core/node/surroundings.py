"""What a supervisor adds to the environment of all that it starts: for network libraries, and for compilers' caches."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from hpc.core.node.settings import switch, text
from hpc.core.node.spec import NodeSpec
from hpc.core.policy import fabric


def prepare(spec: NodeSpec, environ: MutableMapping[str, str]) -> str:
    """Set the variables that nobody has set yet. Returns what has gone wrong and is no reason to stop, or "".

    Raises ValueError for a `fabric_env` that cannot be read. Caches stay where libraries have them on a machine that
    runs no job: there is one home folder, and it is warm.
    """
    alone = switch("loopback", spec.config)
    root = text("probe_root", spec.config, environ)
    profile = {} if alone else fabric.read_profile(text("fabric_env", spec.config, environ))
    environ.update(fabric.environment(spec.interface, () if alone else _devices(root), profile, environ))
    archive_dir = text("cache_dir", spec.config, environ)
    if not (spec.allocation or archive_dir):
        return ""
    from hpc.core.node import caches  # not for a machine that runs no job

    folder = caches.folder_of(spec.dir)
    os.makedirs(folder, exist_ok=True)
    environ.update(caches.environment(folder, environ))
    try:
        if archive_dir:
            caches.unpack(archive_dir, folder)
    except (OSError, ValueError) as error:
        return f"the caches begin empty: {error}"
    return ""


def _devices(root: str) -> tuple[fabric.FabricDevice, ...]:
    """The devices of fast networks."""
    from hpc.core.node.fabric_devices import find  # not for a session on one machine

    return find(root)
