"""What the methods of a dataset are made of: its plan and settings, and runs of the plan.

`Dataset` is made of this and of the methods. So the methods know this, and not the class that has them all.
"""

from __future__ import annotations

import copy
import dataclasses
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import pyarrow as pa

from hpc.data import running
from hpc.data.consume.times import Times
from hpc.data.context import DataContext
from hpc.data.exec.execution import Execution
from hpc.data.exec.stats import RunStats, with_times
from hpc.data.options import RandomSeedConfig
from hpc.data.plan.nodes import BlockHandle, Blocks, Node

D = TypeVar("D", bound="Planned")
T = TypeVar("T")


class Flow:
    """The tables of one run. ``stop`` ends the run from any thread, ``close`` from the one that takes the tables."""

    def __init__(self, run: Execution, ended: Callable[[Execution], None]) -> None:
        self._run, self._when_ended = run, ended
        self.tables: Iterator[pa.Table] = run.tables()
        self.stop: Callable[[], None] = run.close

    def count(self, times: Times) -> None:
        """Say where the time of the consumer is counted."""
        self._run.times = times

    def close(self) -> None:
        """Want no more."""
        self._run.close()
        self._when_ended(self._run)


class Planned:
    """A plan with its settings."""

    def __init__(self, plan: Node, context: DataContext | None = None) -> None:
        self.plan = plan
        self._context = DataContext.get_current().copy() if context is None else context
        self._name: str | None = None
        self._runs = 0
        self._stats: RunStats | None = None
        self._times: Times | None = None
        self._schema: pa.Schema | None = None
        #: The run that began last, while somebody has it.
        self._run: weakref.ref[Execution] | None = None

    def derived(self: D, plan: Node) -> D:
        """A dataset with another plan and these settings."""
        raise NotImplementedError

    def kept(self, handles: Iterable[BlockHandle]) -> Any:
        """The materialized dataset of blocks, with these settings."""
        raise NotImplementedError

    @property
    def context(self) -> DataContext:
        """The settings that it took when it was made."""
        return self._context

    def begin(self, plan: Node | None = None, number: int | None = None) -> Execution:
        """Begin a run of this dataset, or of a plan that is made of its own. The caller closes it. ``number``: which of
        its runs it is, for seeds that change with each; None: the next."""
        number = self._runs if number is None else number
        seeded = with_seeds(self.plan if plan is None else plan, number)
        context = copy.copy(self._context)
        context._execution_idx = number
        self._runs += 1
        run = running.begin(seeded, context, self._name)
        if plan is None and not isinstance(self.plan, Blocks):
            self._run = weakref.ref(run)
        return run

    def handles(self, plan: Node | None = None) -> Iterator[BlockHandle]:
        """The blocks of a run, as they come. It ends with the iterator."""
        return self._through(plan, iter)

    def _through(self, plan: Node | None, taken: Callable[[Execution], Iterator[T]]) -> Iterator[T]:
        run = self.begin(plan)
        try:
            yield from taken(run)
        finally:
            run.close()
            if plan is None:
                self._ended(run)

    def flow(self) -> Flow:
        """The tables of a run that begins now, for a consumer that may end it from another thread."""
        return Flow(self.begin(), self._ended)

    def _ended(self, run: Execution) -> None:
        """A run of this dataset is over. One of blocks that are there tells less than the run that made them."""
        if not isinstance(self.plan, Blocks):
            self._stats, self._times = run.stats(), run.times
            if self._run is not None and self._run() is run:
                self._run = None

    def last_stats(self) -> RunStats | None:
        """What the last run says of itself, which may go on."""
        run = None if self._run is None else self._run()
        if run is not None:
            return run.stats()
        # The consumer goes on with what was made ahead when the run has ended.
        return None if self._stats is None else with_times(self._stats, self._times)

    def tables(self, plan: Node | None = None) -> Iterator[pa.Table]:
        """The tables of a run, as they come."""
        return self._through(plan, Execution.tables)


def with_seeds(plan: Node, run: int) -> Node:
    """A plan whose seeds are those of its n-th run."""
    inputs = tuple(with_seeds(one, run) for one in plan.inputs)
    if any(new is not old for new, old in zip(inputs, plan.inputs)):
        plan = plan.with_inputs(inputs)
    changed: Any = plan
    if isinstance(getattr(plan, "seed", None), RandomSeedConfig):
        changed = _reseeded(changed, run)
    for part in ("transform", "exchange"):
        inner = getattr(plan, part, None)
        if isinstance(getattr(inner, "seed", None), RandomSeedConfig):
            changed = dataclasses.replace(changed, **{part: _reseeded(inner, run)})
    return changed


def _reseeded(one: Any, run: int) -> Any:
    return dataclasses.replace(one, seed=one.seed.of_execution(run))
