"""States of the connectors of many runners, brought together: statistics of observations, for example."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hpc.rllib.core import COMPONENT_ENV_TO_MODULE_CONNECTOR, COMPONENT_MODULE_TO_ENV_CONNECTOR
from hpc.rllib.utils.checkpoints import Checkpointable

NAMES = (COMPONENT_ENV_TO_MODULE_CONNECTOR, COMPONENT_MODULE_TO_ENV_CONNECTOR)


class Pipelines(Checkpointable):
    """Both pipelines, of a process that has no runner of its own; in a checkpoint they look like a runner's."""

    def __init__(self, config: Any, spaces: Mapping[str, Any]) -> None:
        self.by_name: dict[str, Any] = {
            COMPONENT_ENV_TO_MODULE_CONNECTOR: config.build_env_to_module_connector(spaces=spaces),
            COMPONENT_MODULE_TO_ENV_CONNECTOR: config.build_module_to_env_connector(spaces=spaces),
        }
        self._made_by = (config, dict(spaces))

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The state of each."""
        wanted = [name for name in self.by_name if self._check_component(name, components, not_components)]
        return {name: self.by_name[name].get_state() for name in wanted}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of each; nothing else of a runner's."""
        for name, pipeline in self.by_name.items():
            if name in state:
                pipeline.set_state(state[name])

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The configuration, and the spaces."""
        return self._made_by, {}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """Both."""
        return list(self.by_name.items())


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
