"""A connector: one step of the way from environment to module, from module to environment, or to the learner."""

from __future__ import annotations

import abc
import inspect
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np

from hpc.rllib.connectors.rows import Acts, Rows
from hpc.rllib.env.single_agent_episode import SingleAgentEpisode
from hpc.rllib.utils.checkpoints import Checkpointable
from hpc.rllib.utils.spaces.space_utils import BatchedNdArray
from hpc.rllib.utils.trees import map_tree

Batch = dict[str, Any]


def _given(self: Any) -> dict[str, Any]:
    """What the outermost constructor of a connector was called with, by name."""
    frame = inspect.currentframe()
    frame = frame.f_back if frame else None
    found: dict[str, Any] = {}
    while frame is not None and frame.f_code.co_name == "__init__" and frame.f_locals.get("self") is self:
        info = inspect.getargvalues(frame)
        found = {name: info.locals[name] for name in info.args if name != "self"}
        if info.keywords:
            found |= info.locals[info.keywords]
        frame = frame.f_back
    return found


class ConnectorV2(Checkpointable, abc.ABC):
    """Change a batch, or the episodes that it is made from.

    Subclasses write ``__call__``; it gets the episodes and returns the batch. Where all connectors of a pipeline also
    work on arrays of all environments, it builds no episodes. From environment to module that is ``on_rows(rows)``,
    back it is ``on_actions(acts)``.
    """

    #: Work on arrays; None where the connector works on episodes only.
    on_rows: Callable[[Rows], None] | None = None
    on_actions: Callable[[Acts], None] | None = None
    #: How many steps before the last one it reads of an episode: chunks of several agents' episodes keep as many.
    looks_back: int = 0

    def __init__(self, input_observation_space: Any = None, input_action_space: Any = None, **kwargs: Any) -> None:
        self._observation_space: Any = None
        self._action_space: Any = None
        self._input_observation_space: Any = None
        self._input_action_space: Any = None
        self._ctor_kwargs = _given(self)
        self.input_action_space = input_action_space
        self.input_observation_space = input_observation_space

    # -------------------------------------------------------------- to be overridden

    @abc.abstractmethod
    def __call__(
        self,
        *,
        rl_module: Any,
        batch: Batch,
        episodes: list[Any],
        explore: bool | None = None,
        shared_data: dict[str, Any] | None = None,
        metrics: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Change the batch or the episodes, and return the batch."""

    def recompute_output_observation_space(self, input_observation_space: Any, input_action_space: Any) -> Any:
        """The space of observations after this connector, from that of before it."""
        return self.input_observation_space

    def recompute_output_action_space(self, input_observation_space: Any, input_action_space: Any) -> Any:
        """The space of actions after this connector, from that of before it."""
        return self.input_action_space

    def reset_state(self) -> None:
        """Forget what was learnt of the data."""

    def merge_states(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        """One state from those of several runners."""
        return {}

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """What it learnt of the data, for checkpoints and for other runners."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take a state from `get_state` or `merge_states`."""

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What makes an equal connector."""
        return (), self._ctor_kwargs

    # -------------------------------------------------------------- spaces

    @property
    def observation_space(self) -> Any:
        """The space of observations after this connector."""
        return self._observation_space

    @property
    def action_space(self) -> Any:
        """The space of actions after this connector."""
        return self._action_space

    @property
    def input_observation_space(self) -> Any:
        """The space of observations before this connector."""
        return self._input_observation_space

    @input_observation_space.setter
    def input_observation_space(self, value: Any) -> None:
        self._input_observation_space = value
        if value is not None:
            self._observation_space = self.recompute_output_observation_space(value, self.input_action_space)

    @property
    def input_action_space(self) -> Any:
        """The space of actions before this connector."""
        return self._input_action_space

    @input_action_space.setter
    def input_action_space(self, value: Any) -> None:
        self._input_action_space = value
        if value is not None:
            self._action_space = self.recompute_output_action_space(self.input_observation_space, value)

    @property
    def name(self) -> str:
        """The name of its class."""
        return type(self).__name__

    def __str__(self, indentation: int = 0) -> str:
        return " " * indentation + type(self).__name__

    # -------------------------------------------------------------- work on episodes and batches

    @staticmethod
    def single_agent_episode_iterator(
        episodes: list[Any], agents_that_stepped_only: bool = True, zip_with_batch_column: Any = None
    ) -> Iterator[Any]:
        """All episodes of single agents in a list of episodes, perhaps with their records of a batch's column.

        Raises:
            ValueError: the column has not one record for each.
        """
        taken: dict[Any, int] = defaultdict(int)
        if not episodes:
            return
        if isinstance(episodes[0], SingleAgentEpisode):
            if zip_with_batch_column is None:
                yield from episodes
                return
            if len(zip_with_batch_column) != len(episodes):
                raise ValueError(
                    "Invalid `zip_with_batch_column` data: Must have the same length as the list of episodes "
                    f"({len(episodes)}), but has length {len(zip_with_batch_column)}!"
                )
            if isinstance(zip_with_batch_column, list):
                yield from zip(episodes, zip_with_batch_column)
                return
            for episode, (key, records) in zip(episodes, zip_with_batch_column.items()):
                assert episode.id_ == key[0], "the column's episodes are in another order"
                yield episode, records[0]
            return
        for whole in episodes:
            for agent_id in whole.get_agents_that_stepped() if agents_that_stepped_only else whole.agent_ids:
                episode = whole.agent_episodes[agent_id]
                if zip_with_batch_column is None:
                    yield episode
                    continue
                key = (episode.multi_agent_episode_id, episode.agent_id, episode.module_id)
                if len(zip_with_batch_column[key]) <= taken[key]:
                    raise ValueError(
                        "Invalid `zip_with_batch_column` data: Must structurally match the single-agent contents in "
                        "the given list of (multi-agent) episodes!"
                    )
                yield episode, zip_with_batch_column[key][taken[key]]
                taken[key] += 1

    @staticmethod
    def add_batch_item(batch: Batch, column: str, item_to_add: Any, single_agent_episode: Any = None) -> None:
        """Add one record to a column, under its episode's key where it has one.

        Raises:
            ValueError: the batch is by module already.
        """
        if single_agent_episode is None:
            batch.setdefault(column, []).append(item_to_add)
            return
        module_id = single_agent_episode.module_id
        if module_id is not None and module_id in batch:
            raise ValueError(
                "Can't call `add_batch_item` on a `batch` that is already module-major (meaning ModuleID is top-level "
                "with column names on the level thereunder)! Make sure to only call `add_batch_items` before the "
                "`AgentToModuleMapping` ConnectorV2 piece is applied."
            )
        if single_agent_episode.agent_id is not None:
            key: tuple[Any, ...] = (
                single_agent_episode.multi_agent_episode_id,
                single_agent_episode.agent_id,
                module_id,
            )
        else:
            key = (single_agent_episode.id_,)
        batch.setdefault(column, {}).setdefault(key, []).append(item_to_add)

    @staticmethod
    def add_n_batch_items(
        batch: Batch, column: str, items_to_add: Any, num_items: int, single_agent_episode: Any = None
    ) -> None:
        """Add several records to a column: a list of them, or arrays with a row for each.

        Raises:
            ValueError: the list has another length.
        """
        if isinstance(items_to_add, list):
            if len(items_to_add) != num_items:
                raise ValueError(
                    f"Mismatch between `num_items` ({num_items}) and the length of the provided list "
                    f"({len(items_to_add)}) in ConnectorV2.add_n_batch_items()!"
                )
            for item in items_to_add:
                ConnectorV2.add_batch_item(batch, column, item, single_agent_episode)
            return
        tagged = map_tree(lambda leaf: BatchedNdArray(np.asarray(leaf)), items_to_add)
        ConnectorV2.add_batch_item(batch, column, tagged, single_agent_episode)

    @staticmethod
    def foreach_batch_item_change_in_place(
        batch: Batch, column: str | list[str] | tuple[str, ...], func: Callable[..., Any]
    ) -> None:
        """Replace each record of one column, or of several at once, by what ``func(record, episode, agent, module)``
        gives.

        Raises:
            ValueError: there is no such column.
        """
        single = isinstance(column, str)
        names = [column] if isinstance(column, str) else list(column)
        if any(batch.get(name) is None for name in names):
            raise ValueError(
                f"Invalid column name(s) ({column})! One or more not found in given batch. "
                f"Found columns {list(batch.keys())}."
            )
        columns = [batch[name] for name in names]
        keys = [None] if isinstance(columns[0], list) else list(columns[0])
        for key in keys:
            episode_id, agent_id, module_id = (
                key if key is not None and len(key) == 3 else ((key or (None,))[0], None, None)
            )
            lists = columns if key is None else [one[key] for one in columns]
            for at, records in enumerate(zip(*lists)):
                result = func(records[0] if single else records, episode_id, agent_id, module_id)
                for target, new in zip(lists, (result,) if single else result):
                    target[at] = new

    @staticmethod
    def switch_batch_from_column_to_module_ids(batch: dict[str, dict[str, Any]]) -> dict[str, Batch]:
        """Make ``{module: {column: data}}`` of ``{column: {module: data}}``."""
        out: dict[str, Batch] = defaultdict(dict)
        for column, by_module in batch.items():
            for module_id, data in by_module.items():
                out[module_id][column] = data
        return dict(out)


def works_on_arrays(connector: ConnectorV2, way: str) -> bool:
    """Whether a connector does all that it does by ``on_rows`` or ``on_actions``.

    A subclass that writes another ``__call__`` (or ``preprocess``) than the class that wrote the array method does not.
    """
    parts = getattr(connector, "connectors", None)
    if parts is not None:
        return all(works_on_arrays(part, way) for part in parts)
    if getattr(connector, way, None) is None:
        return False
    for cls in type(connector).__mro__:
        if way in vars(cls):
            return True
        if "__call__" in vars(cls) or "preprocess" in vars(cls):
            return False
    return False
