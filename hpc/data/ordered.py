"""Passes in an order that depends on a seed and the epoch alone. Ranks of any number go on in the middle of one.

One actor runs the dataset in that order. Each rank gets all blocks as references, and takes its rows of each global
batch. So each file is read once, and no row moves more than it has to within a node.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow as pa

from hpc.data.behind import Chosen, without_first
from hpc.data.consume.order import Order, RankRows
from hpc.data.consume.position import Position, fingerprint, position_of
from hpc.data.consume.sharing import Copies, Equal, check_equal
from hpc.data.context import DataContext
from hpc.data.exec.build import DRAWING_CPUS, parallelism
from hpc.data.iterator import Again
from hpc.data.plan import nodes
from hpc.data.plan.nodes import Node
from hpc.data.plan.optimize import optimized
from hpc.data.plan.steady import draws, steady
from hpc.data.planned import Planned, with_seeds
from hpc.data.split import Passes, SharedFlow, SplitIterator, coordinate
from hpc.data.transform.sample import RandomSample

#: Pieces of a source whose user has no wish: the order must not depend on the machine.
PIECES = 256
#: The inputs of a union come in so many parts in all, in turns, where the order is a random one.
UNION_PARTS = 24
#: Which of the random orders of a seed and an epoch it is: that of the parts of a union, and numbers that nodes without
#: a seed get. The pieces of the first source have 0.
_OF_PARTS, _OF_SEEDS = 1 << 20, 1 << 21


class OrderedPlan(NamedTuple):
    """``rows``: the plan of all rows in their order. ``fingerprint``: of what data."""

    rows: Node
    fingerprint: str


def ordered_plan(plan: Node, order: Order, context: Any = None) -> OrderedPlan:
    """The plan whose rows are those of an order, and come alike in each session."""
    pieces = _Pieces(order, context)
    made = pieces.ordered(steady(optimized(plan)))
    return OrderedPlan(made, fingerprint([*pieces.words, *pieces.keys]))


class _Pieces:
    """Goes through a plan, and puts the pieces of its sources in the order of a seed and an epoch.

    It does so where that only changes the order of the rows."""

    def __init__(self, order: Order, context: Any) -> None:
        self._order, self._context = order, context
        #: What tells the plan from others: its nodes, and the pieces of its sources.
        self.words: list[str] = []
        self.keys: list[str] = []
        self._leaves = 0

    def ordered(self, node: Node, moves: bool = True) -> Node:
        """``moves``: the pieces below may come in another order."""
        self.words.append(_word(node))
        if isinstance(node, nodes.Read):
            return self._read(node, moves)
        if isinstance(node, nodes.Blocks):
            places = self._places(len(node.blocks), moves)
            rows = [block.meta.rows for block in node.blocks]
            moves = moves and self._order.seed is not None
            self.keys += [f"{count}" for count in (rows if moves else [sum(rows)])]
            return nodes.Blocks(tuple(node.blocks[place] for place in places), node.label)
        moves = moves and not _is_of_order(node)
        inputs = tuple(self.ordered(one, moves) for one in node.inputs)
        if isinstance(node, nodes.Union) and moves and self._order.seed is not None:
            return self._in_turns(inputs)
        return node.with_inputs(inputs)

    def _places(self, count: int, moves: bool) -> list[int]:
        leaf, self._leaves = self._leaves, self._leaves + 1
        return [int(place) for place in self._order.pieces(count, leaf)] if moves else [*range(count)]

    def _read(self, node: nodes.Read, moves: bool) -> Node:
        wished = node.parallelism
        if moves and wished <= 0:
            wished = PIECES
        elif wished <= 0:  # what rows are drawn from is cut as in other runs
            wished = parallelism(node, self._context, DRAWING_CPUS)
        tasks = list(node.source.tasks(wished))
        self.keys += [task.key for task in tasks]
        places = self._places(len(tasks), moves)
        return replace(node, source=Chosen(node.source, tasks, tuple(places), wished), parallelism=wished)

    def _in_turns(self, inputs: tuple[Node, ...]) -> Node:
        """A union whose inputs come in turns, in parts of several pieces each. Otherwise hardly any window would have
        rows of two of them."""
        most = max(1, UNION_PARTS // len(inputs))
        parts = [part for one in inputs for part in _parts(one, most)]
        return nodes.Union(tuple(parts[int(place)] for place in self._order.pieces(len(parts), _OF_PARTS)))


def _is_of_order(node: Node) -> bool:
    """Whether the node gives other rows, and not only another order, where those below come in another order."""
    if isinstance(node, nodes.Mix):
        return node.stop == "shortest"
    return isinstance(node, (nodes.Exchanged, nodes.RandomizeBlocks, nodes.Limit, nodes.Zip)) or draws(node)


def _parts(node: Node, most: int) -> list[Node]:
    """A plan as several, at most so many, one after the other."""
    if isinstance(node, nodes.Read) and isinstance(node.source, Chosen):
        source = node.source
        return [replace(node, source=source.part(some)) for some in _runs(source.places, most)]
    if isinstance(node, nodes.Blocks):
        return [replace(node, blocks=some) for some in _runs(node.blocks, most)]
    plain = len(node.inputs) == 1 and not _is_of_order(node) and getattr(node, "pool", None) is None
    return [node.with_inputs((part,)) for part in _parts(node.inputs[0], most)] if plain else [node]


def _runs(things: tuple[Any, ...], most: int) -> list[tuple[Any, ...]]:
    count = max(1, min(most, len(things)))
    ends = [number * len(things) // count for number in range(count + 1)]
    return [things[start:stop] for start, stop in itertools.pairwise(ends)]


def _word(node: Node) -> str:
    seed = getattr(getattr(node, "exchange", node), "seed", None)
    return f"{type(node).__name__} {node.name}" + ("" if seed is None else f" {seed}")


def with_own_seeds(plan: Node, order: Order, drawn: int) -> Node:
    """The plan in which each node that wants a random order and has no seed gets one.

    That comes of the order's seed and epoch, or of a number that was drawn."""
    numbers = itertools.count()

    def seeded(one: Any) -> Any:
        key = order.key(_OF_SEEDS, drawn, next(numbers))
        return replace(one, seed=key)

    def visit(node: Node) -> Node:
        made: Any = node.with_inputs(tuple(map(visit, node.inputs))) if node.inputs else node
        if isinstance(made, nodes.RandomizeBlocks) and made.seed is None:
            return seeded(made)
        if isinstance(made, nodes.Exchanged) and getattr(made.exchange, "seed", 0) is None:
            return replace(made, exchange=seeded(made.exchange))
        if isinstance(made, nodes.Apply) and isinstance(made.transform, RandomSample) and made.transform.seed is None:
            sample = RandomSample(made.transform.fraction, order.key(_OF_SEEDS, drawn, next(numbers)))
            return replace(made, transform=sample)
        return made

    return visit(plan)


