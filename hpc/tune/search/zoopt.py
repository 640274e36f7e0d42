"""ZOOptSearch, which is not offered: its library is not maintained."""

from __future__ import annotations

from typing import Any

from hpc.tune.search.searcher import Searcher

__all__ = ["ZOOptSearch"]


class ZOOptSearch(Searcher):
    """Raises NotImplementedError that names the searchers to use in its place."""

    def __init__(self, *args: Any, **kwargs: Any):
        raise NotImplementedError(
            "ZOOptSearch is not offered, for the library zoopt is not maintained: "
            "use OptunaSearch with optuna.samplers.CmaEsSampler(), or NevergradSearch"
        )
