"""What callers and proxies are told: the tables of deployments and routes, made of the machine's state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hpc.serve.canary import Split
from hpc.serve.control.applications import Application
from hpc.serve.control.fleet import Deployment
from hpc.serve.messages import BackpressureRow, DeploymentID, DeploymentTable, ReplicaRow, RouteRow, RouteTable
from hpc.serve.schema import DeploymentStatus


def told_of(one: Deployment) -> tuple[Any, ...]:
    """What callers have to know: the table is pushed when this changes."""
    config = one.spec.config
    return (
        one.deleting,
        one.status is DeploymentStatus.DEPLOY_FAILED,
        tuple((row.id.unique_id, row.actor, row.stats.model_ids, row.stats.routing) for row in one.serving),
        config.max_ongoing_requests,
        config.max_queued_requests,
        one.spec.router,
        config.backpressure_config,
        config.autoscaling_config,
        config.retry,
    )


def table_of(one: Deployment) -> DeploymentTable:
    """The table of a deployment. It is available unless it has failed and nothing of it serves."""
    config, scaling = one.spec.config, one.spec.config.autoscaling_config
    rows = [
        ReplicaRow(
            row.id.unique_id,
            row.actor,
            row.facts.node,
            row.facts.zone,
            one.specs[row.version].config.max_ongoing_requests,
            row.version,
            row.stats.model_ids,
            row.stats.routing,
        )
        for row in one.serving
        if row.actor
    ]
    back = config.backpressure_config
    return DeploymentTable(
        one.table_version,
        one.id.app_name,
        one.id.name,
        one.deleting,
        bool(rows) or one.status is not DeploymentStatus.DEPLOY_FAILED,
        rows,
        config.max_ongoing_requests,
        config.max_queued_requests,
        one.spec.router,
        BackpressureRow() if back is None else BackpressureRow(back.status_code, back.retry_after_s),
        scaling is not None,
        10.0 if scaling is None else min(scaling.metrics_interval_s, scaling.look_back_period_s),
        config.retry,
    )


def routes_of(
    version: int,
    apps: Mapping[str, Application],
    deployments: Mapping[DeploymentID, Deployment],
    splits: Mapping[str, Split],
    request_timeout_s: float | None,
) -> RouteTable:
    """The routes: the longest prefix first."""
    rows = list(_rows(apps, deployments, splits, request_timeout_s))
    rows.sort(key=lambda row: (-len(row.prefix), row.prefix))
    return RouteTable(version, rows)


def _rows(
    apps: Mapping[str, Application],
    deployments: Mapping[DeploymentID, Deployment],
    splits: Mapping[str, Split],
    request_timeout_s: float | None,
) -> Iterable[RouteRow]:
    for name, app in apps.items():
        prefix, ident = app.spec.route_prefix, DeploymentID(app.spec.ingress, name)
        if prefix is None or app.deleting or ident not in deployments:
            continue
        split = splits.get(name)
        yield RouteRow(
            prefix,
            name,
            ident.name,
            deployments[ident].spec.is_asgi,
            [] if split is None else split.rows,
            "" if split is None else split.shadow,
            "" if split is None else split.sticky,
            request_timeout_s,
            {} if split is None else _ingresses(apps, split),
        )


def _ingresses(apps: Mapping[str, Application], split: Split) -> dict[str, str]:
    named = [*split.weights, *([split.shadow] if split.shadow else [])]
    return {name: apps[name].spec.ingress for name in named if name in apps}
