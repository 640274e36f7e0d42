"""Grid and random search: each combination of the grids, with random values for the rest."""

from __future__ import annotations

import itertools
import math
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hpc.tune.events import Exhausted, NothingNow, Suggested, Suggestion
from hpc.tune.naming import experiment_tag, numbered_id
from hpc.tune.sample import random_source
from hpc.tune.search.search_algorithm import SearchAlgorithm
from hpc.tune.variants import (
    Variant,
    check_point,
    count_variants,
    generate_variants,
    is_leaf,
    path_name,
    preset_variants,
)

__all__ = ["BasicVariantGenerator"]

#: The name of a space that is a grid of whole configurations.
WHOLE = "config"


class BasicVariantGenerator(SearchAlgorithm):
    """The search of an experiment that names no other: grids, and random values.

    points_to_evaluate: configurations, or parts of them, to be tried first; each takes the place of one sample.
    max_concurrent: how many trials may run at a time; 0 is any number. constant_grid_search: random values are drawn
    once for all combinations of the grids, not for each. random_state: a seed or a numpy generator; None is numpy's
    global generator. A state that is loaded puts the generator where it was, the global one too.
    """

    def __init__(
        self,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        max_concurrent: int = 0,
        constant_grid_search: bool = False,
        random_state: Any = None,
    ):
        if isinstance(points_to_evaluate, Mapping):
            raise ValueError("points_to_evaluate has to be a list of dicts, not one dict: write [{...}]")
        if not isinstance(max_concurrent, int) or max_concurrent < 0:
            raise ValueError(f"max_concurrent has to be 0 (any number) or a number of trials, not {max_concurrent!r}")
        self.max_concurrent = max_concurrent
        self._points = list(points_to_evaluate or ())
        self._constant = constant_grid_search
        self._source = random_source(random_state)
        self._space: Mapping[str, Any] = {}
        self._is_grid = False
        self._num_samples: float = 0
        self._total: float = 0
        self._prefix = os.environ.get("_TEST_TUNE_TRIAL_UUID") or uuid.uuid4().hex[:5]
        self._made = 0
        self._live: set[str] = set()
        self._finished = False
        # The sample that is being expanded, how many of its variants are made, and the generator before the first.
        self._sample = 0
        self._within = 0
        self._before: Any = None
        self._variants: Iterator[Variant] = iter(())

    def begin(self, space: Mapping[str, Any], num_samples: int) -> None:
        """See `SearchAlgorithm`. An empty grid raises ValueError, and so does a point with an unknown key."""
        self._is_grid = is_leaf(space)
        self._space = {WHOLE: space} if self._is_grid else space
        self._num_samples = math.inf if num_samples == -1 else num_samples
        for point in self._points:
            check_point(space, point)
        single = count_variants(space)
        points = count_variants(space, 0, self._points)
        self._total = points + max(self._num_samples - len(self._points), 0) * single
        self._variants = self._expand(0)

    @property
    def total_samples(self) -> float:
        return self._total

    def _expand(self, skipped: int) -> Iterator[Variant]:
        """The variants from where the search is, without the first ones, which were made before."""
        for sample in itertools.count(self._sample):
            if sample >= max(self._num_samples, len(self._points)):
                return
            self._sample, self._within, self._before = sample, skipped, _position(self._source.state_of)
            options: dict[str, Any] = {"constant_grid_search": self._constant, "random_state": self._source}
            if sample < len(self._points):
                variants = preset_variants(self._space, self._points[sample], **options)
            else:
                variants = generate_variants(self._space, **options)
            for variant in itertools.islice(variants, skipped, None):
                self._within += 1
                yield variant
            skipped = 0

    def suggest_next(self, count: int) -> Suggested | NothingNow | Exhausted:
        if self.max_concurrent:
            count = min(count, self.max_concurrent - len(self._live))
            if count <= 0:
                return Exhausted() if self._finished else NothingNow()
        made = [self._suggestion(*variant) for variant in itertools.islice(self._variants, count)]
        self._finished = len(made) < count
        return Suggested(made) if made else Exhausted()

    def _suggestion(self, found: dict[Any, Any], config: dict[str, Any]) -> Suggestion:
        number = self._made
        self._made += 1
        tag = experiment_tag(number, found)
        if self._is_grid:
            config = config[WHOLE]
            found = {path[1:] or path: value for path, value in found.items()}
        trial_id = numbered_id(self._prefix, number)
        if self.max_concurrent:
            self._live.add(trial_id)
        evaluated = {path_name(path): value for path, value in found.items()}
        return Suggestion(trial_id, config, evaluated, tag)

    def is_finished(self) -> bool:
        return self._finished

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._live.discard(trial_id)

    def adopt(self, suggestion: Suggestion) -> None:
        if next(self._variants, None) is not None:
            self._made += 1
        self._prefix = suggestion.trial_id.rpartition("_")[0] or self._prefix
        if self.max_concurrent:
            self._live.add(suggestion.trial_id)

    def state(self) -> dict[str, Any]:
        return {
            "prefix": self._prefix,
            "made": self._made,
            "live": set(self._live),
            "sample": self._sample,
            "within": self._within,
            "before": self._before,
            "now": _position(self._source.state_of),
        }

    def load(self, state: dict[str, Any]) -> None:
        self._prefix, self._made, self._live = state["prefix"], state["made"], set(state["live"])
        self._sample, self._finished = state["sample"], False
        if state["before"] is None:  # nothing was made yet
            _go_to(self._source.state_of, state["now"])
            self._variants = self._expand(0)
            return
        # The values of the sample that was being expanded are drawn again, and thrown away.
        _go_to(self._source.state_of, state["before"])
        self._variants = self._expand(state["within"] - 1) if state["within"] else self._expand(0)
        if state["within"]:
            next(self._variants, None)
        _go_to(self._source.state_of, state["now"])


def _position(made: Any) -> Any:
    return made.bit_generator.state if isinstance(made, np.random.Generator) else made.get_state()


def _go_to(made: Any, position: Any) -> None:
    if isinstance(made, np.random.Generator):
        made.bit_generator.state = position
    else:
        made.set_state(position)
