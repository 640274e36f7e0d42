"""Distributions of actions over torch tensors: written out, since torch.distributions costs more than a small network.

Formulas: the squashed Gaussian's log density is that of Haarnoja et al. 2018 (Soft Actor-Critic), appendix C, with the
logarithm of the tanh's derivative in a form that does not overflow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from hpc.rllib.core.distribution.distribution import Distribution
from hpc.rllib.utils.trees import leaves, map_tree

SMALL_NUMBER = 1e-6
#: Bounds of a squashed Gaussian's log standard deviation.
MIN_LOG_STD = -5.0
MAX_LOG_STD = 2.0
HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class TorchDistribution(Distribution):
    """A distribution over torch tensors."""

    def sample_and_logp(self, *, sample_shape: Any = None) -> tuple[Any, Tensor]:
        """Draws and their log probabilities."""
        drawn = self.sample(sample_shape=sample_shape)
        return drawn, self.logp(drawn)

    def rsample_and_logp(self, *, sample_shape: Any = None) -> tuple[Any, Tensor]:
        """Draws with gradients, and their log probabilities."""
        drawn = self.rsample(sample_shape=sample_shape)
        return drawn, self.logp(drawn)

    @classmethod
    def from_logits(cls, logits: Tensor, **kwargs: Any) -> Any:
        """A distribution of what a module returned."""
        return cls(logits=logits, **kwargs)  # type: ignore[call-arg]


class TorchCategorical(TorchDistribution):
    """One of n actions, by logits or by probabilities."""

    def __init__(self, logits: Tensor | None = None, probs: Tensor | None = None) -> None:
        if (probs is None) == (logits is None):
            raise ValueError("TorchCategorical takes either logits or probs")
        self.probs = probs
        self.logits = logits
        self._log_probs: Tensor | None = None
        self._normalised: Tensor | None = None

    @property
    def normalised(self) -> Tensor:
        """Probability of each action; computed once for entropy and KL."""
        if self._normalised is None:
            self._normalised = self.log_probs.exp()
        return self._normalised

    @property
    def log_probs(self) -> Tensor:
        """Log probability of each action."""
        if self._log_probs is None:
            if self.logits is not None:
                self._log_probs = torch.log_softmax(self.logits, dim=-1)
            else:
                assert self.probs is not None
                self._log_probs = torch.log((self.probs / self.probs.sum(-1, keepdim=True)).clamp_min(1e-38))
        return self._log_probs

    def sample(self, *, sample_shape: Any = None, **kwargs: Any) -> Tensor:
        probs = self.normalised.detach()
        count = math.prod(sample_shape) if sample_shape else 1
        flat = torch.multinomial(probs.reshape(-1, probs.shape[-1]), count, replacement=True)
        return flat.T.reshape(tuple(sample_shape or ()) + probs.shape[:-1])

    def rsample(self, *, sample_shape: Any = None, **kwargs: Any) -> Tensor:
        """One-hot draws; gradients go straight through to the probabilities."""
        probs = self.normalised
        drawn = nn.functional.one_hot(self.sample(sample_shape=sample_shape), probs.shape[-1]).to(probs.dtype)
        return (drawn - probs).detach() + probs

    def logp(self, value: Tensor, **kwargs: Any) -> Tensor:
        index = value.long().unsqueeze(-1)
        log_probs = self.log_probs
        if index.dim() > log_probs.dim():
            log_probs = log_probs.expand(index.shape[:-1] + log_probs.shape[-1:])
        return log_probs.gather(-1, index).squeeze(-1)

    def entropy(self, **kwargs: Any) -> Tensor:
        return -(self.normalised * self.log_probs).sum(-1)

    def kl(self, other: Any, **kwargs: Any) -> Tensor:
        return (self.normalised * (self.log_probs - other.log_probs)).sum(-1)

    @staticmethod
    def required_input_dim(space: Any, **kwargs: Any) -> int:
        _expect(space, gym.spaces.Discrete, "TorchCategorical")
        return int(space.n)

    def to_deterministic(self) -> TorchDeterministic:
        scores = self.logits if self.probs is None else self.probs
        assert scores is not None
        return TorchDeterministic(loc=scores.argmax(dim=-1))


class TorchDiagGaussian(TorchDistribution):
    """Independent normal distributions, one per dimension of the action."""

    def __init__(self, loc: Tensor, scale: Tensor | None = None, *, log_scale: Tensor | None = None) -> None:
        self.loc = loc
        if scale is None and log_scale is None:
            raise ValueError("TorchDiagGaussian takes scale or log_scale")
        self.scale: Tensor = scale if scale is not None else log_scale.exp()  # type: ignore[union-attr]
        self.log_scale: Tensor = log_scale if log_scale is not None else torch.as_tensor(self.scale).log()

    def sample(self, *, sample_shape: Any = None, **kwargs: Any) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape=sample_shape)

    def rsample(self, *, sample_shape: Any = None, **kwargs: Any) -> Tensor:
        shape = tuple(sample_shape or ()) + tuple(self.loc.shape)
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + self.scale * noise

    def logp(self, value: Tensor, **kwargs: Any) -> Tensor:
        distance = (value - self.loc) / self.scale
        return (-0.5 * distance.square() - self.log_scale - HALF_LOG_TWO_PI).sum(-1)

    def entropy(self, **kwargs: Any) -> Tensor:
        return (self.log_scale + (0.5 + HALF_LOG_TWO_PI)).sum(-1)

    def kl(self, other: Any, **kwargs: Any) -> Tensor:
        log_ratio = self.log_scale - other.log_scale
        distance = (self.loc - other.loc) / other.scale
        return (0.5 * ((2.0 * log_ratio).exp() + distance.square() - 1.0) - log_ratio).sum(-1)

    @staticmethod
    def required_input_dim(space: Any, **kwargs: Any) -> int:
        _expect(space, gym.spaces.Box, "TorchDiagGaussian")
        return int(np.prod(space.shape, dtype=np.int32) * 2)

    @classmethod
    def from_logits(cls, logits: Tensor, **kwargs: Any) -> TorchDiagGaussian:
        loc, log_scale = logits.chunk(2, dim=-1)
        return cls(loc=loc, log_scale=log_scale)

    def to_deterministic(self) -> TorchDeterministic:
        return TorchDeterministic(loc=self.loc)


class TorchSquashedGaussian(TorchDistribution):
    """A diagonal Gaussian squashed into [low, high] by tanh."""

    def __init__(self, loc: Tensor, scale: Any = 1.0, low: float = -1.0, high: float = 1.0) -> None:
        if not np.all(np.less(low, high)):
            raise ValueError(f"low must be below high; they are {low} and {high}")
        self.loc = loc
        self.low = low
        self.high = high
        self._normal = TorchDiagGaussian(loc, torch.as_tensor(scale, dtype=loc.dtype, device=loc.device).expand_as(loc))

    def sample(self, *, sample_shape: Any = None, **kwargs: Any) -> Tensor:
        return self._squash(self._normal.sample(sample_shape=sample_shape))

    def rsample(self, *, sample_shape: Any = None, **kwargs: Any) -> Tensor:
        return self._squash(self._normal.rsample(sample_shape=sample_shape))

    def logp(self, value: Tensor, **kwargs: Any) -> Tensor:
        return self._logp_of_unsquashed(self._unsquash(value))

    def sample_and_logp(self, *, sample_shape: Any = None) -> tuple[Tensor, Tensor]:
        """Draws and their log densities, computed before the tanh: exact also where it saturates."""
        drawn = self._normal.sample(sample_shape=sample_shape)
        return self._squash(drawn), self._logp_of_unsquashed(drawn)

    def rsample_and_logp(self, *, sample_shape: Any = None) -> tuple[Tensor, Tensor]:
        """Draws with gradients and their log densities, computed before the tanh."""
        drawn = self._normal.rsample(sample_shape=sample_shape)
        return self._squash(drawn), self._logp_of_unsquashed(drawn)

    def entropy(self, **kwargs: Any) -> Tensor:
        raise ValueError("a squashed Gaussian has no entropy in closed form: estimate it by -logp of draws")

    def kl(self, other: Any, **kwargs: Any) -> Tensor:
        raise ValueError("a squashed Gaussian has no KL divergence in closed form: estimate it by draws")

    def _logp_of_unsquashed(self, unsquashed: Tensor) -> Tensor:
        slope = 2.0 * (math.log(2.0) - unsquashed - nn.functional.softplus(-2.0 * unsquashed))
        return self._normal.logp(unsquashed) - slope.sum(-1)

    def _squash(self, value: Tensor) -> Tensor:
        squashed = (torch.tanh(value) + 1.0) * 0.5 * (self.high - self.low) + self.low
        return torch.clamp(squashed, self.low, self.high)

    def _unsquash(self, value: Tensor) -> Tensor:
        unit = (value - self.low) / (self.high - self.low) * 2.0 - 1.0
        return torch.atanh(unit.clamp(-1.0 + SMALL_NUMBER, 1.0 - SMALL_NUMBER))

    @staticmethod
    def required_input_dim(space: Any, **kwargs: Any) -> int:
        _expect(space, gym.spaces.Box, "TorchSquashedGaussian")
        return int(np.prod(space.shape, dtype=np.int32) * 2)

    @classmethod
    def from_logits(cls, logits: Tensor, low: float = -1.0, high: float = 1.0, **kwargs: Any) -> TorchSquashedGaussian:
        loc, log_scale = logits.chunk(2, dim=-1)
        return cls(loc=loc, scale=log_scale.clamp(MIN_LOG_STD, MAX_LOG_STD).exp(), low=low, high=high, **kwargs)

    def to_deterministic(self) -> TorchDeterministic:
        """The squashed mean. (RLlib draws the mean before the tanh here, which lies outside of [low, high].)"""
        return TorchDeterministic(loc=self._squash(self.loc))


class TorchDeterministic(Distribution):
    """The distribution that always draws its location."""

    def __init__(self, loc: Tensor) -> None:
        self.loc = loc

    def sample(self, *, sample_shape: Any = None, **kwargs: Any) -> Tensor:
        return self.loc.expand(tuple(sample_shape or ()) + tuple(self.loc.shape)).clone()

    def rsample(self, *, sample_shape: Any = None, **kwargs: Any) -> Tensor:
        raise NotImplementedError("TorchDeterministic has no rsample: its location is what it draws")

    def logp(self, value: Tensor, **kwargs: Any) -> Tensor:
        return torch.zeros_like(self.loc)

    def entropy(self, **kwargs: Any) -> Tensor:
        raise RuntimeError("TorchDeterministic has no entropy")

    def kl(self, other: Any, **kwargs: Any) -> Tensor:
        raise RuntimeError("TorchDeterministic has no KL divergence")

    @staticmethod
    def required_input_dim(space: Any, **kwargs: Any) -> int:
        _expect(space, gym.spaces.Box, "TorchDeterministic")
        return int(np.prod(space.shape, dtype=np.int32))


class TorchMultiCategorical(Distribution):
    """Several categoricals beside each other, as a MultiDiscrete space has."""

    def __init__(self, categoricals: Sequence[TorchCategorical]) -> None:
        self._cats = list(categoricals)

    def sample(self, *, sample_shape: Any = None, **kwargs: Any) -> Tensor:
        return torch.stack([cat.sample(sample_shape=sample_shape) for cat in self._cats], dim=-1)

    def rsample(self, *, sample_shape: Any = None, **kwargs: Any) -> Tensor:
        return torch.stack([cat.rsample(sample_shape=sample_shape) for cat in self._cats], dim=-1)

    def logp(self, value: Tensor, **kwargs: Any) -> Tensor:
        return _total(cat.logp(part) for cat, part in zip(self._cats, value.unbind(dim=-1)))

    def entropy(self, **kwargs: Any) -> Tensor:
        return _total(cat.entropy() for cat in self._cats)

    def kl(self, other: Any, **kwargs: Any) -> Tensor:
        return _total(cat.kl(theirs) for cat, theirs in zip(self._cats, other._cats))

    @staticmethod
    def required_input_dim(space: Any, **kwargs: Any) -> int:
        _expect(space, gym.spaces.MultiDiscrete, "TorchMultiCategorical")
        return int(np.sum(space.nvec))

    @classmethod
    def from_logits(
        cls, logits: Tensor, input_lens: Sequence[int] = (), temperatures: Sequence[float] | None = None, **kwargs: Any
    ) -> TorchMultiCategorical:
        lens = [int(n) for n in input_lens]
        if sum(lens) != logits.shape[-1]:
            raise ValueError(f"input_lens {lens} sum up to {sum(lens)}, but there are {logits.shape[-1]} logits")
        if temperatures and len(temperatures) != len(lens):
            raise ValueError(f"there are {len(lens)} categoricals, but {len(temperatures)} temperatures")
        parts = torch.split(logits, lens, dim=-1)
        if temperatures:
            parts = tuple(part / temperature for part, temperature in zip(parts, temperatures))
        return cls(categoricals=[TorchCategorical(logits=part) for part in parts])

    def to_deterministic(self) -> TorchDeterministic:
        return TorchDeterministic(loc=torch.stack([cat.to_deterministic().loc for cat in self._cats], dim=-1))


class TorchMultiDistribution(Distribution):
    """Distributions nested as the Dict or Tuple action space that they are over."""

    def __init__(self, child_distribution_struct: Any) -> None:
        self._original_struct = _tuples(child_distribution_struct)
        self._flat_child_distributions = list(leaves(self._original_struct))

    def sample(self, *, sample_shape: Any = None, **kwargs: Any) -> Any:
        return map_tree(lambda dist: dist.sample(sample_shape=sample_shape), self._original_struct)

    def rsample(self, *, sample_shape: Any = None, **kwargs: Any) -> Any:
        return map_tree(lambda dist: dist.rsample(sample_shape=sample_shape), self._original_struct)

    def logp(self, value: Any, **kwargs: Any) -> Tensor:
        if isinstance(value, Tensor):
            return _total(dist.logp(part) for dist, part in zip(self._flat_child_distributions, self._split(value)))
        # By key, not by place: the dicts of actions may have another order than the space.
        found = map_tree(lambda dist, part: dist.logp(part), self._original_struct, _tuples(value))
        return _total(leaves(found))

    def entropy(self, **kwargs: Any) -> Tensor:
        return _total(dist.entropy() for dist in self._flat_child_distributions)

    def kl(self, other: Any, **kwargs: Any) -> Tensor:
        pairs = zip(self._flat_child_distributions, other._flat_child_distributions)
        return _total(dist.kl(theirs) for dist, theirs in pairs)

    def _split(self, value: Tensor) -> list[Tensor]:
        """Actions that stand beside each other in one tensor, by distribution."""
        widths = [_width(dist) for dist in self._flat_child_distributions]
        parts = torch.split(value, widths, dim=-1)
        return [
            part.squeeze(-1) if isinstance(dist, TorchCategorical) else part
            for dist, part in zip(self._flat_child_distributions, parts)
        ]

    @staticmethod
    def required_input_dim(space: Any, input_lens: Any = (), as_list: bool = False, **kwargs: Any) -> Any:
        return list(input_lens) if as_list else sum(input_lens)

    @classmethod
    def from_logits(
        cls, logits: Tensor, child_distribution_cls_struct: Any = (), input_lens: Any = (), **kwargs: Any
    ) -> TorchMultiDistribution:
        struct = _tuples(child_distribution_cls_struct)
        parts = iter(torch.split(logits, [int(n) for n in leaves(_tuples(input_lens))], dim=-1))
        return cls(child_distribution_struct=map_tree(lambda child: child.from_logits(next(parts)), struct))

    def to_deterministic(self) -> TorchMultiDistribution:
        return TorchMultiDistribution(map_tree(lambda dist: dist.to_deterministic(), self._original_struct))


def _total(parts: Any) -> Tensor:
    first, *others = parts
    for part in others:
        first = first + part
    return first


def _width(dist: Distribution) -> int:
    if isinstance(dist, TorchCategorical):
        return 1
    if isinstance(dist, TorchMultiCategorical):
        return len(dist._cats)
    return int(dist.loc.shape[-1])  # type: ignore[attr-defined]


def _tuples(struct: Any) -> Any:
    """The same nesting with tuples instead of lists."""
    if isinstance(struct, dict):
        return {key: _tuples(part) for key, part in struct.items()}
    if isinstance(struct, (list, tuple)):
        return tuple(_tuples(part) for part in struct)
    return struct


def _expect(space: Any, kind: type, name: str) -> None:
    if not isinstance(space, kind):
        raise ValueError(f"{name} is for {kind.__name__} action spaces, not for {space}")
