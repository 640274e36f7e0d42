"""Names of types that programs use in annotations."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

AgentID = Hashable
ModuleID = str
PolicyID = str
EnvID = Hashable
EnvType = Any
EpisodeID = int | str
EpisodeType = Any
AlgorithmConfigDict = dict[str, Any]
PartialAlgorithmConfigDict = dict[str, Any]
EnvConfigDict = dict[str, Any]
EnvActionType = Any
EnvInfoDict = dict[str, Any]
EnvObsType = Any
MultiAgentDict = dict[AgentID, Any]
ResultDict = dict[str, Any]
StateDict = dict[str, Any]
ParamDict = dict[str, Any]
ParamList = list[Any]
Param = Any
NamedParamDict = dict[str, Any]
TensorType = Any
TensorStructType = Any
SpaceStruct = Any
RLModuleSpecType = Any
LearningRateOrSchedule = float | Sequence[Sequence[float]]
AgentToModuleMappingFn = Callable[[AgentID, EpisodeType], ModuleID]
ShouldModuleBeUpdatedFn = Any
Optimizer = Any
DeviceType = Any
NetworkType = Any
ModelWeights = dict[str, Any]
ModelConfigDict = dict[str, Any]
