"""Losses as pure functions of tensors; each gives the loss to minimise and what is worth a look, all as tensors."""

from __future__ import annotations

from hpc.rllib.math.losses.common import explained_variance, masked_mean
from hpc.rllib.math.losses.cql import conservative_penalty, cql_actor_loss
from hpc.rllib.math.losses.dqn import C51Loss, DQNLoss, c51_loss, categorical_projection, dqn_loss
from hpc.rllib.math.losses.marwil import MARWILLoss, bc_loss, marwil_loss
from hpc.rllib.math.losses.ppo import PPOLoss, ppo_loss
from hpc.rllib.math.losses.sac import SACLoss, sac_continuous_loss, sac_discrete_loss

__all__ = [
    "C51Loss",
    "DQNLoss",
    "MARWILLoss",
    "PPOLoss",
    "SACLoss",
    "bc_loss",
    "c51_loss",
    "categorical_projection",
    "conservative_penalty",
    "cql_actor_loss",
    "dqn_loss",
    "explained_variance",
    "marwil_loss",
    "masked_mean",
    "ppo_loss",
    "sac_continuous_loss",
    "sac_discrete_loss",
]
