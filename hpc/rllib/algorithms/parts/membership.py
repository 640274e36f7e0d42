"""Modules that come and go while an algorithm runs, and functions that choose among them anew."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hpc.rllib.core import DEFAULT_MODULE_ID
from hpc.rllib.core.rl_module import MultiRLModuleSpec, validate_module_id
from hpc.rllib.policy.policy import PolicySpec


class Membership:
    """add_module and remove_module, of an algorithm with several modules."""

    if TYPE_CHECKING:
        config: Any
        learner_group: Any
        env_runner_group: Any

        @property
        def eval_env_runner_group(self) -> Any: ...

    def add_module(
        self,
        module_id: str,
        module_spec: Any,
        *,
        config_overrides: dict[str, Any] | None = None,
        new_agent_to_module_mapping_fn: Callable[..., str] | None = None,
        new_should_module_be_updated: Any = None,
        add_to_learners: bool = True,
        add_to_env_runners: bool = True,
        add_to_eval_env_runners: bool = True,
    ) -> Any:
        """Add a module; the new MultiRLModuleSpec.

        config_overrides: settings of this module. new_agent_to_module_mapping_fn: which agent has which module from the
        next episode on. new_should_module_be_updated: which modules learn.
        """
        validate_module_id(module_id, error=True)
        self._need_several()
        if not (add_to_learners or add_to_env_runners or add_to_eval_env_runners):
            raise ValueError("add_module adds to nothing: leave one of add_to_.. true")
        spec = None
        if add_to_learners:
            spec = self.learner_group.add_module(
                module_id=module_id,
                module_spec=module_spec,
                config_overrides=config_overrides,
                new_should_module_be_updated=new_should_module_be_updated,
            )
        policies = {**self.config.policies, module_id: PolicySpec()}
        changed = (policies, spec, new_agent_to_module_mapping_fn, new_should_module_be_updated)
        _change(self.config, *changed)
        if config_overrides is not None:
            self.config.algorithm_config_overrides_per_module[module_id] = config_overrides

        acting = copy.deepcopy(module_spec)
        acting.inference_only = True

        def add(env_runner: Any) -> Any:
            env_runner.add_module(module_id, acting)
            _tell(env_runner, policies, new_agent_to_module_mapping_fn, new_should_module_be_updated)
            return MultiRLModuleSpec.from_module(env_runner.module)

        return self._on_runners(add, changed, add_to_env_runners, add_to_eval_env_runners)

    def remove_module(
        self,
        module_id: str,
        *,
        new_agent_to_module_mapping_fn: Callable[..., str] | None = None,
        new_should_module_be_updated: Any = None,
        remove_from_learners: bool = True,
        remove_from_env_runners: bool = True,
        remove_from_eval_env_runners: bool = True,
    ) -> Any:
        """Remove a module; the new MultiRLModuleSpec. Episodes begin anew, since their agents have other modules."""
        self._need_several()
        if module_id not in self.config.policies:
            raise KeyError(f"there is no module {module_id!r}: there are {', '.join(self.config.policies)}")
        spec = None
        if remove_from_learners:
            spec = self.learner_group.remove_module(
                module_id=module_id, new_should_module_be_updated=new_should_module_be_updated
            )
        policies = {key: value for key, value in self.config.policies.items() if key != module_id}
        changed = (policies, spec, new_agent_to_module_mapping_fn, new_should_module_be_updated)
        _change(self.config, *changed)
        self.config.algorithm_config_overrides_per_module.pop(module_id, None)

        def remove(env_runner: Any) -> Any:
            env_runner.remove_module(module_id)
            _tell(env_runner, policies, new_agent_to_module_mapping_fn, new_should_module_be_updated)
            env_runner._start_over()
            return MultiRLModuleSpec.from_module(env_runner.module)

        return self._on_runners(remove, changed, remove_from_env_runners, remove_from_eval_env_runners)

    def _need_several(self) -> None:
        if not self.config.is_multi_agent:
            raise RuntimeError(
                "this algorithm has one module: to add and remove modules, begin with config.multi_agent(policies=..) "
                f"that has several, or one of another id than {DEFAULT_MODULE_ID!r}"
            )

    def _on_runners(self, change: Callable[[Any], Any], changed: Any, training: bool, evaluating: bool) -> Any:
        spec = changed[1]
        for wanted, group in ((training, self.env_runner_group), (evaluating, self.eval_env_runner_group)):
            if wanted and group is not None:
                if group.config is not self.config:
                    _change(group.config, *changed)
                group.begin_anew_with(group.config)
                specs = group.foreach_env_runner(change)
                spec = spec if spec is not None else specs[0]
                group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)
        return spec


def _change(config: Any, policies: dict[str, Any], spec: Any, mapping: Any, learns: Any) -> None:
    """Have a configuration say what is so now: it is frozen for users, not for this."""
    object.__setattr__(config, "_is_frozen", False)
    try:
        config.policies = policies
        config._per_module_overrides.clear()
        if spec is not None:
            config._rl_module_spec = spec
        if mapping is not None:
            config.policy_mapping_fn = mapping
        if learns is not None:
            config.policies_to_train = learns
    finally:
        config._is_frozen = True


def _tell(env_runner: Any, policies: Any, mapping: Any, learns: Any) -> None:
    """Have an env runner's own copy of the configuration say it, too."""
    config = env_runner.config
    object.__setattr__(config, "_is_frozen", False)
    config.policies = policies
    if mapping is not None:
        config.policy_mapping_fn = mapping
    if learns is not None:
        config.policies_to_train = learns
    config._is_frozen = True
