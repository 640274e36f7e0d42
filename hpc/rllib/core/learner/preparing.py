"""From samples, episodes and given batches to train batches: the first part of a learner's update.

Without a learner connector of the user fragments are used as they are: no object per step or episode is made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from hpc.rllib.core import ALL_MODULES, DEFAULT_MODULE_ID, Columns
from hpc.rllib.core.learner.batches import Batch, joined, rows_in, rows_of, sequences_of
from hpc.rllib.core.masks import ACTION_MASK, NEXT_ACTION_MASK
from hpc.rllib.utils.metrics import (
    LEARNER_CONNECTOR_SUM_EPISODES_LENGTH_IN,
    LEARNER_CONNECTOR_SUM_EPISODES_LENGTH_OUT,
)
from hpc.rllib.utils.trees import leaves, map_tree, stack

DIFF_NUM_GRAD_UPDATES_VS_SAMPLER_POLICY = "diff_num_grad_updates_vs_sampler_policy"
#: Columns of a connector's batch that say how it is cut, or that fragments have by themselves.
_NOT_OF_STEPS = (
    Columns.LOSS_MASK,
    Columns.SEQ_LENS,
    Columns.STATE_IN,
    Columns.STATE_OUT,
    Columns.INFOS,
    Columns.VF_PREDS,
)
#: Columns of fragments that no train batch has.
_LEFT_OUT = (Columns.INFOS, "first")


class Preparing:
    """How a learner makes its train batch. Algorithms override `postprocess_fragment` and `postprocess_batch`."""

    #: How fragments become batches: "rows" [B, ...], "sequences" [B, L, ...] or "fragments" [T, N, ...], side by side.
    #: Stateful modules get sequences for rows.
    batch_layout = "rows"

    config: Any
    module: Any
    metrics: Any
    _weights_seq_no: int

    def prepare(
        self, samples: Sequence[Any] | None = None, *, episodes: Sequence[Any] | None = None
    ) -> dict[str, Batch]:
        """The train batch of samples or episodes, as tensors by module id, without modules that are not trained."""
        return self._prepared(self._fragments(samples, episodes))

    def postprocess_fragment(self, module_id: str, fragment: Any, config: Any) -> dict[str, Any]:
        """Time-major columns [T, N, ...] of a fragment: override to add advantages and the like.

        The base gives all columns, what each step led to as ``new_obs`` (and ``next_action_mask``), and ``loss_mask``.
        """
        rows = fragment.rows
        columns: dict[str, Any] = {}
        for name, column in fragment.columns.items():
            if name not in _LEFT_OUT:
                columns[name] = map_tree(lambda leaf: leaf[:rows], column)
        columns[Columns.NEXT_OBS] = map_tree(lambda leaf: leaf[1 : rows + 1], fragment[Columns.OBS])
        if ACTION_MASK in fragment:
            columns[NEXT_ACTION_MASK] = map_tree(lambda leaf: leaf[1 : rows + 1], fragment[ACTION_MASK])
        return columns

    def postprocess_batch(self, module_id: str, batch: Batch, config: Any) -> Batch:
        """The whole train batch of a module, as tensors: override to standardise columns and the like."""
        return batch

    def kept_columns(self, module_id: str) -> set[str]:
        """Columns of `postprocess_fragment` that those of a learner connector do not replace."""
        return set()

    def layout_of(self, module_id: str) -> str:
        """How a module's fragments become batches."""
        if self.batch_layout == "rows" and self.module[module_id].is_stateful():
            return "sequences"
        return self.batch_layout

    # the parts

    def _train_batch(
        self,
        samples: Sequence[Any] | None,
        batch: dict[str, Batch] | None,
        episodes: Sequence[Any] | None,
    ) -> tuple[dict[str, Batch], int]:
        """The train batch, and how many steps of environments it covers."""
        if sum(given is not None for given in (samples, batch, episodes)) != 1:
            raise ValueError("Learner.update takes either samples, or a batch, or episodes")
        if batch is not None:
            prepared = self._given(batch)
            steps = max((self._count(rows) for rows in prepared.values()), default=0)  # type: ignore[attr-defined]
            return prepared, steps
        prepared = self.prepare(samples, episodes=episodes)
        if samples is not None:
            self._log_staleness(samples)
            return prepared, sum(sample.env_steps for sample in samples)
        return prepared, sum(len(episode) for episode in episodes or ())

    def _given(self, batch: dict[str, Batch]) -> dict[str, Batch]:
        batch = getattr(batch, "policy_batches", batch)
        unknown = sorted(set(batch) - set(self.module.keys()))
        if unknown:
            raise ValueError(
                f"the batch has modules {unknown} that this learner does not have: {sorted(self.module.keys())}"
            )
        return {name: self._tensors(rows) for name, rows in batch.items() if self._trains(name, batch)}

    def _trains(self, module_id: str, batch: Any) -> bool:
        compatible = self.rl_module_is_compatible(self.module[module_id].unwrapped())  # type: ignore[attr-defined]
        return compatible and self.should_module_be_updated(module_id, batch)  # type: ignore[attr-defined]

    def _fragments(self, samples: Sequence[Any] | None, episodes: Sequence[Any] | None) -> dict[str, list[Any]]:
        """Fragments by module, with a connector's columns among theirs if the user gave one."""
        if samples is not None and self._connects:
            episodes = [episode for sample in samples for episode in sample.single_agent_episodes()]
        by_module: dict[str, list[Any]] = defaultdict(list)
        if episodes is None:
            for sample in samples or ():
                for module_id, fragment in sample.modules.items():
                    if fragment.valid_steps:
                        by_module[module_id].append(fragment)
            return by_module
        for episode in single_agent_episodes(episodes):
            if len(episode):
                by_module[getattr(episode, "module_id", None) or DEFAULT_MODULE_ID].append(episode)
        made: dict[str, list[Any]] = {name: [self._of_episodes(name, some)] for name, some in by_module.items()}
        if self._connects:
            self._connected = self._connect([one for some in by_module.values() for one in some])
            # A connector may have changed the episodes, as their rewards.
            made = {name: [self._of_episodes(name, some)] for name, some in by_module.items()}
        return made

    def _of_episodes(self, module_id: str, episodes: list[Any]) -> Any:
        """A fragment of episodes, with the states before their steps: they tell those after them."""
        from hpc.rllib.env.fragment import Fragment

        fragment = Fragment.of_episodes(episodes)
        after = fragment.columns.pop(Columns.STATE_OUT, None)
        if after is not None and Columns.STATE_IN not in fragment and module_id in self.module:
            initial = map_tree(np.asarray, self.module[module_id].unwrapped().get_initial_state())
            firsts = [_state_before(episode, initial) for episode in episodes]
            fragment.columns[Columns.STATE_IN] = map_tree(
                lambda leaf, first: np.concatenate([first[None].astype(leaf.dtype), leaf[:-1]]), after, stack(firsts)
            )
        return fragment

    @property
    def connected_columns(self) -> dict[str, list[str]]:
        """Where fragments stay as they are, by module: columns of them that the user's connector has added."""
        if self._connected_columns is None:
            self._connected_columns = {}
        return self._connected_columns

    _connected_columns: dict[str, list[str]] | None = None
    #: What the user's learner connector made of the episodes of this update, by module.
    _connected: dict[str, Batch] | None = None

    def _connect(self, episodes: list[Any]) -> dict[str, Batch]:
        """Run the learner connector pipeline on episodes."""
        pipeline = self._learner_connector
        steps = sum(len(episode) for episode in episodes)
        self.metrics.log_value((ALL_MODULES, LEARNER_CONNECTOR_SUM_EPISODES_LENGTH_IN), steps)
        with _names_apart(episodes):
            out = pipeline(
                rl_module=self.module, batch={}, episodes=episodes, explore=None, shared_data={}, metrics=self.metrics
            )
        steps = sum(len(episode) for episode in episodes)
        self.metrics.log_value((ALL_MODULES, LEARNER_CONNECTOR_SUM_EPISODES_LENGTH_OUT), steps)
        return out

    #: The pipeline, once something asked for it.
    _pipeline: Any = None

    @property
    def _learner_connector(self) -> Any:
        """The learner connector pipeline, under RLlib's name: learners of users add pieces to it in ``build``."""
        if self._pipeline is None:
            self._pipeline = self.config.build_learner_connector(
                input_observation_space=None, input_action_space=None, device=getattr(self, "device", None)
            )
        return self._pipeline

    @_learner_connector.setter
    def _learner_connector(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    @property
    def _connects(self) -> bool:
        """Whether a pipeline of the user works on episodes: without one, no episode is made of a fragment."""
        return self._pipeline is not None or getattr(self.config, "_learner_connector", None) is not None

    def _prepared(self, fragments: dict[str, list[Any]]) -> dict[str, Batch]:
        connected, self._connected = self._connected, None
        prepared = {}
        for module_id, several in fragments.items():
            if module_id not in self.module:
                continue
            if not self._trains(module_id, fragments):
                continue
            config = self.config.get_config_for_module(module_id)
            layout = self.layout_of(module_id)
            if connected is not None and layout == "fragments":
                self.connected_columns[module_id] = _take_columns(module_id, several[0], connected.get(module_id, {}))
            elif connected is not None:
                # Advantages and the like are of the rewards that the connector made, say by adding to them.
                _take_rewards(several[0], connected.get(module_id, {}))
            parts = [self._laid_out(module_id, one, config, layout, connected is not None) for one in several]
            batch = joined(parts, axis=1 if layout == "fragments" else 0)
            if connected is not None and layout != "fragments":
                kept = self.kept_columns(module_id)
                given = {name: one for name, one in connected.get(module_id, {}).items() if name not in kept}
                batch = _with_connected(module_id, batch, given)
            prepared[module_id] = self.postprocess_batch(module_id, self._tensors(batch), config)
        for module_id, columns in (connected or {}).items():
            # Modules without an agent, as one that makes rewards of its own, have what the connector gave them.
            if module_id not in fragments and module_id in self.module and self._trains(module_id, connected):
                prepared[module_id] = self._tensors(columns)
        return prepared

    def _laid_out(self, module_id: str, fragment: Any, config: Any, layout: str, by_column: bool) -> Batch:
        columns = self.postprocess_fragment(module_id, fragment, config)
        if layout == "fragments":
            return columns
        if layout == "sequences":
            length = self.module[module_id].unwrapped().model_config.get("max_seq_len", 20)
            return sequences_of(columns, fragment.segments(), length)
        return rows_of(columns, by_column=by_column)

    def _tensors(self, batch: Batch) -> Batch:
        raise NotImplementedError

    def _log_staleness(self, samples: Sequence[Any]) -> None:
        """How many updates the weights that acted were behind, on average over steps."""
        by_module: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for sample in samples:
            for module_id, fragment in sample.modules.items():
                by_module[module_id].append((self._weights_seq_no - sample.version, fragment.valid_steps))
        for module_id, several in by_module.items():
            steps = sum(count for _, count in several)
            if module_id in self.module and steps:
                behind = sum(updates * count for updates, count in several) / steps
                self.metrics.log_value((module_id, DIFF_NUM_GRAD_UPDATES_VS_SAMPLER_POLICY), behind, window=1)


def _take_rewards(fragment: Any, connected: Batch) -> None:
    """Have the rewards of a connector, in the order of episodes, in the fragment that was made of these."""
    rewards = connected.get(Columns.REWARDS)
    if rewards is None:
        return
    rewards = rewards.detach().cpu().numpy() if hasattr(rewards, "detach") else np.asarray(rewards)
    mask = connected.get(Columns.LOSS_MASK)
    if rewards.ndim > 1 and mask is not None:
        rewards = rewards[np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask, bool)]
    if rewards.shape == (fragment.valid_steps,):
        taken = np.zeros_like(fragment[Columns.REWARDS])
        taken.T[fragment.loss_mask.T] = rewards
        fragment.columns[Columns.REWARDS] = taken


