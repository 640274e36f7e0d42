"""Which modules a configuration has: their classes, spaces and networks."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from hpc.rllib.core import DEFAULT_MODULE_ID
from hpc.rllib.policy.policy import PolicySpec


class Modules:
    """Specifications of modules, from settings and the spaces of environments."""

    def get_default_rl_module_spec(self) -> Any:
        """The algorithm's own RLModuleSpec. Algorithms define it."""
        raise NotImplementedError(f"{type(self).__name__} needs a method get_default_rl_module_spec")

    def get_default_learner_class(self) -> Any:
        """The algorithm's own Learner. Algorithms define it."""
        raise NotImplementedError(f"{type(self).__name__} needs a method get_default_learner_class")

    @property
    def learner_class(self: Any) -> Any:
        """The Learner's class: that of ``learners(learner_class=..)``, else the algorithm's own."""
        kind = self._learner_class or self.get_default_learner_class()
        if isinstance(kind, str):
            from hpc.rllib.utils.serialization import deserialize_type

            return deserialize_type(kind, error=True)
        return kind

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        """Settings of the algorithm that its modules see as well. Algorithms define it."""
        return {}

    @property
    def model_config(self: Any) -> dict[str, Any]:
        """The modules' model_config as a dict."""
        return self._model_config_auto_includes | _as_dict(self._model_config)

    @property
    def rl_module_spec(self: Any) -> Any:
        """The specification: the user's, with the algorithm's own where it says nothing."""
        from hpc.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec

        default, given = self.get_default_rl_module_spec(), self._rl_module_spec
        for spec in (default, given):
            if spec is not None and not isinstance(spec, (RLModuleSpec, MultiRLModuleSpec)):
                raise ValueError(f"rl_module_spec must be an RLModuleSpec or a MultiRLModuleSpec, not {spec!r}")
        if given is None:
            return default
        if isinstance(given, RLModuleSpec):
            if not isinstance(default, RLModuleSpec):
                raise ValueError(
                    f"{type(self).__name__} has several modules: give rl_module(rl_module_spec=MultiRLModuleSpec(..))"
                )
            default.update(given)
            return default
        merged = copy.deepcopy(given)
        merged.update(default)
        return merged

    def get_rl_module_spec(self: Any, env: Any = None, spaces: Any = None, inference_only: bool | None = None) -> Any:
        """The specification of the one module. Raises ValueError where there are several for env runners."""
        from hpc.rllib.core.rl_module import MultiRLModuleSpec

        spec = copy.deepcopy(self.rl_module_spec)
        if isinstance(spec, MultiRLModuleSpec):
            specs = spec.rl_module_specs or {}
            others = [key for key in specs if key != DEFAULT_MODULE_ID]
            if DEFAULT_MODULE_ID not in specs or not all(inference_only and specs[key].learner_only for key in others):
                raise ValueError(
                    f"get_rl_module_spec is for one module, {DEFAULT_MODULE_ID!r}, and there are {sorted(specs)}: use "
                    "get_multi_rl_module_spec"
                )
            spec = specs[DEFAULT_MODULE_ID]
        observed, acted = self._spaces_of(DEFAULT_MODULE_ID, env, spaces)
        self._complete(spec, observed, acted)
        if inference_only is not None:
            spec.inference_only = inference_only
        return spec

    def get_multi_rl_module_spec(
        self: Any,
        *,
        env: Any = None,
        spaces: Any = None,
        inference_only: bool = False,
        policy_dict: dict[str, Any] | None = None,
        single_agent_rl_module_spec: Any = None,
    ) -> Any:
        """The specification of all modules, with spaces. spaces: for each module (observation space, action space).

        inference_only: without what only learners need.
        """
        policies = policy_dict if policy_dict is not None else self.get_multi_agent_setup(env=env, spaces=spaces)[0]
        default = self.get_default_rl_module_spec()
        made = self._several(policies, default, single_agent_rl_module_spec)
        for module_id in list(made.rl_module_specs):
            spec = made.rl_module_specs[module_id]
            if inference_only and spec.learner_only:
                made.remove_modules(module_id)
                continue
            spec.inference_only = inference_only
            _fill_classes(module_id, spec, default)
            policy = policies.get(module_id, policies.get(DEFAULT_MODULE_ID))
            self._complete(spec, getattr(policy, "observation_space", None), getattr(policy, "action_space", None))
        return made

    def _several(self: Any, policies: dict[str, Any], default: Any, single: Any) -> Any:
        """A MultiRLModuleSpec with a specification for each of the policies."""
        from hpc.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec

        current = self._rl_module_spec if self._rl_module_spec is not None else default
        if isinstance(current, RLModuleSpec):
            return MultiRLModuleSpec(rl_module_specs={key: copy.deepcopy(single or current) for key in policies})
        if isinstance(default, RLModuleSpec):
            rest, mine = single or default, current.rl_module_specs
            specs = {key: copy.deepcopy(mine.get(key, rest)) for key in {**policies, **mine}}
        elif single is not None:
            specs = {key: copy.deepcopy(single) for key in policies}
        elif self._rl_module_spec is None:
            specs = {key: copy.deepcopy(spec) for key, spec in current.rl_module_specs.items()}
        else:
            raise ValueError(
                "the algorithm's own specification has several modules: give get_multi_rl_module_spec("
                "single_agent_rl_module_spec=..)"
            )
        return type(current)(
            multi_rl_module_class=current.multi_rl_module_class,
            rl_module_specs=specs,
            modules_to_load=current.modules_to_load,
            load_state_path=current.load_state_path,
            model_config=current.model_config,
        )

    def _complete(self: Any, spec: Any, observed: Any, acted: Any) -> None:
        """Fill in spaces and the model's configuration, where the specification says nothing."""
        if spec.observation_space is None:
            spec.observation_space = observed
        if spec.action_space is None:
            spec.action_space = acted
        spec.model_config = self.model_config | _as_dict(spec.model_config)

    def _spaces_of(self: Any, module_id: str, env: Any, spaces: Any) -> tuple[Any, Any]:
        if spaces is not None and module_id in spaces:
            return spaces[module_id][0], spaces[module_id][1]
        if env is not None:
            observed = getattr(env, "single_observation_space", env.observation_space)
            acted = getattr(env, "single_action_space", env.action_space)
            return observed, acted
        return self.observation_space, self.action_space

    def get_multi_agent_setup(
        self: Any, *, policies: Any = None, env: Any = None, spaces: Any = None, **ignored: Any
    ) -> tuple[dict[str, PolicySpec], Any]:
        """For each module its PolicySpec with spaces, and a function of (module_id, batch): whether it learns.

        Raises ValueError where nothing says a module's spaces.
        """
        given = policies or self.policies
        found = {key: copy.copy(given[key]) if isinstance(given, dict) else PolicySpec() for key in given}
        for module_id, spec in found.items():
            observed, acted = self._spaces_of_agents(module_id, env, spaces)
            spec.observation_space = observed if spec.observation_space is None else spec.observation_space
            spec.action_space = acted if spec.action_space is None else spec.action_space
            if not self._rl_module_spec and (spec.observation_space is None or spec.action_space is None):
                raise ValueError(
                    f"the spaces of the module {module_id!r} are not known: give config.environment(observation_space="
                    ".., action_space=..), or PolicySpec(observation_space=.., action_space=..), or an environment"
                )
        return found, self._who_learns()

    def _who_learns(self: Any) -> Any:
        chosen = self.policies_to_train
        if callable(chosen) or chosen is None:
            return chosen
        members = set(chosen)
        return lambda module_id, batch=None: module_id in members

    def _spaces_of_agents(self: Any, module_id: str, env: Any, spaces: Any) -> tuple[Any, Any]:
        """The spaces of the agents that have this module; of the environment itself, if it has one agent."""
        if spaces is not None and module_id in spaces:
            return spaces[module_id][0], spaces[module_id][1]
        inner = _inner(env)
        agents = getattr(inner, "possible_agents", None)
        if not agents:
            return self._spaces_of(module_id, env, None)
        from hpc.rllib.env.multi_agent_episode import MultiAgentEpisode

        episode = MultiAgentEpisode()
        mine = [one for one in agents if self.policy_mapping_fn(one, episode, worker=None) == module_id]
        agent = mine[0] if mine else agents[0]
        return inner.get_observation_space(agent), inner.get_action_space(agent)


def _inner(env: Any) -> Any:
    first = getattr(env, "envs", None)
    inner = first[0] if first else env
    return getattr(inner, "unwrapped", inner)


def _as_dict(model_config: Any) -> dict[str, Any]:
    if model_config is None:
        return {}
    return dict(model_config) if isinstance(model_config, dict) else dataclasses.asdict(model_config)


def _fill_classes(module_id: str, spec: Any, default: Any) -> None:
    """Take the classes of the algorithm's own specification, where this one has none."""
    theirs = getattr(default, "rl_module_specs", None)
    base = default if theirs is None else theirs.get(module_id)
    for name in ("module_class", "catalog_class"):
        if getattr(spec, name, None) is None:
            if base is None:
                raise ValueError(f"the {name} of the module {module_id!r} is not known: give it in its RLModuleSpec")
            setattr(spec, name, getattr(base, name, None))
