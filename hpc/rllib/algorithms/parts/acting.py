"""Acting by an algorithm that trains: its module, and one call for one observation."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc.rllib.core import DEFAULT_MODULE_ID

if TYPE_CHECKING:
    from hpc.rllib.agent import Carried


class Acting:
    """`act`, and how it finds modules and connectors: those of this process's env runner."""

    if TYPE_CHECKING:
        config: Any

        @property
        def env_runner(self) -> Any: ...

        learner_group: Any

        @property
        def eval_env_runner(self) -> Any: ...

        @property
        def eval_env_runner_group(self) -> Any: ...

        @property
        def steps_sampled(self) -> int: ...

    def act(
        self,
        obs: Any,
        *,
        state: Carried | None = None,
        explore: bool = False,
        reward: float = 0.0,
        agent_id: Hashable = None,
        module_id: str | None = None,
    ) -> Any:
        """The action for one observation, as the environment takes it, by the weights as they are now.

        Where something is to be remembered, it returns (action, state). A stateful module and stacked frames need it:
        give that state with the next observation of the same episode. explore: draw the action.
        """
        from hpc.rllib.agent import Decider
        from hpc.rllib.core.acting import make_actor

        runner = self._acting_runner()
        decider = Decider(
            runner.config,
            lambda name: make_actor(self._acting_module(name), within=self._within(name)),
            runner._env_to_module,
            runner._module_to_env,
        )
        action, carried = decider.act(
            obs,
            state,
            rng=self._acting_rng(),
            explore=explore,
            reward=reward,
            agent_id=agent_id,
            module_id=module_id,
            t=self.steps_sampled,
        )
        remembers = state is not None or carried.memory or carried.state is not None
        return (action, carried) if remembers else action

    def _acting_rng(self) -> np.random.Generator:
        if not hasattr(self, "_rng_of_acts"):
            self._rng_of_acts = np.random.default_rng(self.config.seed)
        return self._rng_of_acts

    def _acting_runner(self) -> Any:
        runner = self.env_runner or self._evaluating_runner()
        if runner is None:
            raise ValueError(
                "no env runner is in this process, so there are no connectors to act by: use "
                "env_runners(create_local_env_runner=True), or Agent.from_checkpoint(algo.save_to_path())"
            )
        return runner

    def _evaluating_runner(self) -> Any:
        """That of this process that evaluates, which has new weights for each evaluation only: with those of now."""
        group, runner = self.eval_env_runner_group, self.eval_env_runner
        if runner is not None and group.weights_version != self.learner_group.weights_version:
            group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)
        return runner

    def _within(self, module_id: str) -> Any:
        """The modules that act together, and the id of the one that is asked for; None with a single one."""
        modules = self._acting_runner().module
        return (modules, module_id) if hasattr(modules, "_rl_modules") else None

    def _acting_module(self, module_id: str) -> Any:
        module = self._acting_runner().module
        if hasattr(module, "_rl_modules"):
            return module[module_id] if module_id in module.keys() else None  # noqa: SIM118
        return module if module_id == DEFAULT_MODULE_ID else None
