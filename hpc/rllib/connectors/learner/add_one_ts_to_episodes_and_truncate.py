"""Episodes with one more step, at which a value function finds what they led to."""

from __future__ import annotations

from typing import Any

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.core.columns import Columns


class AddOneTsToEpisodesAndTruncate(ConnectorV2):
    """Add a step to each episode, which no loss counts: its observation is the last one, its reward 0.

    A learner of this package needs it not, since fragments hold the last observations. It is for pipelines of users.
    """

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: Batch,
        episodes: list[Any],
        explore: bool | None = None,
        shared_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Add the steps, and the columns of the loss mask and of the ends."""
        for at, whole in enumerate(episodes):
            if hasattr(whole, "agent_episodes"):
                whole.id_ = f"{whole.id_}_{at}"
                for episode in whole.agent_episodes.values():
                    episode.multi_agent_episode_id = whole.id_
        for at, episode in enumerate(self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False)):
            episode.id_ = f"{episode.id_}_{at}"
            steps = len(episode)
            ends = bool(episode.is_terminated), bool(episode.is_truncated)
            add_one_ts(episode)
            flags = [False] * (steps - 1)
            columns = {
                Columns.LOSS_MASK: [True] * steps + [False],
                Columns.TERMINATEDS: [*flags, ends[0], False],
                Columns.TRUNCATEDS: [*flags, ends[1], False],
            }
            for column, records in columns.items():
                self.add_n_batch_items(batch, column, records, steps + 1, episode)
        if shared_data is not None:
            shared_data["_added_loss_mask_for_valid_episode_ts"] = True
        return batch


def add_one_ts(episode: Any) -> None:
    """Repeat the last observation, action and outputs of an episode as one more step with reward 0."""
    episode.observations.append(episode.get_observations(-1))
    episode.infos.append({})
    episode.actions.append(episode.get_actions(-1))
    episode.rewards.append(0.0)
    for column in episode.extra_model_outputs.values():
        column.append(column.get(-1))
    episode.t += 1
    episode.is_terminated, episode.is_truncated = False, True
    episode.validate()
