"""IMPALA's loss on time-major torch tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from hpc.rllib.algorithms.impala.impala_learner import LONGER, IMPALALearner
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.learner.learner import ENTROPY_KEY
from hpc.rllib.core.learner.torch.torch_learner import TorchLearner
from hpc.rllib.math.losses import masked_mean
from hpc.rllib.math.vtrace import VTrace, vtrace
from hpc.rllib.utils.trees import map_tree


class Steps(NamedTuple):
    """What a loss needs of a minibatch: all [T, N, ...], but for the values, [T + 1, N]."""

    logits: torch.Tensor
    values: torch.Tensor
    mask: torch.Tensor
    size: torch.Tensor


class IMPALATorchLearner(IMPALALearner, TorchLearner):
    """IMPALA with torch."""

    def _minibatches(
        self, train: dict[str, Any], epochs: int, size: int | None, shuffle: bool, total: int
    ) -> Iterable[dict[str, Any]]:
        """Minibatches of whole columns: ``size`` counts steps."""
        rows = max((len(columns[Columns.LOSS_MASK]) for columns in train.values()), default=1)
        return super()._minibatches(train, epochs, None if size is None else max(1, size // rows), shuffle, total)

    def _uncompiled_update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        """One step of gradients. Modules see rows (or sequences by batch), the loss sees them time-major."""
        self._time_major = batch
        flat = {
            module_id: by_batch(rows) if Columns.STATE_IN in rows else by_row(rows) for module_id, rows in batch.items()
        }
        return super()._uncompiled_update(flat, **kwargs)

    def compute_losses(self, *, fwd_out: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """The loss of each module, by its own function if it has one."""
        self._by_row = batch
        return super().compute_losses(fwd_out=fwd_out, batch=batch)

    def _steps(self, module_id: str, batch: dict[str, Any], fwd_out: dict[str, Any]) -> Steps:
        """Outputs of the module in the order of the time-major minibatch."""
        module: Any = self.module[module_id].unwrapped()
        values = module.compute_values(batch, embeddings=fwd_out.get(Columns.EMBEDDINGS))
        logits = fwd_out[Columns.ACTION_DIST_INPUTS]
        mask = self._time_major[module_id][Columns.LOSS_MASK].float()
        return Steps(
            self._as_time(module_id, logits)[:-1], self._as_time(module_id, values), mask, mask.sum().clamp(min=1)
        )

    def _as_time(self, module_id: str, tensor: torch.Tensor) -> torch.Tensor:
        """[T + 1, N, ...] of what the module made of rows or sequences."""
        rows = self._time_major[module_id]
        if Columns.STATE_IN in rows:
            return tensor.transpose(0, 1)
        steps, width = rows[Columns.LOSS_MASK].shape
        return tensor.reshape(steps + 1, width, *tensor.shape[1:])

    def _vtrace(self, module_id: str, config: Any, steps: Steps, target_logp: torch.Tensor) -> VTrace:
        """Targets and advantages of the minibatch."""
        rows = self._time_major[module_id]
        return vtrace(
            target_logp=target_logp.detach(),
            behaviour_logp=rows[Columns.ACTION_LOGP],
            rewards=rows[Columns.REWARDS],
            values=steps.values[:-1].detach(),
            next_values=steps.values[1:].detach(),
            discounts=config.gamma * (~rows[Columns.TERMINATEDS]).float(),
            cuts=rows[Columns.TRUNCATEDS],
            mask=rows[Columns.LOSS_MASK],
            lambda_=getattr(config, "lambda_", 1.0),
            clip_rho=config.vtrace_clip_rho_threshold,
            clip_pg_rho=config.vtrace_clip_pg_rho_threshold,
        )

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """The loss of one minibatch."""
        rows = self._time_major[module_id]
        steps = self._steps(module_id, batch, fwd_out)
        kind = self.module[module_id].unwrapped().get_train_action_dist_cls()
        policy = kind.from_logits(steps.logits)
        logp = policy.logp(rows[Columns.ACTIONS])
        targets = self._vtrace(module_id, config, steps, logp)
        pi_loss = -torch.sum(logp * targets.pg_advantages * steps.mask)
        vf_loss = 0.5 * torch.sum((steps.values[:-1] - targets.vs) ** 2 * steps.mask)
        mean_entropy = masked_mean(policy.entropy(), rows[Columns.LOSS_MASK])
        mean_pi_loss, mean_vf_loss = pi_loss / steps.size, vf_loss / steps.size
        self.metrics.log_dict(
            {
                "pi_loss": pi_loss,
                "mean_pi_loss": mean_pi_loss,
                "vf_loss": vf_loss,
                "mean_vf_loss": mean_vf_loss,
                ENTROPY_KEY: mean_entropy,
            },
            key=module_id,
            window=1,
        )
        return mean_pi_loss + config.vf_loss_coeff * mean_vf_loss - self.entropy_coeff(module_id) * mean_entropy


def by_row(rows: dict[str, Any]) -> dict[str, Any]:
    """What a module without state sees: all observations, [(T + 1) * N, ...]."""
    return {name: map_tree(lambda leaf: leaf.flatten(0, 1), rows[name]) for name in LONGER if name in rows}


def by_batch(rows: dict[str, Any]) -> dict[str, Any]:
    """What a module with state sees: sequences, [N, T + 1, ...], and the states before them, [N, ...]."""
    seen = {name: map_tree(lambda leaf: leaf.transpose(0, 1), rows[name]) for name in LONGER if name in rows}
    seen[Columns.STATE_IN] = map_tree(lambda leaf: leaf[0], rows[Columns.STATE_IN])
    return seen


ImpalaTorchLearner = IMPALATorchLearner
