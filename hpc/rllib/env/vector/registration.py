"""Vector environments of a runner: the environment's own vector class, EnvPool's, or one made of single ones."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from hpc.rllib.env.env_context import EnvContext
from hpc.rllib.env.env_errors import EnvError
from hpc.rllib.env.vector.sync_vector import SyncVector
from hpc.tune import registry

#: The prefix of environments of EnvPool: "envpool:CartPole-v1".
ENVPOOL = "envpool:"


def creator_of(env: Any) -> Any:
    """What was registered by a name; anything else as it is.

    An actor does not know the names of the process that made it: a group resolves them before it ships a configuration.
    """
    if isinstance(env, str):
        try:
            return registry.env_creator_of(env)
        except Exception:
            return env
    return env


def make_vector(
    config: Any, context: EnvContext, seed: int | None, on_failure: Any = None, *, single: bool = False
) -> Any:
    """The vector environment of a configuration.

    The mode "sync" takes an environment's own vector class, where there is one with equal spaces. With ``single``, or
    where the mode is the member of gymnasium's `VectorizeMode`, it is made of single environments, which can be
    looked at.

    Raises:
        EnvError: there is no such environment, or it does not fit.
    """
    env, count = creator_of(config.env), int(config.num_envs_per_env_runner)
    if env is None:
        raise EnvError(
            "`config.env` is not provided! You should provide a valid environment to your config through "
            "`config.environment([env descriptor e.g. 'CartPole-v1'])`."
        )
    mode = str(getattr(config.gym_env_vectorize_mode, "value", config.gym_env_vectorize_mode)).lower()
    if mode not in ("sync", "async", "vector_entry_point"):
        raise EnvError(
            f"gym_env_vectorize_mode={config.gym_env_vectorize_mode!r}: it is 'sync', 'async' or 'vector_entry_point'"
        )
    if isinstance(env, str) and env.startswith(ENVPOOL):
        return _checked(_envpool(env[len(ENVPOOL) :], context, count, seed), count)
    if isinstance(env, gym.vector.VectorEnv):
        return _checked(env, count)
    if isinstance(env, str) and ":" not in env and "." in env and "/" not in env:
        env = _class_of(env)
    if isinstance(env, str):
        single = single or isinstance(config.gym_env_vectorize_mode, gym.VectorizeMode)
        return _checked(_of_gymnasium(env, context, count, mode, config, on_failure, single), count)
    if not callable(env):
        raise EnvError(f"{env!r} is no environment: give a name, a class, a function of the env_config, or a VectorEnv")
    return _checked(_of_creator(env, context, count, mode, config, on_failure), count)


def _class_of(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise EnvError(f"{path!r} is no class that can be imported ({error}), nor a registered environment") from error


def _envpool(name: str, context: EnvContext, count: int, seed: int | None) -> Any:
    try:
        import envpool
    except ImportError as error:
        raise EnvError(f"environment {ENVPOOL}{name} needs the package envpool: pip install envpool") from error
    # EnvPool's own default is the same seed for all.
    fresh = int(np.random.SeedSequence().generate_state(1)[0] >> 1)
    settings = {"num_threads": 1, "seed": fresh if seed is None else seed, **context}
    return envpool.make(name, env_type="gymnasium", num_envs=count, **settings)


def _spec(name: str) -> Any:
    if name.startswith(("ALE/", "ale_py:ALE/")):
        try:
            import ale_py
        except ImportError as error:
            raise EnvError(f"environment {name} needs the package ale-py: pip install ale-py") from error
        gym.register_envs(ale_py)
        name = name.removeprefix("ale_py:")
    try:
        return gym.spec(name)
    except gym.error.Error as error:
        raise EnvError(
            f"{name!r} is no environment that gymnasium or `tune.register_env` knows: {error}. Give a registered "
            "name, a "
            "class, or a function of the env_config; a package that registers environments is imported by "
            "'package:Name-v0'."
        ) from error


def _of_gymnasium(
    name: str, context: EnvContext, count: int, mode: str, config: Any, on_failure: Any, only_single: bool
) -> Any:
    spec = _spec(name)
    settings = dict(context)

    def make() -> gym.Env:
        return gym.make(spec, disable_env_checker=True, **settings)

    if mode == "vector_entry_point":
        return gym.make_vec(spec, num_envs=count, vectorization_mode="vector_entry_point", **settings)
    if mode == "sync" and spec.vector_entry_point is not None and not spec.additional_wrappers and not only_single:
        native: Any = gym.make_vec(spec, num_envs=count, vectorization_mode="vector_entry_point", **settings)
        single = make()
        same = (native.single_observation_space, native.single_action_space) == (
            single.observation_space,
            single.action_space,
        )
        if same:
            # Programs look into ``envs``: it is an environment of this kind, which the vector does not step.
            native.unwrapped.envs = [single] * count
            return native
        single.close()
        native.close()
    return _of_makers([make] * count, mode, config, on_failure)


def _of_creator(
    env: Callable[..., Any], context: EnvContext, count: int, mode: str, config: Any, on_failure: Any
) -> Any:
    """Of a class or a function of the env_config; one that gives a vector environment is asked for all at once."""

    def make(at: int) -> Callable[[], gym.Env]:
        return lambda: env(context.copy_with_overrides(vector_index=at))

    if mode == "vector_entry_point" or (inspect.isclass(env) and issubclass(env, gym.vector.VectorEnv)):
        made = env(context | {"num_envs": count})
        if not isinstance(made, gym.vector.VectorEnv):
            raise EnvError(
                f"gym_env_vectorize_mode='vector_entry_point' needs a function that makes a VectorEnv: {env} made "
                f"{made}"
            )
        return made
    first = make(0)()
    if isinstance(first, gym.vector.VectorEnv):
        if first.num_envs == count:
            return first
        first.close()
        return env(context | {"num_envs": count})
    if not isinstance(first, gym.Env):
        raise EnvError(
            f"{env} made {first!r}, which is no gymnasium.Env. One agent: derive from gymnasium.Env. Several: "
            "derive from "
            "MultiAgentEnv, and give `config.multi_agent(policies=.., policy_mapping_fn=..)`."
        )
    if not config.disable_env_checking:
        check_env(first)
    waiting = [first]

    def make_first() -> gym.Env:
        return waiting.pop() if waiting else make(0)()

    if mode == "async":
        first.close()
        return _of_makers([make(at) for at in range(count)], mode, config, on_failure)
    return _of_makers([make_first] + [make(at) for at in range(1, count)], mode, config, on_failure)


def _of_makers(makers: list[Callable[[], gym.Env]], mode: str, config: Any, on_failure: Any) -> Any:
    if mode == "async":
        return gym.vector.AsyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)
    return SyncVector(makers, restart_failed=bool(config.restart_failed_sub_environments), on_failure=on_failure)


def _checked(env: Any, count: int) -> Any:
    """A vector environment of the wanted size that resets an environment in the step after its end."""
    if env.num_envs != count:
        raise EnvError(
            f"the vector environment has {env.num_envs} environments, but num_envs_per_env_runner={count}: make "
            "them equal"
        )
    mode = (getattr(env, "metadata", None) or {}).get("autoreset_mode", AutoresetMode.NEXT_STEP)
    mode = mode if isinstance(mode, AutoresetMode) else AutoresetMode(mode)
    if mode is AutoresetMode.NEXT_STEP:
        return env
    if isinstance(env, (gym.vector.SyncVectorEnv, gym.vector.AsyncVectorEnv)):
        raise EnvError(f"make {type(env).__name__} with autoreset_mode=AutoresetMode.NEXT_STEP: it has {mode}")
    raise EnvError(
        f"{type(env).__name__} resets in mode {mode}: a fragment needs the last observation of an episode before "
        "the first "
        "one of the next. Make it with autoreset_mode=AutoresetMode.NEXT_STEP."
    )


def check_env(env: gym.Env) -> None:
    """Hold one environment to gymnasium's rules: the types of what reset and step return, and the spaces.

    Raises:
        EnvError: it does not keep to them. ``config.environment(disable_env_checking=True)`` leaves this out.
    """
    skip = "; config.environment(disable_env_checking=True) leaves this check out"
    for name in ("observation_space", "action_space"):
        if not isinstance(getattr(env, name, None), gym.Space):
            raise EnvError(f"{env} has no {name}: set self.{name} to a gymnasium.Space in its constructor{skip}")
    result: Any = env.reset()
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise EnvError(f"reset of {env} returned {result!r}: it returns (observation, infos){skip}")
    if not env.observation_space.contains(result[0]):
        raise EnvError(
            f"reset of {env} gave an observation outside of its observation_space {env.observation_space}: "
            f"{result[0]!r} "
            f"({_kind(result[0])}){skip}"
        )
    result = env.step(env.action_space.sample(mask=_mask_of(env, result[0])))
    if not (isinstance(result, tuple) and len(result) == 5):
        raise EnvError(f"step of {env} returned {result!r}: (observation, reward, terminated, truncated, infos){skip}")
    observation, reward, terminated, truncated, infos = result
    if not env.observation_space.contains(observation):
        raise EnvError(
            f"step of {env} gave an observation outside of its observation_space {env.observation_space}: "
            f"{observation!r} "
            f"({_kind(observation)}){skip}"
        )
    if not np.isscalar(reward) and np.shape(reward) != ():
        raise EnvError(f"step of {env} gave the reward {reward!r}: it is one number{skip}")
    if not all(isinstance(flag, (bool, np.bool_, int)) for flag in (terminated, truncated)) or not isinstance(
        infos, dict
    ):
        raise EnvError(f"step of {env} gave {terminated!r}, {truncated!r}, {infos!r}: two bools and a dict{skip}")


def _kind(value: Any) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _mask_of(env: gym.Env, observation: Any) -> Any:
    """The mask for a sample of the action space, where the observation has one for it."""
    if isinstance(observation, dict) and isinstance(env.action_space, gym.spaces.Discrete):
        mask = observation.get("action_mask")
        return None if mask is None else np.asarray(mask, np.int8)
    return None
