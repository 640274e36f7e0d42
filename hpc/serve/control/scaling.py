"""How many replicas the deployments of an application have: by a policy of each, or by one of all of them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from hpc.serve.autoscaling_policy import AutoscalingContext
from hpc.serve.config import AutoscalingPolicy
from hpc.serve.control.applications import Application
from hpc.serve.control.autoscale import Policy, keepable
from hpc.serve.control.fleet import Deployment
from hpc.serve.messages import DeploymentID
from hpc.serve.specs import DeploymentSpec


class Scaling:
    """All decisions. ``policy_of``: the policy of a deployment; ``imported``: what an import path leads to."""

    def __init__(self, policy_of: Callable[[DeploymentSpec], Policy], imported: Callable[[Any], Any]) -> None:
        self._policy_of, self._imported = policy_of, imported
        #: The policies of applications that are classes: each is made once, with what was imported for it.
        self._made: dict[str, tuple[AutoscalingPolicy, Any, Any]] = {}

    def keep(self, apps: Container[str]) -> None:
        """There are these applications: the policies of others are of no use."""
        for gone in [name for name in self._made if name not in apps]:
            del self._made[gone]

    def decide(
        self, one: Deployment, app: Application | None, deployments: Iterable[Deployment], share: float, now: float
    ) -> list[tuple[Deployment, int]]:
        """The numbers of replicas from now on: of a deployment, or of all of an application that has a policy."""
        config = one.spec.config.autoscaling_config
        if config is None or one.deleting:
            one.scaler.next_at = None
            return []
        policy = None if app is None else app.spec.autoscaling_policy
        if policy is not None:
            own = [each for each in deployments if each.id.app_name == one.id.app_name and not each.deleting]
            scaled = [each for each in own if each.spec.config.autoscaling_config is not None]
            return self._together(one.id.app_name, policy, scaled, share, now)

        def asked(ctx: Any) -> Any:  # a policy that cannot be imported has failed
            return self._policy_of(one.spec)(ctx)

        count = one.scaler.decide(
            one.id,
            config,
            asked,
            one.load,
            _serving(one),
            one.target,
            share,
            now,
            _stats(one),
            one.spec.config.gang_size,
        )
        one.message = one.scaler.wrong or one.message
        return [(one, count)]

    def _together(
        self, name: str, policy: AutoscalingPolicy, scaled: list[Deployment], share: float, now: float
    ) -> list[tuple[Deployment, int]]:
        contexts: dict[DeploymentID, AutoscalingContext] = {}
        for one in scaled:
            config = one.spec.config.autoscaling_config
            assert config is not None
            contexts[one.id] = one.scaler.context(
                one.id, config, one.load, _serving(one), one.target, share, now, _stats(one)
            )
        wrong = ""
        wanted: dict[DeploymentID, int] = {}
        try:
            numbers, states = _read(self._policy(name, policy)(contexts), contexts)
            kept = {one.id: keepable(states.get(one.id)) for one in scaled}
            wanted = {ident: _stepped(contexts[ident], number) for ident, number in numbers.items()}
            for one in scaled:
                one.scaler.policy_state = kept[one.id]
        except Exception as error:  # one that fails changes nothing
            wrong = f"the autoscaling policy of the application failed: {type(error).__name__}: {error}"
        found = []
        for one in scaled:
            ctx = contexts[one.id]
            one.scaler.wrong = wrong
            one.message = wrong or one.message
            said = wanted.get(one.id, one.target)
            found.append((one, one.scaler.settled(ctx, said, one.load, False, one.spec.config.gang_size)))
        return found

    def _policy(self, name: str, policy: AutoscalingPolicy) -> Any:
        kept, target = self._made.get(name), self._imported(policy.policy_function)
        if kept is None or kept[0] != policy or kept[1] is not target:
            made = target(**policy.policy_kwargs) if inspect.isclass(target) else target
            kept = self._made[name] = (policy, target, made)
        return kept[2]


def _read(said: Any, contexts: Mapping[DeploymentID, Any]) -> tuple[dict[DeploymentID, float], dict[DeploymentID, Any]]:
    """What a policy of an application has returned: numbers, and states, by the deployments."""
    wanted, states = said if isinstance(said, tuple) else (said, {})
    for what, given in (("numbers of replicas", wanted), ("states", states or {})):
        if not isinstance(given, dict):
            raise TypeError(f"it returned {type(given).__name__} as {what}: a dict by DeploymentID is expected")
        unknown = [str(key) for key in given if key not in contexts]
        if unknown:
            raise ValueError(f"it returned {what} of {', '.join(unknown)}, which the application does not have")
    return wanted, states or {}


def _stepped(ctx: AutoscalingContext, wanted: float) -> int:
    """The part of the way to a number of replicas that the factors of a deployment allow at a time."""
    now, config = ctx.current_num_replicas, ctx.config
    if now == 0:
        least = math.ceil(config.up) if ctx.total_num_requests > 0 else 0
        return max(math.ceil(wanted), least)
    stepped = math.ceil(now + (config.up if wanted > now else config.down) * (wanted - now))
    return max(stepped - (math.ceil(wanted) < now == stepped), 0)


def _serving(one: Deployment) -> list[str]:
    return [replica.id.unique_id for replica in one.serving]


def _stats(one: Deployment) -> dict[str, dict[str, float]]:
    return {replica.id.unique_id: replica.stats.autoscaling for replica in one.serving if replica.stats.autoscaling}
