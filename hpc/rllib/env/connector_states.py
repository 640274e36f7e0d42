"""States of the connectors of many runners, brought together: statistics of observations, for example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpc.rllib.core import COMPONENT_ENV_TO_MODULE_CONNECTOR, COMPONENT_MODULE_TO_ENV_CONNECTOR

NAMES = (COMPONENT_ENV_TO_MODULE_CONNECTOR, COMPONENT_MODULE_TO_ENV_CONNECTOR)


def pipelines_of(config: Any, spaces: Mapping[str, Any]) -> dict[str, Any]:
    """Both pipelines, of a process that has no runner of its own."""
    return {
        COMPONENT_ENV_TO_MODULE_CONNECTOR: config.build_env_to_module_connector(spaces=spaces),
        COMPONENT_MODULE_TO_ENV_CONNECTOR: config.build_module_to_env_connector(spaces=spaces),
    }


def merge(pipelines: Mapping[str, Any], states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One state of both pipelines, from those of all runners. {} where no connector has any.

    pipelines: they had the state that all runners began from, and have the merged one afterwards.
    """
    merged: dict[str, Any] = {}
    for name in NAMES:
        some = [state[name] for state in states if has_content(state.get(name))]
        if some:
            merged[name] = pipelines[name].merge_states(some)
            pipelines[name].set_state(merged[name])
    return merged


def has_content(state: Any) -> bool:
    """Whether a state, of dicts in dicts, has a value."""
    if isinstance(state, Mapping):
        return any(has_content(part) for part in state.values())
    return state is not None
