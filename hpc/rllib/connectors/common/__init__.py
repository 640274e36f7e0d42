"""Connectors of more than one pipeline."""

from hpc.rllib.connectors.common.add_observations_from_episodes_to_batch import AddObservationsFromEpisodesToBatch
from hpc.rllib.connectors.common.add_states_from_episodes_to_batch import AddStatesFromEpisodesToBatch
from hpc.rllib.connectors.common.add_time_dim_to_batch_and_zero_pad import AddTimeDimToBatchAndZeroPad
from hpc.rllib.connectors.common.agent_to_module_mapping import AgentToModuleMapping
from hpc.rllib.connectors.common.batch_individual_items import BatchIndividualItems
from hpc.rllib.connectors.common.module_to_agent_unmapping import ModuleToAgentUnmapping
from hpc.rllib.connectors.common.numpy_to_tensor import NumpyToTensor
from hpc.rllib.connectors.common.tensor_to_numpy import TensorToNumpy

__all__ = [
    "AddObservationsFromEpisodesToBatch",
    "AddStatesFromEpisodesToBatch",
    "AddTimeDimToBatchAndZeroPad",
    "AgentToModuleMapping",
    "BatchIndividualItems",
    "ModuleToAgentUnmapping",
    "NumpyToTensor",
    "TensorToNumpy",
]
