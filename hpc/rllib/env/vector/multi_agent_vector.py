"""Several environments with several agents, stepped one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.env.env_context import EnvContext
from hpc.rllib.env.env_errors import EnvError
from hpc.rllib.env.multi_agent_env import MultiAgentEnv
from hpc.rllib.env.vector.registration import creator_of

_ALL = "__all__"


class MultiAgentVector:
    """The environments of a runner; one that fails is made anew where that was asked for.

    Attributes:
        envs: The environments.
        single_observation_space, single_action_space: Dicts of the spaces of all possible agents.
    """

    def __init__(
        self,
        makers: list[Callable[[], Any]],
        *,
        restart_failed: bool,
        check: bool,
        on_failure: Callable[[int | None, Exception], None],
    ) -> None:
        self._makers = makers
        self._restart_failed = restart_failed
        self._on_failure = on_failure
        self.envs = [self._made(make) for make in makers]
        self.num_envs = len(self.envs)
        inner = self.envs[0].unwrapped
        agents = list(inner.possible_agents)
        if not agents:
            raise EnvError(
                f"{inner} has no possible_agents: set self.agents and self.possible_agents in its constructor"
            )
        self.possible_agents = agents
        self.single_observation_space = _by_agent(inner, "observation")
        self.single_action_space = _by_agent(inner, "action")
        self.observation_space, self.action_space = self.single_observation_space, self.single_action_space
        if check:
            _check(inner)

    @property
    def unwrapped(self) -> MultiAgentVector:
        """Itself."""
        return self

    def _made(self, make: Callable[[], Any]) -> Any:
        env = make()
        if not isinstance(getattr(env, "unwrapped", env), MultiAgentEnv):
            raise EnvError(
                f"{env} is no MultiAgentEnv, and the configuration has several modules: derive from MultiAgentEnv, "
                "wrap it "
                "by PettingZooEnv or ParallelPettingZooEnv, or leave config.multi_agent() out."
            )
        return env

    def reset_one(self, at: int, seed: int | None = None) -> Any:
        """Begin an episode in one environment."""
        try:
            return self.envs[at].reset(seed=seed)
        except Exception as error:
            self._make_anew(at, error)
            return self.envs[at].reset(seed=seed)

    def step_one(self, at: int, actions: dict[Any, Any]) -> Any:
        """Step one environment; None where it failed and was made anew."""
        try:
            result = self.envs[at].step(actions)
        except Exception as error:
            self._make_anew(at, error)
            return None
        for name, flags in (("terminateds", result[2]), ("truncateds", result[3])):
            if _ALL not in flags:
                raise EnvError(
                    f"In multi-agent environments, '__all__': True|False must be included in the '{name}' dict: got "
                    f"{flags}."
                )
        return result

    def _make_anew(self, at: int, error: Exception) -> None:
        if not self._restart_failed:
            raise error
        self._on_failure(at, error)
        try:
            self.envs[at].close()
        except Exception:
            pass
        self.envs[at] = self._made(self._makers[at])

    def sample_action(self, at: int, agent_id: Any) -> Any:
        """A random action of an agent."""
        return self.single_action_space[agent_id].sample()

    def close(self) -> None:
        """Close all environments."""
        for env in self.envs:
            env.close()


def _by_agent(env: Any, what: str) -> gym.spaces.Dict:
    spaces = {agent: getattr(env, f"get_{what}_space")(agent) for agent in env.possible_agents}
    missing = [agent for agent, space in spaces.items() if space is None]
    if missing:
        raise EnvError(
            f"{env} has no {what} space for {missing}: set self.{what}_spaces to a dict by agent, or self.{what}_space"
        )
    return gym.spaces.Dict(spaces)


def _check(env: Any) -> None:
    """Hold an environment to the rules of `MultiAgentEnv` by one reset."""
    skip = "; config.environment(disable_env_checking=True) leaves this check out"
    result = env.reset()
    if not (isinstance(result, tuple) and len(result) == 2 and all(isinstance(part, dict) for part in result)):
        raise EnvError(
            f"reset of {env} returned {result!r}: it returns two dicts by agent, observations and infos{skip}"
        )
    for agent_id, observation in result[0].items():
        if agent_id not in env.possible_agents:
            raise EnvError(f"reset of {env} gave an observation to {agent_id!r}, which is not in possible_agents{skip}")
        space = env.get_observation_space(agent_id)
        if not space.contains(observation):
            kind = observation.dtype if isinstance(observation, np.ndarray) else type(observation).__name__
            raise EnvError(
                f"reset of {env} gave agent {agent_id!r} an observation outside of its space {space}: {observation!r} "
                f"({kind}){skip}"
            )


def make_multi_agent_vector(config: Any, context: EnvContext, on_failure: Any) -> MultiAgentVector:
    """The environments of a configuration.

    Raises:
        EnvError: there is no such environment, or it does not fit.
    """
    env = creator_of(config.env)
    if env is None:
        raise EnvError(
            "`config.env` is not provided! You should provide a valid environment to your config through "
            "`config.environment([env descriptor e.g. 'CartPole-v1'])`."
        )

    def make(at: int) -> Callable[[], Any]:
        own = context.copy_with_overrides(vector_index=at)
        if isinstance(env, str):
            return lambda: gym.make(env, disable_env_checker=True, **own)
        return lambda: env(own)

    return MultiAgentVector(
        [make(at) for at in range(int(config.num_envs_per_env_runner))],
        restart_failed=bool(config.restart_failed_sub_environments),
        check=not config.disable_env_checking,
        on_failure=on_failure,
    )
