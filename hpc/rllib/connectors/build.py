"""The three pipelines of an algorithm: what its user gave, and what every one has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from hpc.rllib.connectors.common import (
    AddObservationsFromEpisodesToBatch,
    AddStatesFromEpisodesToBatch,
    AddTimeDimToBatchAndZeroPad,
    AgentToModuleMapping,
    BatchIndividualItems,
    ModuleToAgentUnmapping,
    NumpyToTensor,
    TensorToNumpy,
)
from hpc.rllib.connectors.connector_v2 import ConnectorV2
from hpc.rllib.connectors.env_to_module import EnvToModulePipeline, FlattenObservations
from hpc.rllib.connectors.env_to_module.split_action_mask import SplitActionMask
from hpc.rllib.connectors.learner.add_columns_from_episodes_to_train_batch import AddColumnsFromEpisodesToTrainBatch
from hpc.rllib.connectors.learner.learner_connector_pipeline import LearnerConnectorPipeline
from hpc.rllib.connectors.module_to_env import (
    GetActions,
    ListifyDataForVectorEnv,
    ModuleToEnvPipeline,
    NormalizeAndClipActions,
    RemoveSingleTsTimeRankFromBatch,
    UnBatchToIndividualItems,
)
from hpc.rllib.core.masks import ACTION_MASK, split_mask
from hpc.rllib.env import INPUT_ENV_SINGLE_SPACES


def _given(function: Callable[..., Any] | None, setting: str, *args: Any) -> list[ConnectorV2]:
    """The connectors that a user's function gave: one, several, or none."""
    if function is None:
        return []
    made = function(*args)
    if isinstance(made, ConnectorV2):
        return [made]
    if isinstance(made, (list, tuple)) and all(isinstance(one, ConnectorV2) for one in made):
        return list(made)
    raise ValueError(
        f"`{setting}` must return a ConnectorV2 object or a list thereof to be added to a connector pipeline! "
        f"Your function returned {made}."
    )


def _spaces(config: Any, env: Any, spaces: Any) -> tuple[Any, Any]:
    """The observation and action space of one environment."""
    if spaces and INPUT_ENV_SINGLE_SPACES in spaces:
        observed, acted = spaces[INPUT_ENV_SINGLE_SPACES]
        return observed, acted
    if env is not None:
        obs = getattr(env, "single_observation_space", None)
        act = getattr(env, "single_action_space", None)
        return (
            env.observation_space if obs is None else obs,
            env.action_space if act is None else act,
        )
    return config.observation_space, config.action_space


def module_classes(config: Any) -> list[Any]:
    """The classes of modules that the user gave; None stands for the algorithm's default."""
    spec = getattr(config, "_rl_module_spec", None)
    inner = getattr(spec, "rl_module_specs", None)
    if inner is None:
        return [getattr(spec, "module_class", None)]
    parts = inner.values() if isinstance(inner, dict) else [inner]
    return [getattr(part, "module_class", None) for part in parts]


def only_own_modules(config: Any) -> bool:
    """Whether all modules are of this package: they take masks as a column, and flat vectors of nested observations."""
    return all(cls is None or cls.__module__.startswith("hpc.rllib.core.") for cls in module_classes(config))


def _agents(space: Any, multi: bool) -> dict[Any, Any]:
    return dict(space.spaces) if multi else {None: space}


