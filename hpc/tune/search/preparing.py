"""From what a user gives a Tuner to the search of an experiment, with every error that can be found before it runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from hpc.tune.search import (
    BasicVariantGenerator,
    ConcurrencyLimiter,
    SearchAlgorithm,
    Searcher,
    SearchGenerator,
    create_searcher,
)
from hpc.tune.search.searcher import check_goal
from hpc.tune.variants import is_leaf, path_name, split_space, unresolved

__all__ = ["prepare"]

logger = logging.getLogger(__name__)


def prepare(
    search_alg: SearchAlgorithm | Searcher | str | None,
    space: Mapping[str, Any] | None,
    *,
    num_samples: int = 1,
    metric: Any = None,
    mode: Any = None,
    max_concurrent_trials: int | None = None,
    **spec: Any,
) -> SearchAlgorithm:
    """The search of an experiment, which has begun.

    space: the Tuner's param_space. num_samples: -1 is without an end. Raises ValueError for a metric, mode, space or
    number that cannot be, alone or together.
    """
    space = {} if space is None else space
    if not isinstance(space, Mapping):
        raise ValueError(f"param_space has to be a dict, not {space!r}")
    if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < -1:
        raise ValueError(f"num_samples has to be a number of samples, or -1 for no end, not {num_samples!r}")
    check_goal(metric, mode)
    search = _limited(create_searcher(search_alg) if isinstance(search_alg, str) else search_alg, max_concurrent_trials)
    if isinstance(search, SearchGenerator):
        _check_grids(space, type(search.innermost).__name__)
    taken = search.set_search_properties(metric, mode, space, **spec)
    left = unresolved(space) if not taken else []
    if left:
        raise ValueError(
            f"param_space has a domain for `{path_name(left[0][0])}`, but the search algorithm has a space of its own: "
            "put all domains in one of the two"
        )
    search.begin(space, num_samples)
    return search


def _limited(search: Any, most: int | None) -> SearchAlgorithm:
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 0):
        raise ValueError(f"max_concurrent_trials has to be a number of trials, not {most!r}")
    if search is None:
        return BasicVariantGenerator(max_concurrent=most or 0)
    if isinstance(search, ConcurrencyLimiter) and most:
        if search.max_concurrent != most:
            raise ValueError(
                f"max_concurrent_trials is {most}, but ConcurrencyLimiter has {search.max_concurrent}: leave one out"
            )
    elif isinstance(search, Searcher) and most:
        search = ConcurrencyLimiter(search, most)
    elif isinstance(search, SearchAlgorithm) and most:
        logger.warning("max_concurrent_trials is not used: %s limits its trials itself", type(search).__name__)
    if isinstance(search, Searcher):
        return SearchGenerator(search)
    if not isinstance(search, SearchAlgorithm):
        raise ValueError(
            f"search_alg has to be a searcher, as OptunaSearch(), or the name of one, as 'optuna', not {search!r}"
        )
    return search


def _check_grids(space: Mapping[str, Any], searcher: str) -> None:
    grids = split_space({"param_space": space} if is_leaf(space) else space)[2]
    if grids:
        raise ValueError(
            f"grid_search of `{path_name(grids[0][0])}` cannot be with {searcher}, which chooses values itself: "
            "write choice([...]), or leave search_alg out"
        )