def _take_columns(module_id: str, fragment: Any, connected: Batch) -> list[str]:
    """Have all columns of a connector, in the order of episodes, in the fragment that was made of these. Returns the
    names of those that it had not.

    Raises ValueError for columns with other rows than the episodes have, and for other observations: what episodes led
    to is not among those."""
    mask = connected.get(Columns.LOSS_MASK)
    inside = None if mask is None else np.asarray(_array(mask), bool)
    added = []
    for name, column in connected.items():
        if column is None or name in _NOT_OF_STEPS:
            continue
        rows = map_tree(lambda leaf: _valid_rows(_array(leaf), inside), column)
        count = rows_in({name: rows})
        if count != fragment.valid_steps:
            raise ValueError(
                f"the learner connector made {count} rows of column {name!r} for module {module_id!r}, but its "
                f"episodes have {fragment.valid_steps}: a connector must keep one row for each step"
            )
        if name == Columns.OBS:
            _check_observations(module_id, fragment, rows)
            continue
        if name not in fragment:
            added.append(name)
        longer = int(name == ACTION_MASK)
        fragment.columns[name] = map_tree(lambda leaf, longer=longer: _time_major(fragment, leaf, longer), rows)
    return added


def _array(leaf: Any) -> np.ndarray:
    return leaf.detach().cpu().numpy() if hasattr(leaf, "detach") else np.asarray(leaf)


