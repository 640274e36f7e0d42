"""The routers of this process: one for each deployment that it asks, shared by all handles."""

from __future__ import annotations

import threading
from typing import Any

from hpc import spi
from hpc.serve.calls.routing import Router
from hpc.serve.messages import DeploymentID

_routers: dict[tuple[str, DeploymentID, bool], Router] = {}
_making = threading.Lock()
#: Deployments that run in this process for tests: see `hpc.serve.calls.local`.
local_routers: dict[DeploymentID, Any] = {}


def router_of(deployment_id: DeploymentID, *, prefers_node: bool = False) -> Any:
    """The router of this process for a deployment, made on first use. All handles share it."""
    if deployment_id in local_routers:
        return local_routers[deployment_id]
    key = (spi.whoami().session, deployment_id, prefers_node)
    with _making:
        found = _routers.get(key)
        if found is None or found.is_closed:
            for old in [old for old in _routers if old[0] != key[0]]:
                del _routers[old]
            found = _routers[key] = Router(deployment_id, prefers_node=prefers_node)
        return found


def forget_local(name: str) -> None:
    """An application of this name does not run in this process any more."""
    for ident in [ident for ident in local_routers if ident.app_name == name]:
        del local_routers[ident]
