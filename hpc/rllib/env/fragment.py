"""Fragments and samples: experience as arrays over time and columns, filled in place, without an object per step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpc.rllib.core.columns import Columns
from hpc.rllib.env.single_agent_episode import SingleAgentEpisode
from hpc.rllib.utils.trees import blank, concatenate, map_tree, put, take

#: The column of masks of allowed actions.
ACTION_MASK = "action_mask"
#: Columns that have one more row than the fragment: what holds before each step, and after the last one.
WITH_LAST = (Columns.OBS, Columns.VF_PREDS, ACTION_MASK, Columns.INFOS)
#: Columns that say what a row is, and that are no data of the module.
FIRST = "first"


@dataclass
class Fragment:
    """The steps that N columns (environments, or pairs of environment and agent) made in T rows.

    Arrays are time-major: ``[T, N, ...]``, those of `WITH_LAST` ``[T + 1, N, ...]``. Row t + 1 of the observations is
    what step t led to, also where the episode ended there. The row after an end is a reset row: its action was
    ignored, its reward is 0, and its ``loss_mask`` is False. After it comes the ``first`` row of the next episode.

    To accumulate backwards (returns, advantages), stop at t where the episode ended, or where row t + 1 has no loss
    mask: the bootstrap is then the value of row t + 1, or 0 where the episode was terminated.
    """

    columns: dict[str, Any]
    rows: int
    width: int
    #: Steps that the running episode of each column had made before row 0: int64 [N].
    t_start: np.ndarray | None = None
    #: How many episodes each column had begun before row 0, that of row 0 included: int64 [N].
    number: np.ndarray | None = None
    #: What the ids of its episodes begin with; unique by runner and its restarts.
    name: str = ""
    #: For multi-agent fragments: the environment's index and the agent's id of each column.
    owners: list[tuple[int, Any]] = field(default_factory=list)

    def __getitem__(self, key: str) -> Any:
        return self.columns[key]

    def __contains__(self, key: str) -> bool:
        return key in self.columns

    def get(self, key: str, default: Any = None) -> Any:
        """A column, or the default where the fragment has none of that name."""
        return self.columns.get(key, default)

    @property
    def loss_mask(self) -> np.ndarray:
        """Where a row is a step: bool [T, N]."""
        mask: np.ndarray = self.columns[Columns.LOSS_MASK]
        return mask

    @property
    def first(self) -> np.ndarray:
        """Where a row is the first one of an episode: bool [T, N]."""
        first: np.ndarray = self.columns[FIRST]
        return first

    @property
    def dones(self) -> np.ndarray:
        """Where an episode ended by this step, terminated or truncated: bool [T, N]."""
        ends: np.ndarray = self.columns[Columns.TERMINATEDS] | self.columns[Columns.TRUNCATEDS]
        return ends

    @property
    def valid_steps(self) -> int:
        """How many rows are steps."""
        return int(np.count_nonzero(self.loss_mask))

    def __len__(self) -> int:
        return self.valid_steps

    def flat(self, keys: Iterable[str] | None = None, *, next_obs: bool = False) -> dict[str, Any]:
        """The steps as ``[B, ...]``, column by column within each row, masked rows left out.

        ``next_obs`` adds ``new_obs``, what each step led to (and ``next_action_mask`` where actions are masked). Of
        the columns of `WITH_LAST` each row has what held before its step.
        """
        mask = self.loss_mask
        whole = bool(mask.all())
        out: dict[str, Any] = {}

        def pick(leaf: np.ndarray, start: int) -> np.ndarray:
            part = leaf[start : start + self.rows]
            return part.reshape((self.rows * self.width,) + part.shape[2:]) if whole else part[mask]

        for key in self.columns if keys is None else keys:
            out[key] = map_tree(lambda leaf: pick(leaf, 0), self.columns[key])
        if next_obs:
            out[Columns.NEXT_OBS] = map_tree(lambda leaf: pick(leaf, 1), self.columns[Columns.OBS])
            if ACTION_MASK in self.columns:
                out[f"next_{ACTION_MASK}"] = pick(self.columns[ACTION_MASK], 1)
        return out

    def segments(self) -> list[tuple[int, int, int]]:
        """The pieces of episodes in it: (column, first row, row after the last step), column by column."""
        mask, first = self.loss_mask, self.first
        before = np.zeros_like(mask)
        before[1:] = mask[:-1] & ~self.dones[:-1]
        starts = mask & (first | ~before)
        after = np.zeros_like(mask)
        after[:-1] = mask[1:] & ~first[1:]
        ends = mask & (self.dones | ~after)
        start_at, end_at = np.argwhere(starts.T), np.argwhere(ends.T)
        return [(int(c), int(a), int(b) + 1) for (c, a), (_, b) in zip(start_at, end_at)]

    def episode_id(self, column: int, row: int) -> str:
        """The id of the episode that a column is in at a row."""
        base = int(self.number[column]) if self.number is not None else 0
        begun = int(np.count_nonzero(self.first[: row + 1, column]))
        if self.first[0, column]:
            begun -= 1
        place = "-".join(map(str, self.owners[column])) if self.owners else column
        return f"{self.name or id(self)}-{place}-{base + begun}"

    def episodes(self) -> list[SingleAgentEpisode]:
        """The pieces of episodes as views of these arrays: nothing is copied."""
        return [SingleAgentEpisode.of_fragment(self, *segment) for segment in self.segments()]

    @classmethod
    def of_episodes(cls, episodes: Sequence[SingleAgentEpisode]) -> Fragment:
        """One column per episode, shorter ones padded (without loss mask); an episode without a step is left out.

        Values are left out, since episodes have none of their last observations. The mask of what an episode led to
        allows all actions.

        Raises:
            ValueError: no episode has a step.
        """
        kept = [episode for episode in episodes if len(episode)]
        if not kept:
            raise ValueError("no episode has a step: a fragment needs one at least")
        pieces = [episode.columns() for episode in kept]
        lengths = [len(episode) for episode in kept]
        rows, width = max(lengths), len(kept)
        shared = [name for name in pieces[0] if all(name in piece for piece in pieces)]
        names = [name for name in shared if name != Columns.VF_PREDS]
        columns = {name: blank(pieces[0][name], (rows + (name in WITH_LAST), width), skip=1) for name in names}
        if ACTION_MASK in columns:
            columns[ACTION_MASK][:] = True
        for at, piece in enumerate(pieces):
            for name in names:
                put(columns[name], (slice(0, lengths[at] + (name == Columns.OBS)), at), piece[name])
        columns[Columns.LOSS_MASK] = np.arange(rows)[:, None] < np.array(lengths)[None, :]
        columns[FIRST] = np.zeros((rows, width), bool)
        columns[FIRST][0] = [episode.t_started == 0 for episode in kept]
        return cls(columns, rows, width, np.array([episode.t_started for episode in kept]), np.zeros(width, np.int64))

    @classmethod
    def concat(cls, fragments: Sequence[Fragment]) -> Fragment:
        """One fragment with all columns side by side; fragments with fewer rows are padded."""
        if len(fragments) == 1:
            return fragments[0]
        rows = max(fragment.rows for fragment in fragments)
        names = [name for name in fragments[0].columns if all(name in other for other in fragments)]
        padded = [fragment.padded(rows) for fragment in fragments]
        columns = {name: concatenate([one.columns[name] for one in padded], axis=1) for name in names}
        starts = np.concatenate([_counts(one.t_start, one.width) for one in fragments])
        numbers = np.concatenate([_counts(one.number, one.width) for one in fragments])
        owners = [owner for one in fragments for owner in one.owners]
        return cls(columns, rows, sum(one.width for one in fragments), starts, numbers, fragments[0].name, owners)

    def padded(self, rows: int) -> Fragment:
        """The same fragment with more rows, which are no steps."""
        if rows == self.rows:
            return self
        columns = {}
        for name, column in self.columns.items():
            last = int(name in WITH_LAST)
            columns[name] = blank(column, (rows + last, self.width), skip=2)
            put(columns[name], slice(0, self.rows + last), column)
        return Fragment(columns, rows, self.width, self.t_start, self.number, self.name, self.owners)

    def copy(self) -> Fragment:
        """A fragment with arrays of its own."""
        columns = {name: map_tree(np.array, column) for name, column in self.columns.items()}
        return Fragment(columns, self.rows, self.width, self.t_start, self.number, self.name, self.owners)

    def select(self, columns: Sequence[int]) -> Fragment:
        """A fragment of some of its columns."""
        picked = list(columns)
        arrays = {name: take(column, (slice(None), picked)) for name, column in self.columns.items()}
        starts, numbers = _counts(self.t_start, self.width)[picked], _counts(self.number, self.width)[picked]
        owners = [self.owners[i] for i in picked] if self.owners else []
        return Fragment(arrays, self.rows, len(picked), starts, numbers, self.name, owners)

    def nbytes(self) -> int:
        """Bytes of all its arrays."""
        total = 0

        def count(leaf: Any) -> Any:
            nonlocal total
            total += getattr(leaf, "nbytes", 0)
            return leaf

        for column in self.columns.values():
            map_tree(count, column)
        return total


def _counts(given: np.ndarray | None, width: int) -> np.ndarray:
    return np.zeros(width, np.int64) if given is None else np.asarray(given)


@dataclass
class EpisodeRecord:
    """A finished episode: what results say of it."""

    episode_return: float
    length: int
    seconds: float
    #: Returns by agent and by module (multi-agent; the single agent's otherwise).
    agents: dict[Any, float] = field(default_factory=dict)
    modules: dict[str, float] = field(default_factory=dict)
    agent_steps: dict[Any, int] = field(default_factory=dict)


@dataclass
class Sample:
    """What a runner returns: a fragment by module, counts, and the episodes that ended."""

    modules: dict[str, Fragment]
    env_steps: int
    #: Steps by agent.
    agent_steps: dict[Any, int] = field(default_factory=dict)
    episodes: list[EpisodeRecord] = field(default_factory=list)
    #: The sequence number of the weights that acted in its first row.
    version: int = 0
    #: Weights that came in the middle: (row, version) of each change.
    versions: list[tuple[int, int]] = field(default_factory=list)
    #: Index of the runner: 0 is the local one.
    runner: int = 0
    #: Wall seconds that the sample took.
    seconds: float = 0.0
    #: What users' callbacks and connectors logged.
    metrics: dict[str, Any] = field(default_factory=dict)
    #: Steps by module.
    module_steps: dict[str, int] = field(default_factory=dict)
    #: Sums and counts of what the runner measures of itself (seconds by part).
    timers: dict[str, float] = field(default_factory=dict)
    #: Rows of its longest fragment, of which reset rows are no steps.
    rows: int = 0
    #: Environments that were restarted, steps that failed.
    faults: dict[str, int] = field(default_factory=dict)

    def single_agent_episodes(self) -> list[SingleAgentEpisode]:
        """The pieces of episodes of all modules, as views."""
        out = []
        for module_id, fragment in self.modules.items():
            for episode in fragment.episodes():
                episode.module_id = module_id
                out.append(episode)
        return out
