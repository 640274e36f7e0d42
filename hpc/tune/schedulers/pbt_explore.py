"""How population based training makes the next configuration from a good one. Pure: the generators are given.

A mutation says for one key how. It is a list of values, a domain, a function without arguments, or a dict of mutations
for a nested configuration.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from numbers import Integral, Number
from typing import Any

import numpy as np

from hpc.tune.sample import Categorical, Domain, Function, Integer, Quantized

Mutation = Any


class Dice:
    """The random generators of a population: one for choices, numpy's for domains."""

    __slots__ = ("domains", "own")

    def __init__(self, own: random.Random) -> None:
        self.own = own
        self.domains = np.random.RandomState(own.getrandbits(32))

    def sample(self, mutation: Mutation) -> Any:
        """A new value by a mutation, nested dicts included."""
        if isinstance(mutation, Mapping):
            return {key: self.sample(one) for key, one in mutation.items()}
        if isinstance(mutation, Domain):
            return mutation.sample(None, random_state=self.domains)
        if isinstance(mutation, (list, tuple)):
            return self.own.choice(mutation)
        return mutation()


def check(mutations: Mapping[str, Mutation], where: str = "") -> None:
    """Raise TypeError or ValueError for what says nothing of how a value is to be changed."""
    for key, mutation in mutations.items():
        name = f"{where}{key}"
        if isinstance(mutation, Mapping):
            check(mutation, f"{name}/")
        elif isinstance(mutation, Function):
            raise ValueError(
                f"hyperparam_mutations[{name!r}] is a tune.sample_from: give a function without arguments, a list, or "
                "another domain (tune.uniform and others)"
            )
        elif not isinstance(mutation, (list, tuple, Domain)) and not callable(mutation):
            raise TypeError(
                f"hyperparam_mutations[{name!r}] must be a list, a tuple, a dict, a domain of the search space or a "
                f"function, not {type(mutation).__name__}"
            )
        elif isinstance(mutation, (list, tuple)) and not mutation:
            raise ValueError(f"hyperparam_mutations[{name!r}] is empty: give the values that it may have")


def fill(config: dict[str, Any], mutations: Mapping[str, Mutation], dice: Dice) -> list[str]:
    """Draw what a configuration has no value for, also inside of nested ones. Returns the keys that have changed."""
    changed = []
    for key, mutation in mutations.items():
        if key not in config:
            config[key] = dice.sample(mutation)
            changed.append(key)
        elif isinstance(mutation, Mapping) and isinstance(config[key], dict) and fill(config[key], mutation, dice):
            changed.append(key)
    return changed


def explore(
    config: dict[str, Any],
    mutations: Mapping[str, Mutation],
    dice: Dice,
    *,
    resample_probability: float,
    factors: tuple[float, ...],
    stay_in_domain: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A changed copy of a configuration, and for each key that was changed how.

    Each value is drawn anew with resample_probability. Else one of a list becomes its neighbour in the list, and a
    number is multiplied by one of the factors. Whole numbers and bools stay what they are. stay_in_domain: a product
    outside of its domain becomes the nearest value of the domain, and one of a choice its neighbour.
    """
    new = copy.deepcopy(config)
    operations: dict[str, Any] = {}
    for key, mutation in mutations.items():
        old: Any = config.get(key)
        if key not in config:
            new[key], operations[key] = dice.sample(mutation), "resample"
        elif isinstance(mutation, Mapping):
            new[key], operations[key] = explore(
                old,
                mutation,
                dice,
                resample_probability=resample_probability,
                factors=factors,
                stay_in_domain=stay_in_domain,
            )
        elif (values := _values_in_order(mutation, old, stay_in_domain)) is not None:
            new[key], operations[key] = _neighbour(values, old, dice, resample_probability)
        else:
            drawn = dice.own.random() < resample_probability or not isinstance(old, Number)
            if drawn:
                new[key], operations[key] = dice.sample(mutation), "resample"
            else:
                factor = dice.own.choice(factors)
                new[key], operations[key] = old * factor, f"* {factor}"
            if isinstance(old, Number):
                new[key] = _as_before(old, new[key])
            if stay_in_domain and isinstance(mutation, Domain) and not drawn:
                new[key] = inside(mutation, new[key])
    return new, operations


def _values_in_order(mutation: Mutation, old: Any, stay_in_domain: bool) -> list[Any] | None:
    """The values of which the next one is a neighbour; None: it is a number to be multiplied."""
    if isinstance(mutation, (list, tuple)):
        return list(mutation)
    if isinstance(mutation, Categorical) and (stay_in_domain or not isinstance(old, Number)):
        return list(mutation.categories)
    return None


def _neighbour(values: list[Any], old: Any, dice: Dice, resample_probability: float) -> tuple[Any, str]:
    if dice.own.random() < resample_probability or old not in values:
        return dice.own.choice(values), "resample"
    shift, at = dice.own.choice([-1, 1]), values.index(old)
    to = min(max(at + shift, 0), len(values) - 1)
    return values[to], f"shift {'left' if shift == -1 else 'right'}{' (noop)' if to == at else ''}"


def _as_before(old: Any, new: Any) -> Any:
    """The new value as the type of the old one, if that counts or is a bool."""
    if isinstance(old, bool):
        return bool(new)
    return round(new) if isinstance(old, Integral) else new


def inside(domain: Domain, value: Any) -> Any:
    """The value of a domain that is nearest to a number. A domain without bounds has all of them."""
    low, high = getattr(domain, "lower", None), getattr(domain, "upper", None)
    if low is None or high is None:
        return value
    sampler = domain.get_sampler()
    step = sampler.q if isinstance(sampler, Quantized) else None
    if isinstance(domain, Integer) and step in (None, 1):
        high = high - 1
    if step is not None:
        value = round(value / step) * step
        low, high = np.ceil(low / step - 1e-9) * step, np.floor(high / step + 1e-9) * step
    return domain.cast(min(max(value, low), high))


def explored(
    config: dict[str, Any], custom_explore_fn: Callable[[dict[str, Any]], dict[str, Any]] | None
) -> dict[str, Any]:
    """What the user's function makes of an explored configuration. AssertionError if it returns None."""
    if custom_explore_fn is None:
        return config
    config = custom_explore_fn(config)
    if config is None:
        raise AssertionError("custom_explore_fn returned None: it must return the configuration")
    return config
