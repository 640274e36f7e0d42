"""The domains of a search space: which values a parameter may have, and how one is drawn.

A domain says what is allowed (a range, a set, a function); its sampler says how a value is drawn from it. With the
same numpy generator the values are those that Ray draws: programs that seed it get the same trials.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

__all__ = [
    "Categorical", "Domain", "Float", "Function", "Grid", "Integer", "LogUniform", "Normal", "Quantized", "Sampler",
    "Uniform", "random_source",
]  # fmt: skip


D = TypeVar("D", bound="Domain")
R = TypeVar("R", bound="_Range")


class _Source:
    """One face for numpy's new generators, its old ones, and the global one."""

    __slots__ = ("choice", "integers", "normal", "state_of", "uniform")

    def __init__(self, made: Any):
        self.state_of = made
        self.uniform, self.normal, self.choice = made.uniform, made.normal, made.choice
        self.integers = made.integers if isinstance(made, np.random.Generator) else made.randint


def random_source(random_state: Any = None) -> _Source:
    """What draws for `random_state`: None (numpy's global generator), a seed, a numpy generator, or a source."""
    if isinstance(random_state, _Source):
        return random_state
    if random_state is None:
        return _Source(np.random)
    if isinstance(random_state, np.random.Generator | np.random.RandomState):
        return _Source(random_state)
    try:
        return _Source(np.random.default_rng(random_state))
    except (TypeError, ValueError) as error:
        raise ValueError(f"random_state has to be None, an int or a numpy generator, not {random_state!r}") from error


# ---------------------------------------------------------------- samplers: how a value is drawn


class Sampler:
    """How values are drawn from a domain."""

    def draw(self, domain: Any, size: int, source: _Source, config: Any = None) -> Any:
        """`size` values of the domain, as a sequence."""
        raise NotImplementedError

    def sample(self, domain: Any, config: Any = None, size: int = 1, random_state: Any = None) -> Any:
        """One value of the domain; for a `size` above 1 a sequence of values."""
        values = self.draw(domain, size, random_source(random_state), config)
        return values if len(values) > 1 else domain.cast(values[0])

    def __str__(self) -> str:
        return type(self).__name__


class Uniform(Sampler):
    """Each value of the domain is as likely as another."""

    def draw(self, domain: Any, size: int, source: _Source, config: Any = None) -> Any:
        if isinstance(domain, Categorical):
            places = source.choice(np.arange(len(domain.categories)), size=size)
            return [domain.categories[place] for place in places]
        if isinstance(domain, Integer):
            return source.integers(domain.lower, domain.upper, size=size)
        return source.uniform(domain.lower, domain.upper, size=size)


class LogUniform(Sampler):
    """The logarithm of the value is uniform."""

    def draw(self, domain: Any, size: int, source: _Source, config: Any = None) -> Any:
        values = np.exp(source.uniform(np.log(domain.lower), np.log(domain.upper), size=size))
        return np.floor(values).astype(int) if isinstance(domain, Integer) else values


class Normal(Sampler):
    """The normal distribution of a mean and a standard deviation."""

    def __init__(self, mean: float = 0.0, sd: float = 0.0):
        if not sd > 0:
            raise ValueError(f"the standard deviation of a normal distribution has to be above 0, not {sd}")
        self.mean = mean
        self.sd = sd

    def draw(self, domain: Any, size: int, source: _Source, config: Any = None) -> Any:
        return source.normal(self.mean, self.sd, size=size)


class Quantized(Sampler):
    """The values of another sampler, on the multiples of `q`."""

    def __init__(self, sampler: Sampler, q: float):
        if not q > 0:
            raise ValueError(f"the step q of a quantized domain has to be above 0, not {q}")
        self.sampler = sampler
        self.q = q

    def get_sampler(self) -> Sampler:
        """The sampler whose values are quantized."""
        return self.sampler

    def steps(self, domain: Any) -> tuple[float, float]:
        """The bounds of the domain, rounded inwards, counted in steps of `q`."""
        return _steps(domain.lower, self.q, math.ceil), _steps(domain.upper, self.q, math.floor)

    def draw(self, domain: Any, size: int, source: _Source, config: Any = None) -> Any:
        inner = copy.copy(domain)
        first, last = self.steps(domain)
        if isinstance(domain, Integer):
            # Whole steps are drawn, each as likely. A step of 1 keeps the upper bound out, as in Ray.
            inner.lower, inner.upper = int(first), int(last) + (self.q != 1)
            return [domain.cast(step * self.q) for step in self.sampler.draw(inner, size, source)]
        inner.lower, inner.upper = first * self.q, last * self.q
        values = self.sampler.draw(inner, size, source, config)
        return [domain.cast(value) for value in np.round(np.divide(values, self.q)) * self.q]


