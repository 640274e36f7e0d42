"""Several iterators over one run of a dataset: an actor runs it, and gives blocks to whoever asks.

Ranks ask ahead, so an answer is there when they need it. Only references go through the actor; a rank takes the blocks
themselves from the stores of the nodes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

import hpc
from hpc.data import facts
from hpc.data.block.schema import Schema
from hpc.data.consume.of_ranks import RankTimes, of_times, ranks_text
from hpc.data.consume.sharing import Equal, Piece, Sharing
from hpc.data.consume.times import Times
from hpc.data.context import DataContext
from hpc.data.exec.progress import speak_here
from hpc.data.iterator import DataIterator
from hpc.data.methods import look
from hpc.data.planned import Flow, Planned
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy

#: A rank takes so many pieces with one question, if they are there.
AT_ONCE = 4
#: A pass that waits for ranks says so this often.
SAY_S = 15.0

logger = logging.getLogger("hpc.data")


class Passes:
    """The passes over a dataset that several ranks make together. Its methods wait, each in a thread of its own."""

    def __init__(self, dataset: Planned, ranks: int, equal: Equal, nodes: list[str] | None = None) -> None:
        self._dataset, self._ranks, self._equal, self._nodes = dataset, ranks, equal, nodes
        speak_here()
        self._change = threading.Condition()
        self._waiting: dict[int, Any] = {}
        self._number = -1
        self._sharing: Any = Sharing(ranks, equal)
        #: Ranks that want no pass any more.
        self._ended: set[int] = set()
        self._run: Any = None
        self._told: Any = None
        self._error: BaseException | None = None
        self._refused: Exception | None = None
        #: Ranks that ask for rows and wait; when it was said last for whom they wait.
        self._asking: set[int] = set()
        self._said_at = 0.0
        #: What ranks have told of the last pass.
        self._times: dict[int, RankTimes] = {}

    def begin(self, rank: int, wanted: Any = None) -> tuple[int, Any]:
        """The number of the next pass, once all ranks want it, and what is to be known of it. ``wanted``: which pass.

        Raises ValueError where ranks want different ones."""
        with self._change:
            self._leave(rank)
            self._ended.discard(rank)
            self._waiting[rank] = wanted
            before = self._number
            self._start_if_all()
            while self._number == before:
                if not self._change.wait(SAY_S) and self._number == before:
                    missing = sorted({*range(self._ranks)} - {*self._waiting} - self._ended)
                    logger.warning("a pass over the dataset waits for ranks %s to begin their loop", missing)
            if self._refused is not None:
                raise self._refused
            return self._number, self._told

    def end(self, rank: int) -> None:
        """A rank wants no pass any more: the others begin theirs without it."""
        with self._change:
            self._ended.add(rank)
            self._waiting.pop(rank, None)
            self._leave(rank)
            self._start_if_all()

    def _start_if_all(self) -> None:
        if self._waiting and len(self._waiting) + len(self._ended) == self._ranks:
            self._start(next(iter(self._waiting.values())))

    def _start(self, wanted: Any) -> None:
        if self._run is not None:
            self._run.close()
        asked, self._waiting, self._times = self._waiting, {}, {}
        self._number += 1
        self._error = self._refused = self._run = None
        try:
            if any(one != wanted for one in asked.values()):
                raise ValueError(f"ranks are at different places of the dataset: {asked}")
            self._sharing, self._run, self._told = self._open(wanted)
            for rank in self._ended:
                self._sharing.leave(rank)
            threading.Thread(target=self._fill, args=(self._run, self._sharing), daemon=True).start()
        except Exception as error:
            self._refused = error
        self._change.notify_all()

    def _open(self, wanted: Any) -> tuple[Any, Any, Any]:
        """How a pass is shared, its run, and what ranks are told of it."""
        return Sharing(self._ranks, self._equal, self._nodes), self._dataset.begin(), None

    def _fill(self, run: Any, sharing: Any) -> None:
        """Blocks come as long as they are taken."""
        try:
            for handle in run:
                with self._change:
                    sharing.put(handle.ref, handle.meta.rows, handle.node)
                    self._change.notify_all()
                    while sharing.is_full() and sharing is self._sharing and sharing.given:
                        self._change.wait()
                    if sharing is not self._sharing or not sharing.given:
                        return
        except BaseException as error:
            with self._change:
                self._error = error if sharing is self._sharing else self._error
        finally:
            run.close()
            self._dataset._ended(run)
            with self._change:
                sharing.end()
                self._change.notify_all()

    def take(self, rank: int, number: int) -> list[Piece]:
        """The next rows of a rank in a pass; nothing: it has all. Raises what the run has raised."""
        with self._change:
            self._asking.add(rank)
            try:
                return self._take(rank, number)
            finally:
                self._asking.discard(rank)

    def _take(self, rank: int, number: int) -> list[Piece]:
        while True:
            if number != self._number:
                return []
            if self._error is not None:
                raise self._error
            found: list[Piece] = []
            while len(found) < AT_ONCE and (not found or self._sharing.is_near(rank)):
                piece = self._sharing.take(rank)
                if piece is None:
                    break
                found.append(piece)
            if found:
                self._change.notify_all()
                return found
            if self._sharing.has_all(rank):
                return []
            if not self._change.wait(SAY_S):
                self._say_for_whom()

    def _say_for_whom(self) -> None:
        """A rank waits, and nothing has come for a while: not because the run makes nothing, but ranks take nothing."""
        missing = [rank for rank in self._sharing.behind() if rank not in self._asking]
        now = time.monotonic()
        if missing and now - self._said_at >= SAY_S:
            self._said_at = now
            logger.warning(
                "ranks %s of a pass over the dataset wait for ranks %s, which take no more rows (for %.0f s): "
                "they are slow, or have ended within their loop",
                sorted(self._asking), missing, SAY_S,
            )  # fmt: skip

    def leave(self, rank: int, number: int) -> None:
        """A rank wants no more of a pass."""
        with self._change:
            if number == self._number:
                self._leave(rank)

    def _leave(self, rank: int) -> None:
        self._sharing.leave(rank)
        self._change.notify_all()

    def schema(self) -> pa.Schema | None:
        """The columns."""
        known = facts.schema_of(self._dataset.plan)
        if known is not None:
            return known
        found = look.schema(self._dataset)
        return None if found is None else found.base_schema

    def told(self, rank: int, number: int, times: RankTimes) -> None:
        """What a rank has done with its batches of a pass, until now."""
        with self._change:
            if number == self._number:
                self._times[rank] = times

    def stats(self) -> str:
        """Where the time of the last pass went, and what ranks have told of it."""
        with self._change:
            ranks = dict(self._times)
        return "\n".join(text for text in (look.stats(self._dataset), ranks_text(ranks)) if text)


def coordinate(passes: type[Passes], ranks: int, *arguments: Any) -> Any:
    """The actor of these ranks, on this node."""
    here = NodeAffinitySchedulingStrategy(hpc.get_runtime_context().get_node_id(), soft=True)
    options = {"num_cpus": 0, "max_concurrency": 2 * ranks + 4, "scheduling_strategy": here}
    return hpc.remote(passes).options(**options).remote(*arguments)


class SplitIterator(DataIterator):
    """One of several iterators that share each run of a dataset."""

    def __init__(self, actor: Any, rank: int, ranks: int, context: DataContext) -> None:
        self._actor, self._rank, self._ranks, self._context = actor, rank, ranks, context
        #: Its last pass, in the process that loops over it.
        self._last: SharedFlow | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_last": None}

    def __repr__(self) -> str:
        return f"SplitIterator(rank {self._rank} of {self._ranks})"

    def end(self) -> None:
        """This rank wants no pass any more: the others go on without it."""
        self._actor.end.remote(self._rank)

    def world_size(self) -> int:
        """How many iterators share a run."""
        return self._ranks

    def _flow(self) -> Flow:
        self._last = SharedFlow(self._actor, self._rank)
        return self._last

    def schema(self) -> Schema | None:
        found = hpc.get(self._actor.schema.remote())
        return None if found is None else Schema(found)

    def stats(self) -> str:
        if self._last is not None:
            self._last.tell()
        text: str = hpc.get(self._actor.stats.remote())
        return text

    def get_context(self) -> DataContext:
        return self._context

    def materialize(self) -> Any:
        """Raises NotImplementedError: a part of a run is not kept. Use `Dataset.split`."""
        raise NotImplementedError("an iterator of streaming_split is not materialized: use split(n) for that")


class SharedFlow(Flow):
    """The tables of a rank in one pass. One question to the actor is always under way."""

    def __init__(self, actor: Any, rank: int) -> None:
        self._actor, self._rank = actor, rank
        self._number = -1
        self._is_over = False
        self._times: Times | None = None
        #: Seconds for which it has waited for the actor.
        self._waited_s = 0.0
        self.tables: Iterator[pa.Table] = self._lazily()
        self.stop: Callable[[], None] = self._leave

    def count(self, times: Times) -> None:
        self._times, times.when_over = times, self.tell

    def tell(self) -> None:
        """Tell the actor what was done with batches until now."""
        if self._times is not None and self._number >= 0:
            self._actor.told.remote(self._rank, self._number, of_times(self._times, self._waited_s))

    def _lazily(self) -> Iterator[pa.Table]:
        """The pass begins with the first look at its tables: in the thread that takes them."""
        yield from self._tables()

    def _tables(self) -> Iterator[pa.Table]:
        self._number, told = hpc.get(self._actor.begin.remote(self._rank, self._wanted()))
        if self._is_over:  # left while it waited for the others
            self._actor.leave.remote(self._rank, self._number)
            return iter(())
        return self._cut(self._taken(), told)

    def _wanted(self) -> Any:
        """Which pass it is to be."""
        return None

    def _cut(self, tables: Iterator[pa.Table], told: Any) -> Iterator[pa.Table]:
        """What is this rank's of the tables that it gets."""
        return tables

    def _taken(self) -> Iterator[pa.Table]:
        take, rank, number = self._actor.take, self._rank, self._number
        asked = take.remote(rank, number)
        while not self._is_over:
            began = time.perf_counter()
            pieces = hpc.get(asked)
            self._waited_s += time.perf_counter() - began
            if not pieces:
                self._is_over = True
                return
            asked = take.remote(rank, number)
            for block, start, stop, _ in pieces:
                table = hpc.get(block)
                yield table if stop - start == table.num_rows else table.slice(start, stop - start)

    def _leave(self) -> None:
        if not self._is_over:
            self._is_over = True
            if self._number >= 0:
                self._actor.leave.remote(self._rank, self._number)

    def close(self) -> None:
        self._leave()
        self.tables = iter(())  # the iterator keeps this flow, for `stats`: the blocks at hand are let go all the same
