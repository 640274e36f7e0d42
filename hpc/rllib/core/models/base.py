"""What every part of a default module is: a Model; and the names of an encoder's outputs."""

from __future__ import annotations

import abc
from typing import Any

from hpc.rllib.core.columns import Columns

ENCODER_OUT = "encoder_out"
ACTOR = "actor"
CRITIC = "critic"


class Model(abc.ABC):
    """A part of a module, built from its settings."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def get_initial_state(self) -> dict[str, Any]:
        """The state before the first step, without a batch axis; {} without recurrence."""
        return {}

    @abc.abstractmethod
    def _forward(self, inputs: Any, **kwargs: Any) -> Any:
        """What it computes of its inputs."""

    @abc.abstractmethod
    def get_num_parameters(self) -> tuple[int, int]:
        """Counts of (trained, frozen) parameters."""


class Encoder(Model):
    """A model from batches (``obs``, ``state_in``) to ``{ENCODER_OUT: ..., "state_out": ...}``."""


class ActorCriticEncoder(Encoder):
    """An encoder with outputs for the actor and for the critic, of one network or of two."""


class StatefulActorCriticEncoder(ActorCriticEncoder):
    """An actor-critic encoder with recurrent networks."""


def tokenize(tokenizer: Any, inputs: dict[str, Any], framework: str = "torch") -> Any:
    """An encoder's features [B, T, d] of observations [B, T, ...]: it sees them as one batch."""
    obs = inputs[Columns.OBS]
    batch, length = obs.shape[:2]
    folded = tokenizer({Columns.OBS: obs.reshape(batch * length, *obs.shape[2:])})[ENCODER_OUT]
    return folded.reshape(batch, length, *folded.shape[1:])
