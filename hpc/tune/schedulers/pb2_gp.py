"""The model of PB2: how much a configuration improves a trial, given how late it is and how good the trial is already.

It is a Gaussian process of scikit-learn over time, score and hyperparameters. What was seen long ago counts for less:
the kernel is that of TV-GP-UCB (Bogunovic et al. 2016). The next configuration has the largest upper bound.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel
from threadpoolctl import threadpool_limits

#: Candidates that are looked at, and how far around the best of them it is looked again.
CANDIDATES = 1024
CLOSER = (0.1, 0.02, 0.005)


class TimeVaryingKernel(Kernel):  # type: ignore[misc]
    """variance * exp(-distance² / length) * (1 - epsilon)^(time apart / 2). The first column is the time."""

    def __init__(self, epsilon: float = 0.1, length: float = 1.0, variance: float = 1.0) -> None:
        self.epsilon = epsilon
        self.length = length
        self.variance = variance

    @property
    def hyperparameter_epsilon(self) -> Any:
        """How much is forgotten."""
        return Hyperparameter("epsilon", "numeric", (1e-5, 0.5))

    @property
    def hyperparameter_length(self) -> Any:
        """How far similar configurations lie apart."""
        return Hyperparameter("length", "numeric", (1e-3, 1e3))

    @property
    def hyperparameter_variance(self) -> Any:
        """How much improvements differ."""
        return Hyperparameter("variance", "numeric", (1e-3, 1e3))

    def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
        X = np.atleast_2d(X)
        Y = X if Y is None else np.atleast_2d(Y)
        apart = np.abs(X[:, None, 0] - Y[None, :, 0])
        square = ((X[:, None, 1:] - Y[None, :, 1:]) ** 2).sum(axis=2)
        values = self.variance * np.exp(-square / self.length) * (1 - self.epsilon) ** (apart / 2)
        if not eval_gradient:
            return values
        # By the logarithms of the parameters, in the order of their names.
        by_epsilon = values * apart / 2 * -self.epsilon / (1 - self.epsilon)
        return values, np.dstack([by_epsilon, values * square / self.length, values])

    def diag(self, X: Any) -> Any:
        """The variance of each point."""
        return np.full(len(X), float(self.variance))

    def is_stationary(self) -> bool:
        """Whether only differences count."""
        return True


def propose(
    rows: np.ndarray,
    gains: np.ndarray,
    now: np.ndarray,
    under_way: Sequence[Sequence[float]],
    bounds: Sequence[tuple[float, float]],
    generator: np.random.RandomState,
) -> list[float]:
    """The hyperparameters that promise most. The largest upper bound of the gain, over random points within bounds.

    rows: time, score and hyperparameters of what was seen. gains: what each brought. now: time and score of the trial
    that goes on. under_way: hyperparameters of others that are tried at the same time, which are left to them.
    """
    # The matrices are small: threads of a linear algebra library would take longer, and CPUs that trials need.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return _propose(rows, gains, now, under_way, bounds, generator)


def _propose(
    rows: np.ndarray,
    gains: np.ndarray,
    now: np.ndarray,
    under_way: Sequence[Sequence[float]],
    bounds: Sequence[tuple[float, float]],
    generator: np.random.RandomState,
) -> list[float]:
    low, high = np.array(bounds, dtype=float).T
    span = np.where(high > low, high - low, 1.0)
    first, last = rows[:, :2].min(axis=0), rows[:, :2].max(axis=0)
    scale = np.where(last > first, last - first, 1.0)
    seen = np.hstack([(rows[:, :2] - first) / scale, (rows[:, 2:] - low) / span])
    fixed = (now - first) / scale
    wanted = np.clip((gains - gains.mean()) / (gains.std() + 1e-8), -2, 2)
    model = GaussianProcessRegressor(TimeVaryingKernel(), alpha=1e-6).fit(seen, wanted)
    unsure = model
    if len(under_way):
        others = (np.array(under_way, dtype=float) - low) / span
        more = np.vstack([seen, np.hstack([np.tile(fixed, (len(others), 1)), others])])
        # What they will bring does not change how sure the model is.
        unsure = GaussianProcessRegressor(model.kernel_, alpha=1e-6, optimizer=None)
        unsure.fit(more, np.append(wanted, np.zeros(len(others))))
    weight = math.sqrt(0.2 + max(0.0, math.log(0.4 * len(seen))))

    def best(points: np.ndarray) -> np.ndarray:
        whole = np.hstack([np.tile(fixed, (len(points), 1)), points])
        bound = model.predict(whole) + weight * unsure.predict(whole, return_std=True)[1]
        chosen: np.ndarray = points[np.argmax(bound)]
        return chosen

    found = best(generator.uniform(size=(CANDIDATES, len(low))))
    for width in CLOSER:
        around = found + generator.normal(scale=width, size=(CANDIDATES // 4, len(low)))
        found = best(np.vstack([found, np.clip(around, 0, 1)]))
    return [float(value) for value in np.clip(low + found * span, low, high)]