def _valid_rows(leaf: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    """The steps of a column that is cut into padded sequences, or is not."""
    padded = inside is not None and inside.ndim == 2 and leaf.shape[:2] == inside.shape
    return leaf[inside] if padded else leaf


def _time_major(fragment: Any, rows: np.ndarray, longer: int) -> np.ndarray:
    """Rows of episodes at their places [T, N, ...]; for masks of actions one row longer, which allows everything."""
    made = np.zeros((fragment.rows + longer, fragment.width, *rows.shape[1:]), rows.dtype)
    if longer:
        made[:] = True
    made[: fragment.rows].swapaxes(0, 1)[fragment.loss_mask.T] = rows
    return made


def _check_observations(module_id: str, fragment: Any, rows: Any) -> None:
    own = map_tree(lambda leaf: leaf[:-1].swapaxes(0, 1)[fragment.loss_mask.T], fragment[Columns.OBS])
    pairs = zip(leaves(own), leaves(rows))
    if all(a.shape == b.shape and np.array_equal(a, b.astype(a.dtype)) for a, b in pairs):
        return
    raise ValueError(
        f"the learner connector changed the observations of module {module_id!r} in the batch, which has none of what "
        "the last steps led to: change them in the episodes (set_observations), or by an env-to-module connector"
    )


def _state_before(episode: Any, initial: Any) -> Any:
    """The state before an episode's first step: that after the step which it looks back at, or the initial one."""
    column = episode.extra_model_outputs[Columns.STATE_OUT]
    if not column.lookback:
        return initial
    return map_tree(np.asarray, column.get(-1, neg_index_as_lookback=True))


def single_agent_episodes(episodes: Sequence[Any]) -> list[Any]:
    """Episodes of single agents; of a multi-agent episode those of its agents."""
    singles: list[Any] = []
    for episode in episodes:
        agents = getattr(episode, "agent_episodes", None)
        singles.extend(agents.values() if agents is not None else [episode])
    return singles


@contextmanager
def _names_apart(episodes: Sequence[Any]) -> Iterator[None]:
    """Chunks of one episode have names of their own within: connectors keep records by these."""
    names = [(one, one.id_, one.multi_agent_episode_id) for one in episodes]
    met: dict[Any, int] = defaultdict(int)
    for one, name, whole in names:
        key = name if one.agent_id is None else (whole, one.agent_id, one.module_id)
        if met[key]:
            one.id_ = f"{name}_{met[key]}"
            one.multi_agent_episode_id = whole if whole is None else f"{whole}_{met[key]}"
        met[key] += 1
    try:
        yield
    finally:
        for one, name, whole in names:
            one.id_, one.multi_agent_episode_id = name, whole


def _with_connected(module_id: str, batch: Batch, connected: Batch) -> Batch:
    """A batch with the columns of the user's connector in place of its own."""
    rows = rows_in(batch)
    for name, column in connected.items():
        count = rows_in({name: column}) if column is not None else rows
        if count != rows:
            raise ValueError(
                f"the learner connector made {count} rows of column {name!r} for module {module_id!r}, but its "
                f"episodes have {rows}: a connector must keep one row for each step"
            )
    return {**batch, **{name: column for name, column in connected.items() if name not in _LEFT_OUT}}
