"""Connectors between environment and module."""

from hpc.rllib.connectors.common import (
    AddObservationsFromEpisodesToBatch,
    AddStatesFromEpisodesToBatch,
    AddTimeDimToBatchAndZeroPad,
    AgentToModuleMapping,
    BatchIndividualItems,
    NumpyToTensor,
)
from hpc.rllib.connectors.env_to_module.env_to_module_pipeline import EnvToModulePipeline
from hpc.rllib.connectors.env_to_module.flatten_observations import FlattenObservations
from hpc.rllib.connectors.env_to_module.frame_stacking import FrameStackingEnvToModule
from hpc.rllib.connectors.env_to_module.mean_std_filter import MeanStdFilter
from hpc.rllib.connectors.env_to_module.prev_actions_prev_rewards import PrevActionsPrevRewards
from hpc.rllib.connectors.env_to_module.write_observations_to_episodes import WriteObservationsToEpisodes

__all__ = [
    "AddObservationsFromEpisodesToBatch",
    "AddStatesFromEpisodesToBatch",
    "AddTimeDimToBatchAndZeroPad",
    "AgentToModuleMapping",
    "BatchIndividualItems",
    "EnvToModulePipeline",
    "FlattenObservations",
    "FrameStackingEnvToModule",
    "MeanStdFilter",
    "NumpyToTensor",
    "PrevActionsPrevRewards",
    "WriteObservationsToEpisodes",
]
