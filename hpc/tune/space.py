"""What a search space is written with: a function for each distribution, and grids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .sample import Categorical, Float, Function, Integer

__all__ = [
    "choice", "grid_search", "loguniform", "lograndint", "qlograndint", "qloguniform", "qrandint", "qrandn", "quniform",
    "randint", "randn", "sample_from", "uniform",
]  # fmt: skip


def sample_from(func: Callable[..., Any]) -> Function:
    """A value that `func` gives. It may take the configuration drawn so far, and read other parameters from it."""
    return Function(func)


def uniform(lower: float, upper: float) -> Float:
    """A real number between the bounds, each as likely."""
    return Float(lower, upper).uniform()


def quniform(lower: float, upper: float, q: float) -> Float:
    """A multiple of `q` between the bounds, which are multiples of `q` themselves."""
    return Float(lower, upper).uniform().quantized(q)


def loguniform(lower: float, upper: float, base: float = 10) -> Float:
    """A real number whose logarithm is uniform. `base` changes nothing."""
    return Float(lower, upper).loguniform()


def qloguniform(lower: float, upper: float, q: float, base: float = 10) -> Float:
    """A multiple of `q` whose logarithm is about uniform. `base` changes nothing."""
    return Float(lower, upper).loguniform().quantized(q)


def choice(categories: Sequence[Any]) -> Categorical:
    """One of the values, each as likely. Raises ValueError where there is none."""
    return Categorical(categories).uniform()


def randint(lower: int, upper: int) -> Integer:
    """A whole number from `lower` to below `upper`."""
    return Integer(lower, upper).uniform()


def lograndint(lower: int, upper: int, base: float = 10) -> Integer:
    """A whole number from `lower` to below `upper`, its logarithm uniform. `base` changes nothing."""
    return Integer(lower, upper).loguniform()


def qrandint(lower: int, upper: int, q: int = 1) -> Integer:
    """A multiple of `q` from `lower` to `upper`. Both bounds are included, but with a `q` of 1 the upper one is not."""
    return Integer(lower, upper).uniform().quantized(q)


def qlograndint(lower: int, upper: int, q: int, base: float = 10) -> Integer:
    """A multiple of `q` from `lower` to `upper`, its logarithm about uniform. `base` changes nothing."""
    return Integer(lower, upper).loguniform().quantized(q)


def randn(mean: float = 0.0, sd: float = 1.0) -> Float:
    """A number of the normal distribution."""
    return Float(None, None).normal(mean, sd)


def qrandn(mean: float, sd: float, q: float) -> Float:
    """A number of the normal distribution, rounded to a multiple of `q`."""
    return Float(None, None).normal(mean, sd).quantized(q)


def grid_search(values: Iterable[Any]) -> dict[str, Any]:
    """Each of the values makes a trial; several grids make one for each combination."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ValueError(f"grid_search() takes a list of values, not {values!r}")
    return {"grid_search": values if isinstance(values, list | tuple) else list(values)}