def env_to_module(config: Any, *, env: Any = None, spaces: Any = None, device: Any = None) -> EnvToModulePipeline:
    """The pipeline from environment to module."""
    obs_space, act_space = _spaces(config, env, spaces)
    multi = bool(config.is_multi_agent)
    pieces = _given(
        config._env_to_module_connector, "AlgorithmConfig.env_runners(env_to_module_connector=..)", env, spaces, device
    )
    pipeline = EnvToModulePipeline(obs_space, act_space, connectors=pieces)
    if not config.add_default_connectors_to_env_to_module_pipeline:
        return pipeline
    own = obs_space is not None and only_own_modules(config)
    if own:
        key = getattr(config, "action_mask_key", None) or ACTION_MASK
        if any(split_mask(space, key)[1] for space in _agents(obs_space, multi).values()):
            pipeline.prepend(SplitActionMask(key=key, multi_agent=multi))
        _flatten_the_rest(pipeline, obs_space, multi)
    pipeline.append(AddObservationsFromEpisodesToBatch())
    pipeline.append(AddTimeDimToBatchAndZeroPad())
    pipeline.append(AddStatesFromEpisodesToBatch())
    if multi:
        pipeline.append(_mapping(config, as_learner_connector=False))
    pipeline.append(BatchIndividualItems(multi_agent=multi))
    pipeline.append(NumpyToTensor(device=device))
    return pipeline


def _flatten_the_rest(pipeline: EnvToModulePipeline, obs_space: Any, multi: bool) -> None:
    """Let a pipeline end with Boxes, as the default modules need them."""
    space = pipeline.observation_space if pipeline.connectors else obs_space
    nested = [agent for agent, part in _agents(space, multi).items() if not isinstance(part, gym.spaces.Box)]
    if nested:
        pipeline.append(FlattenObservations(multi_agent=multi, agent_ids=nested if multi else None))


def _mapping(config: Any, *, as_learner_connector: bool) -> AgentToModuleMapping:
    specs = getattr(getattr(config, "_rl_module_spec", None), "rl_module_specs", None)
    return AgentToModuleMapping(
        rl_module_specs=specs if isinstance(specs, dict) else set(config.policies),
        agent_to_module_mapping_fn=config.policy_mapping_fn,
        as_learner_connector=as_learner_connector,
    )


def module_to_env(config: Any, *, env: Any = None, spaces: Any = None) -> ModuleToEnvPipeline:
    """The pipeline from module to environment: the default pieces, then the user's before the last one."""
    obs_space, act_space = _spaces(config, env, spaces)
    multi = bool(config.is_multi_agent)
    pieces = _given(
        config._module_to_env_connector, "AlgorithmConfig.env_runners(module_to_env_connector=..)", env, spaces
    )
    pipeline = ModuleToEnvPipeline(obs_space, act_space, connectors=pieces)
    if not config.add_default_connectors_to_module_to_env_pipeline:
        return pipeline
    pipeline.append(
        NormalizeAndClipActions(normalize_actions=config.normalize_actions, clip_actions=config.clip_actions)
    )
    pipeline.append(ListifyDataForVectorEnv())
    for piece in reversed(
        [GetActions(), TensorToNumpy(), UnBatchToIndividualItems()]
        + ([ModuleToAgentUnmapping()] if multi else [])
        + [RemoveSingleTsTimeRankFromBatch()]
    ):
        pipeline.prepend(piece)
    return pipeline


def learner(
    config: Any, input_observation_space: Any = None, input_action_space: Any = None, device: Any = None
) -> LearnerConnectorPipeline:
    """The pipeline from episodes to the learner's batch."""
    pieces = _given(
        config._learner_connector,
        "AlgorithmConfig.learners(learner_connector=..)",
        input_observation_space,
        input_action_space,
    )
    pipeline = LearnerConnectorPipeline(input_observation_space, input_action_space, connectors=pieces)
    if not config.add_default_connectors_to_learner_pipeline:
        return pipeline
    multi = bool(config.is_multi_agent)
    pipeline.append(AddObservationsFromEpisodesToBatch(as_learner_connector=True))
    pipeline.append(AddColumnsFromEpisodesToTrainBatch())
    pipeline.append(AddTimeDimToBatchAndZeroPad(as_learner_connector=True))
    pipeline.append(AddStatesFromEpisodesToBatch(as_learner_connector=True))
    if multi:
        pipeline.append(_mapping(config, as_learner_connector=True))
    pipeline.append(BatchIndividualItems(multi_agent=multi))
    pipeline.append(NumpyToTensor(device=device))
    return pipeline
