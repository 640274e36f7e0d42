"""A row of connectors that is itself one."""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import nullcontext
from typing import Any

from hpc.rllib.connectors.connector_v2 import ConnectorV2
from hpc.rllib.connectors.rows import Acts, Rows

logger = logging.getLogger("hpc.rllib")


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() and i else letter.lower() for i, letter in enumerate(name))


class ConnectorPipelineV2(ConnectorV2):
    """Connectors that run one after another; pieces are added, put in between, and taken out by name or class."""

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        connectors: list[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.connectors: list[ConnectorV2] = []
        for one in connectors or []:
            if isinstance(one, tuple):
                made, args, keywords = one
                one = made(*args, **keywords)
            self.connectors.append(one)
        super().__init__(input_observation_space, input_action_space, **kwargs)

    def __len__(self) -> int:
        return len(self.connectors)

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: Any,
        episodes: list[Any],
        explore: bool | None = None,
        shared_data: dict[str, Any] | None = None,
        metrics: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Run all connectors, each on what the one before returned.

        Raises:
            ValueError: one returned something else than a dict.
        """
        shared_data = {} if shared_data is None else shared_data
        prefix = kwargs.get("metrics_prefix_key", ())

        def timed(*key: str) -> Any:
            return metrics.log_time(prefix + key) if metrics else nullcontext()

        with timed("connector_pipeline_timer"):
            for connector in self.connectors:
                with timed("timers", "connectors", _snake(type(connector).__name__)):
                    batch = connector(
                        rl_module=rl_module,
                        batch=batch,
                        episodes=episodes,
                        explore=explore,
                        shared_data=shared_data,
                        metrics=metrics,
                        data=batch,
                        **kwargs,
                    )
                if not isinstance(batch, dict):
                    raise ValueError(
                        f"`data` returned by ConnectorV2 {connector} must be a dict! You returned {batch}. Check your "
                        "(custom) connectors' `__call__()` method's return value and make sure you return the `batch` "
                        "arg passed in (either altered or unchanged)."
                    )
        return batch

    # -------------------------------------------------------------- arrays

    def on_rows(self, rows: Rows) -> None:
        """Run all connectors on what the environments gave."""
        for connector in self.connectors:
            connector.on_rows(rows)  # type: ignore[misc]

    def on_actions(self, acts: Acts) -> None:
        """Run all connectors on the module's actions."""
        for connector in self.connectors:
            connector.on_actions(acts)  # type: ignore[misc]

    # -------------------------------------------------------------- pieces

    def _find(self, name_or_class: str | type) -> int:
        for at, connector in enumerate(self.connectors):
            if name_or_class in (type(connector), type(connector).__name__):
                return at
        return -1

    def _place(self, name_or_class: str | type) -> int:
        if (at := self._find(name_or_class)) < 0:
            has = [type(connector).__name__ for connector in self.connectors]
            raise ValueError(f"Can not find connector with name or type '{name_or_class}'! The pipeline has {has}.")
        return at

    def _put(self, at: int, connector: ConnectorV2) -> None:
        self.connectors.insert(at, connector)
        self._fix_spaces(self.input_observation_space, self.input_action_space)

    def remove(self, name_or_class: str | type) -> None:
        """Take a connector out; one that is not there is logged."""
        if (at := self._find(name_or_class)) < 0:
            logger.warning("Trying to remove a non-existent connector %s.", name_or_class)
            return
        del self.connectors[at]
        self._fix_spaces(self.input_observation_space, self.input_action_space)

    def insert_before(self, name_or_class: str | type, connector: ConnectorV2) -> ConnectorV2:
        """Put a connector before another one, which is returned.

        Raises:
            ValueError: there is no such one.
        """
        at = self._place(name_or_class)
        following = self.connectors[at]
        self._put(at, connector)
        return following

    def insert_after(self, name_or_class: str | type, connector: ConnectorV2) -> ConnectorV2:
        """Put a connector after another one, which is returned.

        Raises:
            ValueError: there is no such one.
        """
        at = self._place(name_or_class)
        self._put(at + 1, connector)
        return self.connectors[at]

    def prepend(self, connector: ConnectorV2) -> None:
        """Put a connector first."""
        self._put(0, connector)

    def append(self, connector: ConnectorV2) -> None:
        """Put a connector last."""
        self._put(len(self.connectors), connector)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int):
            return self.connectors[key]
        if isinstance(key, type):
            return [connector for connector in self.connectors if isinstance(connector, key)]
        if isinstance(key, str):
            return [connector for connector in self.connectors if connector.name == key]
        raise NotImplementedError(f"Indexing ConnectorPipelineV2 by {type(key)} is currently not supported!")

    def __repr__(self, indentation: int = 0) -> str:
        inner = [connector.__str__(indentation + 4) for connector in self.connectors]
        return "\n".join([" " * indentation + type(self).__name__, *inner])

    def __str__(self, indentation: int = 0) -> str:
        return self.__repr__(indentation)

    # -------------------------------------------------------------- state

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The states of those connectors that have one, by the names of their classes."""
        out = {}
        for connector in self.connectors:
            name = type(connector).__name__
            if not self._check_component(name, components, not_components):
                continue
            state = connector.get_state(
                self._get_subcomponents(name, components),
                not_components=self._get_subcomponents(name, not_components),
                **kwargs,
            )
            if state:
                out[name] = state
        return out

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the states of connectors by the names of their classes."""
        for connector in self.connectors:
            if type(connector).__name__ in state:
                connector.set_state(state[type(connector).__name__])

    def merge_states(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        """One state from those of several runners, connector by connector."""
        out = {}
        for connector in self.connectors:
            name = type(connector).__name__
            parts = [state[name] for state in states if name in state]
            if parts:
                out[name] = connector.merge_states(parts)
        return out

    def reset_state(self) -> None:
        """Let all connectors forget what they learnt of the data."""
        for connector in self.connectors:
            connector.reset_state()

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """Its connectors, by the names of their classes."""
        return [(type(connector).__name__, connector) for connector in self.connectors]

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What makes an equal pipeline."""
        made = [(type(connector), *connector.get_ctor_args_and_kwargs()) for connector in self.connectors]
        return (self.input_observation_space, self.input_action_space), {"connectors": made}

    # -------------------------------------------------------------- spaces

    @property
    def observation_space(self) -> Any:
        """The space of observations after the last connector."""
        return self.connectors[-1].observation_space if self.connectors else self._observation_space

    @property
    def action_space(self) -> Any:
        """The space of actions after the last connector."""
        return self.connectors[-1].action_space if self.connectors else self._action_space

    def recompute_output_observation_space(self, input_observation_space: Any, input_action_space: Any) -> Any:
        """The space of observations after the last connector."""
        self._fix_spaces(input_observation_space, input_action_space)
        return self.connectors[-1].observation_space if self.connectors else input_observation_space

    def recompute_output_action_space(self, input_observation_space: Any, input_action_space: Any) -> Any:
        """The space of actions after the last connector."""
        self._fix_spaces(input_observation_space, input_action_space)
        return self.connectors[-1].action_space if self.connectors else input_action_space

    def _fix_spaces(self, observation_space: Any, action_space: Any) -> None:
        for connector in self.connectors:
            connector.input_action_space = action_space
            connector.input_observation_space = observation_space
            observation_space, action_space = connector.observation_space, connector.action_space
