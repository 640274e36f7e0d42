"""The status of a service, made of the machine's state."""

from __future__ import annotations

from hpc.serve.control.machine import Machine
from hpc.serve.schema import ApplicationStatusOverview, DeploymentStatusOverview, ServeStatus


def status_of(machine: Machine) -> ServeStatus:
    """How all applications and proxies stand."""
    apps = {}
    for name, app in machine.apps.table.items():
        own = [one for one in machine.deployments.values() if one.id.app_name == name]
        status, why = machine.apps.status(app, own)
        apps[name] = ApplicationStatusOverview(
            status,
            why,
            app.deployed_at,
            {
                one.id.name: DeploymentStatusOverview(one.status, one.trigger, one.states(), one.message)
                for one in own
                if app.deleting or not one.deleting
            },
        )
    proxies = {node: proxy.status for node, proxy in sorted(machine.proxies.table.items())}
    return ServeStatus(proxies, apps, machine.target_capacity)
