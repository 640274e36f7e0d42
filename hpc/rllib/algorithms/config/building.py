"""What a configuration builds: the algorithm, its learners, and connectors."""

from __future__ import annotations

import copy
from typing import Any


class Building:
    """build_algo, build_learner, build_learner_group, and the builders of connectors."""

    def build_algo(self: Any, env: Any = None, use_copy: bool = True) -> Any:
        """The algorithm. env: the environment, if not set before. use_copy: this configuration can be used again.

        Raises ValueError where the configuration belongs to no algorithm, or its settings do not fit.
        """
        if env is not None:
            self.env = env
            if isinstance(self.evaluation_config, dict):
                self.evaluation_config["env"] = env
        kind = self.algo_class
        if isinstance(kind, str):
            from hpc.rllib.algorithms.registry import get_trainable_cls

            kind = get_trainable_cls(kind)
        if kind is None:
            raise ValueError(
                f"{type(self).__name__} belongs to no algorithm: use PPOConfig or another one's, or give "
                "AlgorithmConfig(algo_class=..)"
            )
        return kind(config=copy.deepcopy(self) if use_copy else self)

    def build(self: Any, *args: Any, **kwargs: Any) -> Any:
        """The algorithm: `build_algo`."""
        return self.build_algo(*args, **kwargs)

    def build_env_to_module_connector(self, env: Any = None, spaces: Any = None, device: Any = None) -> Any:
        """The pipeline from environments to the module: the user's pieces, and those that are always there."""
        from hpc.rllib.connectors.build import env_to_module

        return env_to_module(self, env=env, spaces=spaces, device=device)

    def build_module_to_env_connector(self, env: Any = None, spaces: Any = None) -> Any:
        """The pipeline from the module to environments."""
        from hpc.rllib.connectors.build import module_to_env

        return module_to_env(self, env=env, spaces=spaces)

    def build_learner_connector(self, input_observation_space: Any, input_action_space: Any, device: Any = None) -> Any:
        """The pipeline from samples to train batches."""
        from hpc.rllib.connectors.build import learner

        return learner(self, input_observation_space, input_action_space, device)

    def build_learner_group(
        self: Any,
        *,
        env: Any = None,
        spaces: Any = None,
        rl_module_spec: Any = None,
        placement_group: Any = None,
    ) -> Any:
        """The learners. The modules' spaces are those given, else those of env, else those set."""
        from hpc.rllib.core.learner.learner_group import LearnerGroup

        if rl_module_spec is None:
            rl_module_spec = self.get_multi_rl_module_spec(env=env, spaces=spaces)
        return LearnerGroup(config=self.copy(), module_spec=rl_module_spec, placement_group=placement_group)

    def build_learner(self: Any, *, env: Any = None, spaces: Any = None) -> Any:
        """One learner of this process, built."""
        spec = None
        if env is not None or spaces is not None:
            spec = self.get_multi_rl_module_spec(env=env, spaces=spaces)
        learner = self.learner_class(config=self, module_spec=spec)
        learner.build()
        return learner
