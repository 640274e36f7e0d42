"""Episode objects beside the arrays: for callbacks, for connectors that work on episodes, and for ``sample``."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.env.single_agent_episode import SingleAgentEpisode
from hpc.rllib.utils.metrics import WEIGHTS_SEQ_NO
from hpc.rllib.utils.spaces.space_utils import unbatch
from hpc.rllib.utils.trees import map_tree, take


def infos_by_env(env: Any, infos: Any, width: int) -> list[dict[str, Any]]:
    """One dict of infos for each environment, of what a vector environment returned."""
    own = getattr(env, "infos_by_env", None)
    if own is not None:
        return list(own)
    out: list[dict[str, Any]] = [{} for _ in range(width)]
    for key, value in (infos or {}).items():
        if key.startswith("_"):
            continue
        there = infos.get(f"_{key}")
        for at in range(width):
            if there is not None and not np.all(there[at]):
                continue
            try:
                out[at][key] = take(value, at)
            except (TypeError, IndexError, KeyError):
                out[at][key] = value
    return out


class LiveEpisodes:
    """The running episode of each environment as an object, with what came raw from the environment."""

    def __init__(
        self, width: int, observation_space: Any, action_space: Any, lookback: int, keeps_chunks: bool = True
    ) -> None:
        self.running: list[SingleAgentEpisode] = []
        #: Chunks of running episodes that were cut before, by id: callbacks get them.
        self.earlier: dict[str, list[SingleAgentEpisode]] = {}
        self._width = width
        self._spaces = {"observation_space": observation_space, "action_space": action_space}
        self._lookback = lookback
        self._keeps_chunks = keeps_chunks

    def new(self, at: int, name: str) -> SingleAgentEpisode:
        """Begin an episode in one environment, without its first observation yet."""
        episode = SingleAgentEpisode(name, **self._spaces)
        if at < len(self.running):
            self.earlier.pop(self.running[at].id_, None)
            self.running[at] = episode
        else:
            self.running.append(episode)
        return episode

    def new_all(self, names: list[str]) -> None:
        """Begin an episode everywhere."""
        self.running, self.earlier = [], {}
        for at, name in enumerate(names):
            self.new(at, name)

    def resume(self, names: list[str], steps: np.ndarray, observations: Any, infos: list[dict[str, Any]]) -> None:
        """Take up episodes in their middle: their observations of now begin a chunk."""
        self.running, self.earlier = [], {}
        for at, (name, observation) in enumerate(zip(names, unbatch(observations))):
            episode = SingleAgentEpisode(
                name,
                observations=[_own(observation)],
                infos=[infos[at]],
                t_started=int(steps[at]),
                len_lookback_buffer=0,
                **self._spaces,
            )
            self.running.append(episode)

    def first(self, at: int, observation: Any, infos: dict[str, Any]) -> None:
        """Add the observation that an episode begins with."""
        self.running[at].add_env_reset(_own(observation), infos)

    def step(
        self,
        at: int,
        observation: Any,
        infos: dict[str, Any],
        action: Any,
        reward: float,
        terminated: bool,
        truncated: bool,
        outputs: dict[str, Any],
        version: int,
    ) -> None:
        """Add a step to one episode."""
        extra = {name: take(value, at) for name, value in outputs.items()}
        extra[WEIGHTS_SEQ_NO] = version
        self.running[at].add_env_step(
            _own(observation),
            take(action, at),
            reward,
            infos,
            terminated=terminated,
            truncated=truncated,
            extra_model_outputs=extra,
        )

    def cut(self) -> list[SingleAgentEpisode]:
        """Chunks of all running episodes; what follows goes into new ones."""
        done = []
        for at, episode in enumerate(self.running):
            self.running[at] = episode.cut(self._lookback) if episode.is_reset else episode
            if len(episode):
                if self._keeps_chunks:
                    self.earlier.setdefault(episode.id_, []).append(episode)
                done.append(episode)
        return done


def _own(observation: Any) -> Any:
    """A record of its own: the environment writes over its arrays."""
    return map_tree(lambda leaf: np.array(leaf) if isinstance(leaf, np.ndarray) else leaf, observation)
