"""The actors that replicas of a deployment share: when they begin, when they are there, and when they end.

Each version of the code has its own, so that old and new replicas do not meet in one while a change goes on. A replica
begins when those of its version are there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from hpc.serve.control.commands import CheckHelper, Command, KillHelper, StartHelper, Sweep
from hpc.serve.control.fleet import MISSES, Deployment
from hpc.serve.control.helpers import Helper
from hpc.serve.messages import helper_name
from hpc.serve.schema import DeploymentStatus, DeploymentStatusTrigger


class Crew:
    """The actors of all deployments. ``say``: takes a command."""

    def __init__(self, say: Callable[[Command], None]) -> None:
        self._say = say

    def ready(self, one: Deployment, version: str, now: float) -> bool:
        """Whether the actors of a version are there. Those that are missing begin, unless an attempt has to wait."""
        spec = one.specs[version]
        for helper in spec.helpers:
            key = (version, helper.name)
            if key not in one.helpers and one.retry_at <= now:
                one.helpers[key] = Helper(began=now)
                env = spec.config.ray_actor_options.get("runtime_env")
                self._say(StartHelper(one.id, version, helper, env))
        return all(key in one.helpers and one.helpers[key].runs for key in one.helper_keys(version))

    def settle(self, one: Deployment, now: float) -> None:
        """Actors of versions that nothing runs any more end, and actors that have died begin anew."""
        used = {replica.version for replica in one.replicas.values()}
        living = {replica.version for replica in one.live}
        if not one.deleting:  # where the newest has failed, replicas of the good one begin, and wait for theirs
            used.add(one.good if one.failed else one.spec.code_version)
        for version, name in [key for key in one.helpers if key[0] not in used]:
            del one.helpers[version, name]
            self._say(KillHelper(one.id, version, name))
        if not one.deleting and not one.failed:
            living.add(one.spec.code_version)
        for version in [version for version in one.specs if version in living]:
            self.ready(one, version, now)

    def begun(self, one: Deployment, version: str, name: str, why: str, now: float) -> None:
        """The constructor of one has ended; ``why`` it has failed."""
        helper = one.helpers.get((version, name))
        if why:
            self._failed(one, version, name, why, now)
        elif helper is not None:
            helper.state = "running"
            helper.misses, helper.is_asked = 0, False
            helper.next_check = now + one.specs.get(version, one.spec).config.health_check_period_s
            if version == one.spec.code_version:
                one.helper_failures = 0

    def _failed(self, one: Deployment, version: str, name: str, why: str, now: float) -> None:
        if one.helpers.pop((version, name), None) is None:
            return
        self._say(KillHelper(one.id, version, name))
        one.helper_failures += 1
        one.wait(one.helper_failures, now)
        if version != one.spec.code_version or one.helper_failures < one.spec.config.max_constructor_retry_count:
            return
        one.failed = True
        one.set_status(
            DeploymentStatus.DEPLOY_FAILED,
            DeploymentStatusTrigger.DEPLOYMENT_ACTOR_FAILED,
            f"The deployment actor {name!r} failed to start {one.helper_failures} times in a row. It is not tried "
            f"again until it is deployed anew. The last error:\n{why}",
        )

    def lost(self, one: Deployment, names: Collection[str], now: float) -> bool:
        """Whether some that ran have ended, since they are not among these names. Others take their places, and their
        names."""
        gone = [key for key, helper in one.helpers.items() if helper.runs and helper_name(one.id, *key) not in names]
        for key in gone:
            one.note_young_end(one.helpers.pop(key).began, now)
        return bool(gone)

    def next_at(self, one: Deployment) -> list[float]:
        """When its actors are to be asked."""
        return [helper.next_check for helper in one.helpers.values() if helper.runs and not helper.is_asked]

    def tick(self, one: Deployment, now: float) -> None:
        """Time has gone on: those whose time has come are asked whether they take calls."""
        for (version, name), helper in one.helpers.items():
            spec = one.specs.get(version, one.spec)
            if helper.runs and not helper.is_asked and now >= helper.next_check:
                helper.is_asked = True
                self._say(CheckHelper(one.id, version, name, spec.config.health_check_timeout_s))

    def checked(self, one: Deployment, version: str, name: str, is_well: bool, now: float) -> bool:
        """One has answered, or has not in time. Whether another one takes its place."""
        helper = one.helpers.get((version, name))
        if helper is None or not helper.runs:
            return False
        helper.is_asked = False
        helper.next_check = now + one.specs.get(version, one.spec).config.health_check_period_s
        helper.misses = 0 if is_well else helper.misses + 1
        if helper.misses < MISSES:
            return False
        del one.helpers[version, name]
        self._say(KillHelper(one.id, version, name))
        one.note_young_end(helper.began, now)
        return True

    def again(self, one: Deployment) -> None:
        """Another controller has begun: it finds them, or makes them anew."""
        for (version, name), helper in one.helpers.items():
            spec = one.specs.get(version)
            found = next((each for each in spec.helpers if each.name == name), None) if spec is not None else None
            if spec is not None and found is not None:
                found_s = MISSES * spec.config.health_check_timeout_s if helper.runs else None
                helper.state = "starting"
                env = spec.config.ray_actor_options.get("runtime_env")
                self._say(StartHelper(one.id, version, found, env, found_s))


def sweep_of(deployments: Iterable[Deployment]) -> Sweep:
    """What replicas share, as far as is known: whatever else another controller has left is taken away."""
    deployments = list(deployments)
    gangs = {row.gang.pg_name for one in deployments for row in one.replicas.values() if row.gang is not None}
    names = {helper_name(one.id, *key) for one in deployments for key in one.helpers}
    return Sweep(tuple(sorted(gangs)), tuple(sorted(names)))