class Grid(Sampler):
    """Marks a domain whose every value makes a trial."""

    def draw(self, domain: Any, size: int, source: _Source, config: Any = None) -> Any:
        raise RuntimeError("the values of a grid are not drawn: each makes a trial")


class _Call(Sampler):
    """Values that a function gives, of the configuration so far."""

    def draw(self, domain: Any, size: int, source: _Source, config: Any = None) -> Any:
        if not domain.pass_config:
            return [domain.func() for _ in range(size)]
        return [domain.func(config[i] if isinstance(config, list) else config) for i in range(size)]


def _steps(bound: float, q: float, inwards: Callable[[float], int]) -> float:
    if not math.isfinite(bound):
        return bound
    exact = bound / q
    return round(exact) if math.isclose(exact, round(exact)) else inwards(exact)


# ---------------------------------------------------------------- domains: which values are allowed


class Domain:
    """Which values a parameter may have."""

    sampler: Sampler | None = None
    default_sampler_cls: type[Sampler] = Uniform

    def cast(self, value: Any) -> Any:
        """The value as the type of the domain."""
        return value

    def set_sampler(self, sampler: Sampler, allow_override: bool = False) -> None:
        """Draw by `sampler`. A second one raises ValueError, unless `allow_override` is true."""
        if self.sampler and not allow_override:
            raise ValueError(
                f"the domain {type(self).__name__} has a sampler already ({self.sampler}): it cannot have {sampler} too"
            )
        self.sampler = sampler

    def get_sampler(self) -> Sampler:
        """The sampler of the domain; uniform where none was set."""
        return self.sampler or self.default_sampler_cls()

    def _by(self: D, sampler: Sampler) -> D:
        new = copy.copy(self)
        new.set_sampler(sampler)
        return new

    def sample(self, config: Any = None, size: int = 1, random_state: Any = None) -> Any:
        """A value of the domain (a sequence of them for a `size` above 1).

        `config` is what a function of the space is called with. `random_state` is None (numpy's global generator), a
        seed, or a numpy generator.
        """
        return self.get_sampler().sample(self, config=config, size=size, random_state=random_state)

    def is_grid(self) -> bool:
        """Whether each value makes a trial."""
        return isinstance(self.sampler, Grid)

    def is_function(self) -> bool:
        """Whether the values come from a function of the program."""
        return False

    def is_valid(self, value: Any) -> bool:
        """Whether the domain allows `value`."""
        raise NotImplementedError

    @property
    def domain_str(self) -> str:
        """The domain in a few words, for messages."""
        return "(unknown)"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.domain_str}, {self.get_sampler()})"


class _Range(Domain):
    lower: Any
    upper: Any

    def uniform(self: R) -> R:
        """The same range, drawn uniformly. Raises ValueError where a bound is missing."""
        if not (math.isfinite(self.lower) and math.isfinite(self.upper)):
            raise ValueError(f"a uniform distribution needs a lower and an upper bound, not {self.domain_str}")
        return self._by(Uniform())

    def loguniform(self: R) -> R:
        """The same range, drawn uniformly by its logarithm. Raises ValueError where a bound is not above 0."""
        if not (self.lower > 0 and 0 < self.upper < math.inf):
            raise ValueError(
                f"a distribution by logarithms needs bounds above 0, not {self.domain_str}; "
                "give the values themselves, not their logarithms"
            )
        return self._by(LogUniform())

    def is_valid(self, value: Any) -> bool:
        return bool(self.lower <= value <= self.upper)

    @property
    def domain_str(self) -> str:
        return f"({self.lower}, {self.upper})"


