"""RLlib's path of DQN's default module, and the names of its outputs."""

from __future__ import annotations

from hpc.rllib.core.default_modules.dqn import (
    ATOMS,
    QF_LOGITS,
    QF_NEXT_PREDS,
    QF_PREDS,
    QF_PROBS,
    QF_TARGET_NEXT_PREDS,
    QF_TARGET_NEXT_PROBS,
    DefaultDQNRLModule,
)

__all__ = [
    "ATOMS",
    "DefaultDQNRLModule",
    "QF_LOGITS",
    "QF_NEXT_PREDS",
    "QF_PREDS",
    "QF_PROBS",
    "QF_TARGET_NEXT_PREDS",
    "QF_TARGET_NEXT_PROBS",
]
