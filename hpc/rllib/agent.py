"""Acting by what was learnt: one call, with the connectors, masks and states that were there in training.

No session and no environment is needed. Programs that serve or test a policy begin here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig
from hpc.rllib.connectors.connector_v2 import works_on_arrays
from hpc.rllib.connectors.rows import Acts, Rows
from hpc.rllib.core import (
    COMPONENT_ENV_RUNNER,
    COMPONENT_ENV_TO_MODULE_CONNECTOR,
    COMPONENT_EVAL_ENV_RUNNER,
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_MODULE_TO_ENV_CONNECTOR,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from hpc.rllib.core.acting import BatchActor, make_actor
from hpc.rllib.core.columns import Columns
from hpc.rllib.utils.checkpoints import _read, made_by
from hpc.rllib.utils.threads import limited_threads
from hpc.rllib.utils.trees import map_tree


@dataclass
class Carried:
    """What acting remembers of one episode of one agent: give it back with the next observation."""

    #: What connectors remember: frames, last actions.
    memory: dict[Any, Any] = field(default_factory=dict)
    #: The state of a stateful module.
    state: Any = None
    #: The module's last action; None at the begin of an episode.
    action: Any = None
    #: The agent's module, once it is known.
    module_id: str | None = None

    def own(self) -> Carried:
        """A copy: of what connectors remember, not of the connectors, which are the keys."""
        return replace(self, memory={key: copy.deepcopy(value) for key, value in self.memory.items()})


class Decider:
    """Acts for single observations by modules and the two pipelines around them.

    actor_of: a function of a module id that returns its actor.
    """

    def __init__(
        self,
        config: AlgorithmConfig,
        actor_of: Callable[[str], BatchActor],
        env_to_module: Any,
        module_to_env: Any,
    ) -> None:
        self._config = config
        self._actor_of = actor_of
        self._env_to_module, self._module_to_env = env_to_module, module_to_env
        slow = [piece for piece in env_to_module.connectors if not works_on_arrays(piece, "on_rows")]
        slow += [piece for piece in module_to_env.connectors if not works_on_arrays(piece, "on_actions")]
        if slow:
            names = ", ".join(type(piece).__name__ for piece in slow)
            raise ValueError(
                f"{names}: these connectors work on episodes only, so a single call cannot act through them. Give them "
                "on_rows (or on_actions), or act as the env runner does: pipeline, module, pipeline"
            )

    def act(
        self,
        obs: Any,
        carried: Carried | None,
        *,
        rng: np.random.Generator,
        explore: bool = False,
        reward: float = 0.0,
        agent_id: Hashable = None,
        module_id: str | None = None,
        t: int = 0,
    ) -> tuple[Any, Carried]:
        """The action for the environment, and what is to be carried to the next call. carried: None: a new episode.

        What is given stays as it was: from one point of an episode, several ways to go on can be tried.
        """
        begins = carried is None
        carried = Carried() if carried is None else carried.own()
        carried.module_id = module_id or carried.module_id or self._module_of(agent_id)
        actor = self._actor_of(carried.module_id)
        rows = Rows(
            obs=map_tree(lambda leaf: np.asarray(leaf)[None], obs),
            first=np.array([begins]),
            actions=carried.action,
            rewards=np.array([reward], np.float32),
            agent_id=agent_id,
            explore=explore,
            memory=carried.memory,
        )
        with _frozen(self._env_to_module):
            self._env_to_module.on_rows(rows)
        if begins:
            carried.state = actor.initial_state(1) or None
        with limited_threads():
            out = actor.act(rows.obs, rng=rng, state=carried.state, mask=rows.mask, explore=explore, t=t, values=False)
        carried.state = out.get(Columns.STATE_OUT)
        carried.action = out[Columns.ACTIONS]
        acts = Acts(actions=carried.action, for_env=out.get(Columns.ACTIONS_FOR_ENV, carried.action), agent_id=agent_id)
        self._module_to_env.on_actions(acts)
        return map_tree(lambda leaf: _plain(leaf[0]), acts.for_env), carried

    def _module_of(self, agent_id: Hashable) -> str:
        if not self._config.is_multi_agent:
            return DEFAULT_MODULE_ID
        if agent_id is None:
            raise ValueError("there are several agents: say by agent_id (or module_id) for whom to act")
        from hpc.rllib.env.multi_agent_episode import MultiAgentEpisode

        return self._config.policy_mapping_fn(agent_id, MultiAgentEpisode())


class Agent:
    """A policy from a checkpoint: ``agent = Agent.from_checkpoint(path)``, then ``agent.act(observation)``.

    It remembers what belongs to an episode (states of modules, frames): call `reset` when a new one begins. seed: of
    the draws with explore=True.
    """

    def __init__(
        self,
        config: AlgorithmConfig,
        modules: Any,
        env_to_module: Any,
        module_to_env: Any,
        *,
        steps: int = 0,
        seed: int | None = None,
    ) -> None:
        self.config = config
        self.modules = modules
        self._actors: dict[str, BatchActor] = {}
        self._decider = Decider(config, self._actor_of, env_to_module, module_to_env)
        self._carried: dict[Hashable, Carried] = {}
        self._rng = np.random.default_rng(seed)
        self._steps = steps

    @classmethod
    def from_checkpoint(cls, path: Any, *, filesystem: Any = None, seed: int | None = None) -> Agent:
        """The policy that an algorithm has saved, by ``save_to_path`` or as a trial.

        Raises FileNotFoundError for what is no checkpoint, and ValueError for connectors that cannot act by one call.
        """
        with _read(path, filesystem) as local:
            _, args, _ = made_by(Path(local))
            config = AlgorithmConfig.from_state(args[0])
            modules = _modules(local / COMPONENT_LEARNER_GROUP / COMPONENT_LEARNER / COMPONENT_RL_MODULE)
            to_module, to_env = _pipelines(local, config)
            return cls(config, modules, to_module, to_env, steps=_steps(local), seed=seed)

    def act(
        self,
        obs: Any,
        *,
        explore: bool = False,
        reward: float = 0.0,
        agent_id: Hashable = None,
        module_id: str | None = None,
    ) -> Any:
        """The action for one observation, as the environment takes it. explore: draw it, as opposed to the best one.

        reward: the last one, for modules that see it. agent_id: with several agents, whose observation it is.
        """
        action, self._carried[agent_id] = self._decider.act(
            obs,
            self._carried.get(agent_id),
            rng=self._rng,
            explore=explore,
            reward=reward,
            agent_id=agent_id,
            module_id=module_id,
            t=self._steps,
        )
        return action

    def reset(self, agent_id: Hashable = None) -> None:
        """A new episode begins: of all agents, or of this one."""
        if agent_id is None:
            self._carried.clear()
        else:
            self._carried.pop(agent_id, None)

    def get_module(self, module_id: str = DEFAULT_MODULE_ID) -> Any:
        """The module of this id; None if there is none."""
        return self.modules.get(module_id)

    def _actor_of(self, module_id: str) -> BatchActor:
        if module_id not in self._actors:
            if module_id not in self.modules:
                raise KeyError(f"there is no module {module_id!r}: there are {', '.join(self.modules.keys())}")
            within = None if isinstance(self.modules, dict) else (self.modules, module_id)
            self._actors[module_id] = make_actor(self.modules[module_id], within=within)
        return self._actors[module_id]


class _frozen:
    """Connectors learn nothing of what they see within."""

    def __init__(self, pipeline: Any) -> None:
        self._pieces = [piece for piece in pipeline.connectors if getattr(piece, "_update_stats", False)]

    def __enter__(self) -> None:
        for piece in self._pieces:
            piece._update_stats = False

    def __exit__(self, *error: Any) -> None:
        for piece in self._pieces:
            piece._update_stats = True


def _plain(leaf: Any) -> Any:
    """A number of numpy for a discrete action, else its array."""
    return leaf[()] if getattr(leaf, "ndim", 1) == 0 else leaf


def _modules(path: Path) -> Any:
    """The modules of a checkpoint by their ids: a MultiRLModule, or a dict."""
    from hpc.rllib.core.rl_module.multi_rl_module import MultiRLModule
    from hpc.rllib.core.rl_module.rl_module import RLModule

    if not path.is_dir():
        raise FileNotFoundError(f"there are no modules at {path}: give the directory that save_to_path has written")
    found = RLModule.from_checkpoint(path)
    modules = found if isinstance(found, MultiRLModule) else {DEFAULT_MODULE_ID: found}
    if isinstance(found, MultiRLModule):
        for name in [name for name in found.keys() if not (path / name).is_dir()]:  # noqa: SIM118
            found.remove_module(name)  # checkpoint_trainable_policies_only has left it out
    for module in modules.values():
        if hasattr(module, "eval"):
            module.eval()
    return modules


def _pipelines(path: Path, config: AlgorithmConfig) -> list[Any]:
    """Both pipelines of a checkpoint; new ones where it was learnt from data, without an environment."""
    from hpc.rllib.connectors.connector_v2 import ConnectorV2
    from hpc.rllib.env.connector_states import Pipelines

    names = (COMPONENT_ENV_TO_MODULE_CONNECTOR, COMPONENT_MODULE_TO_ENV_CONNECTOR)
    for runner in (path / COMPONENT_ENV_RUNNER, path / COMPONENT_EVAL_ENV_RUNNER):
        if runner.is_dir():
            return [ConnectorV2.from_checkpoint(runner / name) for name in names]
    if config.observation_space is None or config.action_space is None:
        raise FileNotFoundError(
            f"{path} has neither connectors nor spaces of an environment: train with "
            "config.environment(observation_space=.., action_space=..), or with an evaluation"
        )
    made = Pipelines(config, {})
    return [made.by_name[name] for name in names]


def _steps(path: Path) -> int:
    """The steps of training, by which exploration falls."""
    import pickle

    with open(path / "algorithm_state.pkl", "rb") as file:
        stats = pickle.load(file)["metrics_logger"]["stats"]
    found = stats.get("env_runners--num_env_steps_sampled_lifetime")
    return int(found["values"]["sum"]) if found else 0
