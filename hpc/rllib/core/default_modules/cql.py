"""The default module of CQL: SAC's, which also values random and resampled actions (Kumar et al. 2020).

All of them are valued at the batch's observations, and random ones are drawn where the policy's actions are, in
[-1, 1]. RLlib values the policy's next actions at the next observations, and draws from the environment's space.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hpc.rllib.core.columns import Columns
from hpc.rllib.core.default_modules.sac import QF_PREDS, QF_TWIN_PREDS, DefaultSACTorchRLModule
from hpc.rllib.utils.trees import map_tree


class DefaultCQLTorchRLModule(DefaultSACTorchRLModule):
    """SAC's module with the Q-values that the conservative loss needs: ``num_actions`` of each kind per observation."""

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        out = super()._forward_train(batch, **kwargs)
        obs, count = batch[Columns.OBS], self.model_config["num_actions"]
        size = int(np.prod(self.action_space.shape))
        drawn = 2.0 * torch.rand((obs.shape[0] * count, size), device=obs.device) - 1.0
        valued = {
            "rand": self._valued(obs, count, drawn),
            "curr": self._valued(obs, count),
            "next": self._valued(obs, count, acts_at=batch[Columns.NEXT_OBS]),
        }
        for kind, values in valued.items():
            out[f"actions_{kind}_repeat"] = values[Columns.ACTIONS]
            out[f"q_{kind}_repeat"] = values[QF_PREDS]
            if Columns.ACTION_LOGP in values:
                out[f"logps_{kind}_repeat"] = values[Columns.ACTION_LOGP]
            if self.twin_q:
                out[f"q_twin_{kind}_repeat"] = values[QF_TWIN_PREDS]
        return out

    def _valued(self, obs: Any, count: int, actions: Any = None, acts_at: Any = None) -> dict[str, Any]:
        """Q-values [B, count, 1] of actions given, or drawn by the policy; it gets no gradient of them.

        acts_at: the observations at which the policy draws; None: those that are valued.
        """
        batch_size = obs.shape[0]

        def repeated(nested: Any) -> Any:
            return map_tree(lambda leaf: leaf.repeat_interleave(count, dim=0), nested)

        out: dict[str, Any] = {}
        if actions is None:
            with torch.no_grad():
                inputs = self._policy(repeated(obs if acts_at is None else acts_at))
                actions, logp = self.get_train_action_dist_cls().from_logits(inputs).sample_and_logp()
            out[Columns.ACTION_LOGP] = logp.view(batch_size, count, 1)
        out[Columns.ACTIONS] = actions
        batch = {Columns.OBS: repeated(obs), Columns.ACTIONS: actions}
        out[QF_PREDS] = self._qf_forward_train_helper(batch, self.qf_encoder, self.qf).view(batch_size, count, 1)
        if self.twin_q:
            twin = self._qf_forward_train_helper(batch, self.qf_twin_encoder, self.qf_twin)
            out[QF_TWIN_PREDS] = twin.view(batch_size, count, 1)
        return out