class Float(_Range):
    """Real numbers between two bounds; None is no bound."""

    def __init__(self, lower: float | None, upper: float | None):
        self.lower = -math.inf if lower is None else lower
        self.upper = math.inf if upper is None else upper
        if not self.lower <= self.upper:
            raise ValueError(f"the lower bound {lower} is above the upper bound {upper}: exchange them")

    def cast(self, value: Any) -> float:
        return float(value)

    def normal(self, mean: float = 0.0, sd: float = 1.0) -> Float:
        """The normal distribution. Raises ValueError for a domain with bounds."""
        if math.isfinite(self.lower) or math.isfinite(self.upper):
            raise ValueError(f"a normal distribution has no bounds: use Float(None, None), not {self.domain_str}")
        return self._by(Normal(mean, sd))

    def quantized(self, q: float) -> Float:
        """The same range on the multiples of `q`. Raises ValueError where a bound is no multiple of `q`."""
        sampler = Quantized(self.get_sampler(), q)
        for name, bound in (("lower", self.lower), ("upper", self.upper)):
            if math.isfinite(bound) and not math.isclose(bound / q, round(bound / q)):
                near = round(bound / q) * q
                raise ValueError(f"the {name} bound {bound} is no multiple of q={q}: give {near}, or another q")
        new = copy.copy(self)
        new.set_sampler(sampler, allow_override=True)
        return new


class Integer(_Range):
    """Whole numbers from `lower` to below `upper`."""

    def __init__(self, lower: int, upper: int):
        self.lower = lower
        self.upper = upper
        if not self.lower < self.upper:
            raise ValueError(
                f"no whole number is from {lower} to below {upper}: give an upper bound above the lower one"
            )

    def cast(self, value: Any) -> int:
        return int(value)

    def quantized(self, q: int) -> Integer:
        """The same range on the multiples of `q`, the upper bound included. Raises ValueError where there is none."""
        sampler = Quantized(self.get_sampler(), q)
        first, last = sampler.steps(self)
        if last < first:
            raise ValueError(f"no multiple of q={q} is in {self.domain_str}: give a smaller q or wider bounds")
        new = copy.copy(self)
        new.set_sampler(sampler, allow_override=True)
        return new


class Categorical(Domain):
    """One of a set of values of any kind."""

    def __init__(self, categories: Sequence[Any]):
        if isinstance(categories, str | bytes) or not isinstance(categories, Iterable):
            raise ValueError(f"the values to choose from have to be a list, not {categories!r}")
        self.categories = list(categories)

    def uniform(self) -> Categorical:
        """The same values, each as likely."""
        if not self.categories:
            raise ValueError("choice() has no values to choose from: give at least one")
        return self._by(Uniform())

    def grid(self) -> Categorical:
        """The same values, each a trial."""
        return self._by(Grid())

    def __len__(self) -> int:
        return len(self.categories)

    def __getitem__(self, item: int) -> Any:
        return self.categories[item]

    def is_valid(self, value: Any) -> bool:
        return value in self.categories

    @property
    def domain_str(self) -> str:
        return f"{self.categories}"


class Function(Domain):
    """What a function of the program gives, called with the configuration so far, or with nothing."""

    default_sampler_cls = _Call

    def __init__(self, func: Callable[..., Any]):
        if not callable(func):
            raise ValueError(f"sample_from() takes a function, not {func!r}")
        self.func = func
        try:
            signature = inspect.signature(func)
        except (TypeError, ValueError):  # a function of C that does not say
            self.pass_config = True
            return
        self.pass_config = _takes(signature, {})
        if not self.pass_config and not _takes(signature):
            raise ValueError("the function of sample_from() has to take the configuration, or nothing: it takes more")

    def is_function(self) -> bool:
        return True

    def is_valid(self, value: Any) -> bool:
        return True

    @property
    def domain_str(self) -> str:
        return f"{getattr(self.func, '__name__', self.func)}()"


def _takes(signature: inspect.Signature, *values: Any) -> bool:
    try:
        signature.bind(*values)
    except TypeError:
        return False
    return True
