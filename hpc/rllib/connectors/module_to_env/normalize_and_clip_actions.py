"""Actions between the bounds of the environment's action space."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Acts
from hpc.rllib.core.columns import Columns
from hpc.rllib.utils.spaces.space_utils import clip_action, get_base_struct_from_space, shift_action, unsquash_action
from hpc.rllib.utils.trees import leaves


class NormalizeAndClipActions(ConnectorV2):
    """Take the module's actions as between -1 and 1 and stretch them, or clip them; the module's own are kept.

    Args:
        normalize_actions: Whether to stretch them to the space's bounds.
        clip_actions: Whether to clip them, where they are not stretched.
    """

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        normalize_actions: bool,
        clip_actions: bool,
        **kwargs: Any,
    ) -> None:
        self._action_space_struct: Any = None
        #: Whether there are discrete actions that do not begin at 0, as those of modules do.
        self._shifts = False
        self.normalize_actions = normalize_actions
        self.clip_actions = clip_actions
        super().__init__(input_observation_space, input_action_space, **kwargs)

    def recompute_output_action_space(self, input_observation_space: Any, input_action_space: Any) -> Any:
        """The same space."""
        self._action_space_struct = get_base_struct_from_space(input_action_space)
        self._shifts = any(np.any(getattr(part, "start", 0)) for part in leaves(self._action_space_struct))
        return input_action_space

    @property
    def _works(self) -> bool:
        """Whether it changes any action."""
        return self.normalize_actions or self.clip_actions or self._shifts

    def _for_env(self, action: Any, agent_id: Any) -> Any:
        struct = self._action_space_struct if agent_id is None else self._action_space_struct[agent_id]
        if self.normalize_actions:
            action = unsquash_action(action, struct)
        elif self.clip_actions:
            action = clip_action(action, struct)
        return shift_action(action, struct) if self._shifts else action

    def on_actions(self, acts: Acts) -> None:
        """Stretch or clip the actions of all environments."""
        if self._works:
            acts.for_env = self._for_env(acts.for_env, acts.agent_id)

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: Batch | None,
        episodes: list[Any],
        explore: bool | None = None,
        shared_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Add the column of actions for the environment."""
        if batch is not None and self._works:
            batch[Columns.ACTIONS_FOR_ENV] = copy.deepcopy(batch[Columns.ACTIONS])
            self.foreach_batch_item_change_in_place(
                batch, Columns.ACTIONS_FOR_ENV, lambda action, _, agent_id, __: self._for_env(action, agent_id)
            )
        return batch
