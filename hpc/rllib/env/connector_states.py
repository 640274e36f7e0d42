"""States of the connectors of many runners, brought together: statistics of observations, for example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpc.rllib.core import COMPONENT_ENV_TO_MODULE_CONNECTOR, COMPONENT_MODULE_TO_ENV_CONNECTOR


def merge(config: Any, states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One state of both pipelines, from those of all runners. {} where no connector has any."""
    merged: dict[str, Any] = {}
    for name, build in (
        (COMPONENT_ENV_TO_MODULE_CONNECTOR, "build_env_to_module_connector"),
        (COMPONENT_MODULE_TO_ENV_CONNECTOR, "build_module_to_env_connector"),
    ):
        some = [state[name] for state in states if has_content(state.get(name))]
        if some:
            merged[name] = getattr(config, build)().merge_states(some)
    return merged


def has_content(state: Any) -> bool:
    """Whether a state, of dicts in dicts, has a value."""
    if isinstance(state, Mapping):
        return any(has_content(part) for part in state.values())
    return state is not None