class OrderedPasses(Passes):
    """Passes in the order of a seed."""

    def __init__(self, dataset: Planned, ranks: int, seed: int | None, window: int) -> None:
        super().__init__(dataset, ranks, "drop")
        self._seed, self._window = seed, window
        dataset.context.execution_options.preserve_order = True

    def _open(self, wanted: tuple[int, int, str, int | None]) -> tuple[Any, Any, Any]:
        epoch, start, of_state, of_pass = wanted
        order = Order(self._seed, epoch, self._window)
        drawn = secrets.randbits(48) if of_pass is None else of_pass
        plan = with_own_seeds(with_seeds(self._dataset.plan, epoch), order, drawn)
        found = ordered_plan(plan, order, self._dataset.context)
        if start and found.fingerprint != of_state:
            raise ValueError(
                "the position that was loaded is of other data: the files, their rows or the steps of the dataset "
                "are not what they were"
            )
        rows = without_first(found.rows, order.window_of(start)[1])
        return Copies(self._ranks), self._dataset.begin(rows, epoch), (found.fingerprint, drawn)


class OrderedIterator(SplitIterator):
    """One rank's rows, in an order that does not depend on the number of ranks.

    `state_dict` says where all ranks are, if each has taken as many batches as this one. With `load_state_dict` the
    next loop goes on there, on any number of ranks. Each further loop is the next epoch."""

    def __init__(
        self, actor: Any, rank: int, ranks: int, context: DataContext, seed: int | None, window: int, equal: Equal
    ) -> None:
        super().__init__(actor, rank, ranks, context)
        self._seed, self._window, self._equal = seed, window, equal
        self._at = Position("", seed, 0, 0)
        self._is_begun = self._is_drawn = False
        self._each = 1

    def _flow(self) -> SharedFlow:
        self._last = OrderedFlow(self)
        return self._last

    def _batches(self, batch_format: str | None, finish: Callable[[Any], Any] | None, **how: Any) -> Iterable[Any]:
        def counted(raw: Any) -> tuple[Any, int]:
            return (raw if finish is None else finish(raw)), _rows(raw)

        batches = super()._batches(batch_format, counted, **how)

        def begin() -> Iterator[Any]:
            self._begin_epoch(how["batch_size"] or 1)
            self._is_drawn = how.get("local_shuffle_buffer_size") is not None
            for made, rows in batches:
                # A shorter batch is the last one, of all ranks: others may have a row more.
                self._at = self._at._replace(rows=self._at.rows + max(rows, self._each) * self._ranks)
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
            self._at = self._at.next_epoch()
        self._is_begun, self._each = True, each

    def _end_epoch(self) -> None:
        self._at = self._at.next_epoch()
        self._is_begun = False

    @property
    def epoch(self) -> int:
        """The epoch of this loop, or of the next one."""
        return self._at.epoch

    def state_dict(self) -> dict[str, Any]:
        """Where all ranks are, for a checkpoint: less than 1 kB.

        Raises ValueError in the middle of an epoch that is shuffled by ``local_shuffle_buffer_size``."""
        if self._at.rows and self._is_drawn:
            raise ValueError(
                "with local_shuffle_buffer_size an epoch cannot go on in its middle: use DataConfig(shuffle_seed=...), "
                "or save at the end of an epoch"
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

    def _wanted(self) -> tuple[int, int, str, int | None]:
        start = self._start
        return start.epoch, start.rows, start.fingerprint, start.drawn

    def _cut(self, tables: Iterator[pa.Table], told: tuple[str, int]) -> Iterator[pa.Table]:
        one = self._iterator
        one._at = one._at._replace(fingerprint=told[0], drawn=told[1])
        order = Order(one._seed, self._start.epoch, one._window)
        cut = RankRows(order, one._rank, one._ranks, one._each * one._ranks, self._start.rows, one._equal)
        for table in tables:
            yield from cut.add(table)
        yield from cut.end()


def ordered_split(
    dataset: Planned, ranks: int, seed: int | None, window: int, equal: Equal = "drop"
) -> list[OrderedIterator]:
    """An iterator for each rank. Raises ValueError for a window below 1, and for no way of ``equal``."""
    check_equal(equal)
    if window < 1:
        raise ValueError(f"the window of a shuffle has at least one row, not {window}")
    actor = coordinate(OrderedPasses, ranks, dataset, ranks, seed, window)
    return [OrderedIterator(actor, rank, ranks, dataset.context, seed, window, equal) for rank in range(ranks)]
