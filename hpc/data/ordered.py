"""Passes in an order that depends on a seed and the epoch alone. Ranks of any number go on in the middle of one.

One actor runs the dataset in that order. Each rank gets all blocks as references, and takes its rows of each global
batch. So each file is read once, and no row moves more than it has to within a node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from hpc.data.consume.order import Order, RankRows
from hpc.data.consume.position import Position, fingerprint, position_of
from hpc.data.consume.sharing import Copies
from hpc.data.context import DataContext
from hpc.data.io.source import Estimate, Source, SourceTask
from hpc.data.iterator import Again
from hpc.data.plan import nodes
from hpc.data.plan.nodes import Node
from hpc.data.planned import Planned
from hpc.data.split import Passes, SharedFlow, SplitIterator, coordinate

#: Pieces of a source whose user has no wish: the order must not depend on the machine.
PIECES = 256
#: Nodes that give a row for each row of their input, in its order.
_ROW_BY_ROW = (nodes.Select, nodes.Drop, nodes.Rename, nodes.WithColumns, nodes.Resize)


#: Nodes that give other rows, and not only another order, where the rows below come in another order.
_OF_ORDER = (nodes.Exchanged, nodes.RandomizeBlocks, nodes.Limit)


class Chosen(Source):
    """Some tasks of another source, in another order. The first is without rows that it need not read, ``before`` at
    most."""

    def __init__(self, source: Source, parallelism: int, places: tuple[int, ...], before: int = 0) -> None:
        self._source, self._parallelism, self._places, self._before = source, parallelism, places, before
        self.name = source.name

    def estimate(self) -> Estimate:
        return self._source.estimate()

    def schema(self) -> pa.Schema | None:
        return self._source.schema()

    def files(self) -> list[str]:
        return self._source.files()

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        found = list(self._source.tasks(self._parallelism))
        for number, place in enumerate(self._places):
            yield self._source.behind(found[place], self._before)[1] if number == 0 and self._before else found[place]

    def with_columns(self, names: list[str]) -> Source | None:
        narrowed = self._source.with_columns(names)
        return None if narrowed is None else Chosen(narrowed, self._parallelism, self._places, self._before)


class OrderedPlan(NamedTuple):
    """``at``: the row of the order that comes first. ``fingerprint``: "" for an order that changes each time."""

    plan: Node
    at: int
    fingerprint: str


def ordered_plan(plan: Node, order: Order, start: int) -> OrderedPlan:
    """The plan whose rows are those of an order, without pieces that lie before its row ``start``."""
    chain = [plan]
    while len(chain[-1].inputs) == 1 and not isinstance(chain[-1], _OF_ORDER) and not _draws(chain[-1]):
        chain.append(chain[-1].inputs[0])
    *above, leaf = chain
    words = [f"{type(node).__name__} {node.name}" for node in chain]
    counts: Iterator[int | None]
    if isinstance(leaf, nodes.Read):
        source, parallelism = leaf.source, leaf.parallelism if leaf.parallelism > 0 else PIECES
        tasks = list(source.tasks(parallelism))
        keys = [task.key for task in tasks]
    elif isinstance(leaf, nodes.Blocks):
        keys = [f"{block.meta.rows}" for block in leaf.blocks]
    else:
        return OrderedPlan(plan, 0, "")
    places = [int(place) for place in order.pieces(len(keys))]
    at = more = 0
    if start and all(_keeps_rows(node) for node in above):
        if isinstance(leaf, nodes.Read):
            counts = source.counts(tasks[place] for place in places)
        else:
            counts = (leaf.blocks[place].meta.rows for place in places)
        at, skipped = _skipped(counts, start)
        places = places[skipped:]
        if isinstance(leaf, nodes.Read) and places and start > at:
            more = source.behind(tasks[places[0]], start - at)[0]
    made: Node
    if isinstance(leaf, nodes.Read):
        chosen = Chosen(source, parallelism, tuple(places), more)
        made = nodes.Read(chosen, leaf.options, max(1, len(places)))
    else:
        made = nodes.Blocks(tuple(leaf.blocks[place] for place in places), leaf.label)
    for node in reversed(above):
        made = node.with_inputs((made,))
    return OrderedPlan(made, at + more, fingerprint([*words, *keys]))


def _draws(node: Node) -> bool:
    """Whether rows are drawn by the place of their part: in another order of the parts they would be other ones."""
    return isinstance(node, nodes.Apply) and bool(getattr(node.transform, "draws", False))


def _keeps_rows(node: Node) -> bool:
    return isinstance(node, _ROW_BY_ROW) or (isinstance(node, nodes.Apply) and bool(node.transform.keeps_rows))


def _skipped(counts: Iterator[int | None], start: int) -> tuple[int, int]:
    """The rows of the first pieces that lie before a row as wholes, and how many pieces those are. One of unknown
    length is read, and all behind it."""
    at = number = 0
    for rows in counts:
        if rows is None or at + rows > start:
            break
        at, number = at + rows, number + 1
    return at, number


class OrderedPasses(Passes):
    """Passes in the order of a seed."""

    def __init__(self, dataset: Planned, ranks: int, seed: int | None, window: int) -> None:
        super().__init__(dataset, ranks, True)
        self._seed, self._window = seed, window
        dataset.context.execution_options.preserve_order = True

    def _open(self, wanted: tuple[int, int, str]) -> tuple[Any, Any, Any]:
        epoch, start, of_state = wanted
        order = Order(self._seed, epoch, self._window)
        found = ordered_plan(self._dataset.plan, order, order.window_of(start)[1])
        if start and found.fingerprint != of_state:
            raise ValueError(
                "the position that was loaded is of other data: the files, their rows or the steps of the dataset "
                "are not what they were"
            )
        return Copies(self._ranks), self._dataset.begin(found.plan), (found.at, found.fingerprint)


class OrderedIterator(SplitIterator):
    """One rank's rows, in an order that does not depend on the number of ranks.

    `state_dict` says where all ranks are, if each has taken as many batches as this one. With `load_state_dict` the
    next loop goes on there, on any number of ranks. Each further loop is the next epoch."""

    def __init__(self, actor: Any, rank: int, ranks: int, context: DataContext, seed: int | None, window: int) -> None:
        super().__init__(actor, rank, ranks, context)
        self._seed, self._window = seed, window
        self._at = Position("", seed, 0, 0)
        self._is_begun = self._is_drawn = False
        self._each = 1

    def _flow(self) -> SharedFlow:
        return OrderedFlow(self)

    def _batches(self, batch_format: str | None, finish: Callable[[Any], Any] | None, **how: Any) -> Iterable[Any]:
        def counted(raw: Any) -> tuple[Any, int]:
            return (raw if finish is None else finish(raw)), _rows(raw)

        batches = super()._batches(batch_format, counted, **how)

        def begin() -> Iterator[Any]:
            self._begin_epoch(how["batch_size"] or 1)
            self._is_drawn = how.get("local_shuffle_buffer_size") is not None
            for made, rows in batches:
                self._at = self._at._replace(rows=self._at.rows + rows * self._ranks)
                yield made
            self._end_epoch()

        return Again(begin)

    def iter_rows(self) -> Iterable[dict[str, Any]]:
        """This rank's rows, as dicts."""
        rows = super().iter_rows()

        def begin() -> Iterator[dict[str, Any]]:
            self._begin_epoch(1)
            for row in rows:
                self._at = self._at._replace(rows=self._at.rows + self._ranks)
                yield row
            self._end_epoch()

        return Again(begin)

    def _begin_epoch(self, each: int) -> None:
        if self._is_begun:
            self._at = self._at._replace(epoch=self._at.epoch + 1, rows=0)
        self._is_begun, self._each = True, each

    def _end_epoch(self) -> None:
        self._at = self._at._replace(epoch=self._at.epoch + 1, rows=0)
        self._is_begun = False

    @property
    def epoch(self) -> int:
        """The epoch of this loop, or of the next one."""
        return self._at.epoch

    def state_dict(self) -> dict[str, Any]:
        """Where all ranks are, for a checkpoint: less than 1 kB.

        Raises ValueError for a dataset whose order is another one each time."""
        if self._at.rows and self._is_drawn:
            raise ValueError(
                "with local_shuffle_buffer_size an epoch cannot go on in its middle: use DataConfig(shuffle_seed=...), "
                "or save at the end of an epoch"
            )
        if self._at.rows and not self._at.fingerprint:
            raise ValueError(
                "in the middle of an epoch there is no position in a dataset that is shuffled, limited, sampled, "
                "joined or put together of several: materialize() it first, or save at the end of an epoch"
            )
        return self._at.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next loop goes on there, in the order of the state's seed.

        Raises ValueError for what is no state, or one of another seed. The loop raises ValueError for other data."""
        found = position_of(state)
        if found.seed != self._seed:
            raise ValueError(f"the state has the order of seed {found.seed}, and the dataset that of {self._seed}")
        self._at, self._is_begun = found, False


def _rows(raw: Any) -> int:
    if isinstance(raw, dict):
        return len(next(iter(raw.values()), ()))
    return len(raw) if not isinstance(raw, pa.Table) else int(raw.num_rows)


class OrderedFlow(SharedFlow):
    """The tables of a rank in one pass."""

    def __init__(self, iterator: OrderedIterator) -> None:
        super().__init__(iterator._actor, iterator._rank)
        self._iterator, self._start = iterator, iterator._at

    def _wanted(self) -> tuple[int, int, str]:
        return self._start.epoch, self._start.rows, self._start.fingerprint

    def _cut(self, tables: Iterator[pa.Table], told: tuple[int, str]) -> Iterator[pa.Table]:
        at, mark = told
        one = self._iterator
        one._at = one._at._replace(fingerprint=mark)
        order = Order(one._seed, self._start.epoch, one._window)
        cut = RankRows(order, one._rank, one._ranks, one._each * one._ranks, self._start.rows, at)
        for table in tables:
            yield from cut.add(table)
        yield from cut.end()


def ordered_split(dataset: Planned, ranks: int, seed: int | None, window: int) -> list[OrderedIterator]:
    """An iterator for each rank. Raises ValueError for a window below 1."""
    if window < 1:
        raise ValueError(f"the window of a shuffle has at least one row, not {window}")
    actor = coordinate(OrderedPasses, ranks, dataset, ranks, seed, window)
    return [OrderedIterator(actor, rank, ranks, dataset.context, seed, window) for rank in range(ranks)]
