"""The applications of a service: their routes, and how each stands by its deployments."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from hpc.serve.canary import Split
from hpc.serve.control.fleet import Deployment
from hpc.serve.exceptions import RayServeException
from hpc.serve.schema import ApplicationStatus, DeploymentStatus
from hpc.serve.specs import AppFacts, AppSpec


@dataclass
class Application:
    """An application. deployed_at: seconds since 1970. is_new: it was not whole since it was deployed.
    promoted_from: the application whose route it was given."""

    spec: AppSpec
    deployed_at: float
    deleting: bool = False
    is_new: bool = True
    promoted_from: str = ""

    @property
    def facts(self) -> AppFacts:
        """What its replicas know of it."""
        spec = self.spec
        return AppFacts(spec.name, spec.route_prefix, spec.ingress, spec.logging_config)


class Applications:
    """All applications, by their names."""

    def __init__(self) -> None:
        self.table: dict[str, Application] = {}

    def put(self, spec: AppSpec, now: float) -> None:
        """An application shall be so."""
        self.table[spec.name] = Application(spec, now)

    def left_out(self, names: Collection[str]) -> list[str]:
        """The applications that files have deployed, and that the newest one does not name."""
        return [name for name, app in self.table.items() if name not in names and app.spec.source == "declarative"]

    def check_routes(self, specs: Iterable[AppSpec], only: bool) -> None:
        """RayServeException where two applications would have the same route."""
        given = list(specs)
        names = {spec.name for spec in given}
        gone = names | set(self.left_out(names) if only else ())
        kept = [app.spec for name, app in self.table.items() if name not in gone and not app.deleting]
        owners: dict[str, str] = {}
        for spec in [*kept, *given]:
            prefix = spec.route_prefix
            if prefix is None:
                continue
            if prefix in owners:
                raise RayServeException(
                    f'Prefix {prefix} is being used by application "{owners[prefix]}". Failed to deploy application '
                    f'"{spec.name}": give it another route_prefix, or None.'
                )
            owners[prefix] = spec.name

    def check_split(self, app: str, split: Split | None) -> None:
        """ValueError for a split of applications that are not there."""
        named = [app, *([] if split is None else [*split.weights, *([split.shadow] if split.shadow else [])])]
        missing = [name for name in named if name not in self.table or self.table[name].deleting]
        if missing:
            raise ValueError(f"there is no application {', '.join(map(repr, missing))}: deploy it first, by serve.run")
        if self.table[app].spec.route_prefix is None:
            raise ValueError(f"application {app!r} has no route that could be split")

    def promote(self, app: str, to: str) -> None:
        """The route of an application is another one's. Raises ValueError unless both are there. Said again, as after
        the death of the controller that has done it, it changes nothing."""
        before, after = self.table.get(app), self.table.get(to)
        is_said_again = before is not None and after is not None and after.promoted_from == app
        if is_said_again and before.spec.route_prefix is None and after.spec.route_prefix is not None:  # type: ignore[union-attr]
            return
        self.check_split(app, None)
        if to not in self.table or self.table[to].deleting:
            raise ValueError(f"there is no application {to!r}")
        if app == to:
            return
        first, second = self.table[app], self.table[to]
        second.spec = replace(second.spec, route_prefix=first.spec.route_prefix)
        first.spec = replace(first.spec, route_prefix=None)
        second.promoted_from = app

    def status(self, app: Application, deployments: Iterable[Deployment]) -> tuple[ApplicationStatus, str]:
        """How it stands, and why."""
        own = [one for one in deployments if not one.deleting]
        if app.deleting:
            return ApplicationStatus.DELETING, ""
        for kind, status in _WORST:
            bad = [one for one in own if one.status is kind]
            if app.is_new and status is ApplicationStatus.UNHEALTHY:
                continue
            if bad:
                texts = "; ".join(f"{one.id.name}: {one.message}" if one.message else one.id.name for one in bad)
                return status, f"{kind.value}: {texts}"
        return (ApplicationStatus.DEPLOYING if app.is_new else ApplicationStatus.RUNNING), ""

    def settle(self, deployments: Iterable[Deployment]) -> None:
        """Some deployments have changed: applications that are whole, or gone, are so from now on."""
        own: dict[str, list[Deployment]] = {}
        for one in deployments:
            own.setdefault(one.id.app_name, []).append(one)
        for name, app in list(self.table.items()):
            rows = own.get(name, [])
            if app.deleting and not rows:
                del self.table[name]
            elif app.is_new and all(one.status is DeploymentStatus.HEALTHY for one in rows if not one.deleting):
                app.is_new = False


_WORST = (
    (DeploymentStatus.DEPLOY_FAILED, ApplicationStatus.DEPLOY_FAILED),
    (DeploymentStatus.UNHEALTHY, ApplicationStatus.UNHEALTHY),
)
