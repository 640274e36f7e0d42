"""Where the configurations of trials come from: grids and random values, or a searcher that learns."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from hpc.tune.search.basic_variant import BasicVariantGenerator
from hpc.tune.search.concurrency_limiter import ConcurrencyLimiter
from hpc.tune.search.repeater import Repeater
from hpc.tune.search.search_algorithm import SearchAlgorithm
from hpc.tune.search.search_generator import SearchGenerator
from hpc.tune.search.searcher import Searcher
from hpc.tune.space import grid_search

__all__ = [
    "BasicVariantGenerator", "ConcurrencyLimiter", "Repeater", "SearchAlgorithm", "SearchGenerator", "Searcher",
    "create_searcher", "grid_search",
]  # fmt: skip

#: The names of create_searcher: the module, and the class.
SEARCHERS = {
    "variant_generator": ("basic_variant", "BasicVariantGenerator"),
    "random": ("basic_variant", "BasicVariantGenerator"),
    "ax": ("ax", "AxSearch"),
    "hyperopt": ("hyperopt", "HyperOptSearch"),
    "bayesopt": ("bayesopt", "BayesOptSearch"),
    "bohb": ("bohb", "TuneBOHB"),
    "nevergrad": ("nevergrad", "NevergradSearch"),
    "optuna": ("optuna", "OptunaSearch"),
    "zoopt": ("zoopt", "ZOOptSearch"),
    "hebo": ("hebo", "HEBOSearch"),
}


def create_searcher(search_alg: str, **kwargs: Any) -> Any:
    """The searcher of a name, as "optuna"; arguments that it does not take are left out.

    Raises ValueError for an unknown name, and ImportError where its library is not installed.
    """
    if search_alg.lower() not in SEARCHERS:
        raise ValueError(f"there is no searcher {search_alg!r}: the names are {', '.join(SEARCHERS)}")
    module, name = SEARCHERS[search_alg.lower()]
    kind = getattr(importlib.import_module(f"hpc.tune.search.{module}"), name)
    taken = inspect.signature(kind).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in taken.values()):
        return kind(**kwargs)
    return kind(**{key: value for key, value in kwargs.items() if key in taken})
