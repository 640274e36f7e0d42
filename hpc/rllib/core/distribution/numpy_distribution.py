"""Distributions of actions in numpy, for acting: each draws by the generator that it is given.

A draw and its log probability come of one call on a batch of ``action_dist_inputs`` [N, k].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpc.rllib.core.distribution.torch.torch_distribution import (
    HALF_LOG_TWO_PI,
    MAX_LOG_STD,
    MIN_LOG_STD,
    TorchCategorical,
    TorchDeterministic,
    TorchDiagGaussian,
    TorchMultiCategorical,
    TorchMultiDistribution,
    TorchSquashedGaussian,
)
from hpc.rllib.utils.trees import leaves, map_tree


@dataclass(frozen=True)
class NumpyCategorical:
    """One of n actions, by logits."""

    def draw(self, logits: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Actions [N] and their log probabilities [N]."""
        shifted = logits - logits.max(axis=-1, keepdims=True)
        weights = np.exp(shifted)
        cumulative = np.cumsum(weights, axis=-1)
        total = cumulative[..., -1]
        # Strictly below: an action of weight 0 is never drawn, since a draw lies in [0, total).
        drawn = rng.random(total.shape, dtype=np.float32).astype(cumulative.dtype) * total
        actions = (cumulative <= drawn[..., None]).sum(axis=-1)
        # Rounding may let a draw reach the total: the last action that has a weight is meant.
        last = logits.shape[-1] - 1 - np.argmax(weights[..., ::-1] > 0, axis=-1)
        actions = np.minimum(actions, last)
        picked = np.take_along_axis(shifted, actions[..., None], axis=-1)[..., 0]
        return actions, (picked - np.log(total)).astype(np.float32)

    def best(self, logits: np.ndarray) -> np.ndarray:
        """The most likely actions."""
        return logits.argmax(axis=-1)

    def logp(self, logits: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Log probabilities of actions."""
        shifted = logits - logits.max(axis=-1, keepdims=True)
        picked = np.take_along_axis(shifted, actions[..., None].astype(np.int64), axis=-1)[..., 0]
        return picked - np.log(np.exp(shifted).sum(axis=-1))


@dataclass(frozen=True)
class NumpyMultiCategorical:
    """Several categoricals beside each other."""

    lens: tuple[int, ...]

    def _parts(self, logits: np.ndarray) -> list[np.ndarray]:
        return np.split(logits, np.cumsum(self.lens)[:-1], axis=-1)

    def draw(self, logits: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Actions [N, d] and their log probabilities [N]."""
        drawn = [NumpyCategorical().draw(part, rng) for part in self._parts(logits)]
        return np.stack([actions for actions, _ in drawn], axis=-1), np.sum([logp for _, logp in drawn], axis=0)

    def best(self, logits: np.ndarray) -> np.ndarray:
        """The most likely actions."""
        return np.stack([part.argmax(axis=-1) for part in self._parts(logits)], axis=-1)

    def logp(self, logits: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Log probabilities of actions."""
        parts = self._parts(logits)
        return np.sum([NumpyCategorical().logp(part, actions[..., i]) for i, part in enumerate(parts)], axis=0)


@dataclass(frozen=True)
class NumpyDiagGaussian:
    """Independent normal distributions."""

    def draw(self, logits: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Actions [N, d] and their log densities [N]."""
        loc, log_scale = np.split(logits, 2, axis=-1)
        noise = rng.standard_normal(loc.shape, dtype=np.float32)
        return loc + np.exp(log_scale) * noise, _normal_logp(noise, log_scale)

    def best(self, logits: np.ndarray) -> np.ndarray:
        """The means."""
        return np.split(logits, 2, axis=-1)[0].copy()

    def logp(self, logits: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Log densities of actions."""
        loc, log_scale = np.split(logits, 2, axis=-1)
        return _normal_logp((actions - loc) * np.exp(-log_scale), log_scale)


@dataclass(frozen=True)
class NumpySquashedGaussian:
    """A diagonal Gaussian squashed into [-1, 1] by tanh."""

    def draw(self, logits: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Actions [N, d] and their log densities [N], computed before the tanh."""
        loc, log_scale = np.split(logits, 2, axis=-1)
        log_scale = log_scale.clip(MIN_LOG_STD, MAX_LOG_STD)
        noise = rng.standard_normal(loc.shape, dtype=np.float32)
        inner = loc + np.exp(log_scale) * noise
        return np.tanh(inner), _normal_logp(noise, log_scale) - _log_slope(inner)

    def best(self, logits: np.ndarray) -> np.ndarray:
        """The squashed means."""
        return np.tanh(np.split(logits, 2, axis=-1)[0])

    def logp(self, logits: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Log densities of actions."""
        loc, log_scale = np.split(logits, 2, axis=-1)
        log_scale = log_scale.clip(MIN_LOG_STD, MAX_LOG_STD)
        inner = np.arctanh(actions.clip(-1.0 + 1e-6, 1.0 - 1e-6))
        return _normal_logp((inner - loc) * np.exp(-log_scale), log_scale) - _log_slope(inner)


@dataclass(frozen=True)
class NumpyMulti:
    """Distributions nested as the action space that they are over."""

    struct: Any
    lens: tuple[int, ...]

    def draw(self, logits: np.ndarray, rng: np.random.Generator) -> tuple[Any, np.ndarray]:
        """Nested actions and their log probabilities [N]."""
        total = np.zeros(logits.shape[:-1], np.float32)
        parts = iter(np.split(logits, np.cumsum(self.lens)[:-1], axis=-1))

        def one(child: Any) -> np.ndarray:
            actions, logp = child.draw(next(parts), rng)
            np.add(total, logp, out=total)
            return actions

        return map_tree(one, self.struct), total

    def best(self, logits: np.ndarray) -> Any:
        """The most likely actions."""
        parts = iter(np.split(logits, np.cumsum(self.lens)[:-1], axis=-1))
        return map_tree(lambda child: child.best(next(parts)), self.struct)

    def logp(self, logits: np.ndarray, actions: Any) -> np.ndarray:
        """Log probabilities of nested actions."""
        parts = iter(np.split(logits, np.cumsum(self.lens)[:-1], axis=-1))
        found = map_tree(lambda child, action: child.logp(next(parts), action), self.struct, actions)
        return np.sum(list(leaves(found)), axis=0)


def numpy_twin(dist_class: Any) -> Any:
    """The numpy distribution that draws as a torch class does; None for classes that are not of this package.

    A subclass has no twin: it may draw in another way.
    """
    base = getattr(dist_class, "partial_of", dist_class)
    if base is TorchCategorical:
        return NumpyCategorical()
    if base is TorchDiagGaussian:
        return NumpyDiagGaussian()
    if base is TorchSquashedGaussian and dist_class is base:
        return NumpySquashedGaussian()
    if base is TorchMultiCategorical and not dist_class.partial_kwargs.get("temperatures"):
        return NumpyMultiCategorical(tuple(int(n) for n in dist_class.partial_kwargs["input_lens"]))
    if base is TorchMultiDistribution:
        given = dist_class.partial_kwargs
        struct = map_tree(numpy_twin, given["child_distribution_cls_struct"])
        if any(child is None for child in leaves(struct)):
            return None
        return NumpyMulti(struct, tuple(int(n) for n in given["input_lens"]))
    return None


def is_deterministic(dist_class: Any) -> bool:
    """Whether a class draws the location that the module returned."""
    return getattr(dist_class, "partial_of", dist_class) is TorchDeterministic


def _normal_logp(noise: np.ndarray, log_scale: np.ndarray) -> np.ndarray:
    return (-0.5 * noise * noise - log_scale - HALF_LOG_TWO_PI).sum(axis=-1).astype(np.float32)


def _log_slope(inner: np.ndarray) -> np.ndarray:
    """The logarithm of tanh's derivative, summed over the dimensions of an action."""
    return (2.0 * (math.log(2.0) - inner - np.logaddexp(0.0, -2.0 * inner))).sum(axis=-1).astype(np.float32)
