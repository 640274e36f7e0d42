"""A plan without its first rows, of which as few as possible are read.

Parts of a source that lie before are left out where metadata tells their rows, and each step keeps the number of rows.
So it is with the inputs of a union, and with those of a zip and a mix, each by its share. An exchange is made
as a whole: its first rows are thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow as pa

from hpc.data import facts
from hpc.data.expr.special import MonotonicallyIncreasingIdExpr
from hpc.data.io.source import Estimate, Source, SourceTask
from hpc.data.plan import nodes
from hpc.data.plan.nodes import Node
from hpc.data.plan.steady import draws

#: Nodes that give a row for each row of their input, in its order.
_ROW_BY_ROW = (nodes.Select, nodes.Drop, nodes.Rename, nodes.WithColumns, nodes.Resize)


class Chosen(Source):
    """Some tasks of another source, in another order. The first is without ``before`` rows, if it can do so."""

    def __init__(
        self, source: Source, tasks: list[SourceTask], places: tuple[int, ...], parallelism: int, before: int = 0
    ) -> None:
        self._source, self._tasks, self._parallelism, self._before = source, tasks, parallelism, before
        self.places = places
        self.name = source.name

    def estimate(self) -> Estimate:
        return self._source.estimate()

    def schema(self) -> pa.Schema | None:
        return self._source.schema()

    def count(self) -> int | None:
        rows = list(self.counts(self.chosen()))
        known = [one for one in rows if one is not None]
        return sum(known) - self._before if len(known) == len(rows) else None

    def files(self) -> list[str]:
        return self._source.files()

    def chosen(self) -> list[SourceTask]:
        """Its tasks, whole."""
        return [self._tasks[place] for place in self.places]

    def part(self, places: tuple[int, ...]) -> Chosen:
        """The same with these of its tasks."""
        return Chosen(self._source, self._tasks, places, self._parallelism)

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        for number, task in enumerate(self.chosen()):
            yield self._source.behind(task, self._before)[1] if number == 0 and self._before else task

    def counts(self, tasks: Any) -> Iterator[int | None]:
        return self._source.counts(tasks)

    def with_columns(self, names: list[str]) -> Source | None:
        narrowed = self._source.with_columns(names)
        if narrowed is None:
            return None
        return Chosen(narrowed, list(narrowed.tasks(self._parallelism)), self.places, self._parallelism, self._before)

    def behind_rows(self, rows: int) -> tuple[Source | None, int]:
        """Itself without the tasks, and what else need not be read, of its first rows; and how many are left over."""
        at = gone = 0
        chosen = self.chosen()
        for count in self.counts(chosen):
            if count is None or at + count > rows:
                break
            at, gone = at + count, gone + 1
        places = self.places[gone:]
        if not places:
            return None, rows - at
        more = self._source.behind(chosen[gone], rows - at)[0] if rows > at else 0
        return Chosen(self._source, self._tasks, places, self._parallelism, more), rows - at - more


class Rest(NamedTuple):
    """What is left of a plan (None: nothing), and how many of its rows are yet to be left out."""

    plan: Node | None
    rows: int


def without_first(plan: Node, rows: int) -> Node:
    """The plan without its first rows."""
    rest = _behind(plan, rows) if rows else Rest(plan, 0)
    if rest.plan is None:
        return nodes.Limit(plan, 0)
    return nodes.Skip(rest.plan, rest.rows) if rest.rows else rest.plan


def _behind(node: Node, rows: int) -> Rest:
    if not rows:
        return Rest(node, 0)
    if isinstance(node, nodes.Read) and isinstance(node.source, Chosen):
        source, left = node.source.behind_rows(rows)
        return Rest(None if source is None else replace(node, source=source), left)
    if isinstance(node, nodes.Blocks):
        gone = 0
        while gone < len(node.blocks) and node.blocks[gone].meta.rows <= rows:
            rows, gone = rows - node.blocks[gone].meta.rows, gone + 1
        return Rest(replace(node, blocks=node.blocks[gone:]) if gone < len(node.blocks) else None, rows)
    if keeps_rows(node):
        (below,) = node.inputs
        rest = _behind(below, rows)
        return rest if rest.plan is None else rest._replace(plan=node.with_inputs((rest.plan,)))
    if isinstance(node, nodes.Union):
        return _behind_union(node, rows)
    if isinstance(node, nodes.Zip):
        return _behind_zip(node, rows)
    if isinstance(node, nodes.Mix):
        return _behind_mix(node, rows)
    if isinstance(node, nodes.Limit) and rows < node.rows:
        rest = _behind(node.input, rows)
        gone = rows - rest.rows
        return rest if rest.plan is None else Rest(replace(node, input=rest.plan, rows=node.rows - gone), rest.rows)
    if isinstance(node, nodes.Skip):
        return _behind(node.input, rows + node.rows)
    return Rest(node, rows)


def keeps_rows(node: Node) -> bool:
    """Whether each row of its input gives one row, in the same order, whichever rows come before it."""
    if draws(node) or (isinstance(node, nodes.WithColumns) and any(map(_counts, node.columns))):
        return False
    return isinstance(node, _ROW_BY_ROW) or (isinstance(node, nodes.Apply) and bool(node.transform.keeps_rows))


def _counts(column: tuple[str, Any]) -> bool:
    """Whether a column has the numbers of rows."""
    return any(isinstance(one, MonotonicallyIncreasingIdExpr) for one in column[1].walk())


def _behind_union(node: nodes.Union, rows: int) -> Rest:
    for place, one in enumerate(node.nodes):
        rest = _behind(one, rows)
        rows = rest.rows
        if rest.plan is not None:
            left = (rest.plan, *node.nodes[place + 1 :])
            return Rest(left[0] if len(left) == 1 else replace(node, nodes=left), rows)
    return Rest(None, rows)


def _behind_zip(node: nodes.Zip, rows: int) -> Rest:
    """All sides have as many rows: what is left out of one for sure may be left out of all."""
    rests = [_behind(one, rows) for one in node.nodes]
    ended = [rest.rows for rest in rests if rest.plan is None]
    if ended:
        return Rest(None, min(ended))
    left = min(rest.rows for rest in rests)
    return Rest(replace(node, nodes=tuple(without_first(one, rows - left) for one in node.nodes)), left)


def _behind_mix(node: nodes.Mix, rows: int) -> Rest:
    """Blocks of a number of rows each come in turns: whose turn it is when so many rows have come can be computed."""
    counts = [facts.rows_of(one) for one in node.nodes]
    sizes = [one.rows if isinstance(one, nodes.Resize) and one.strict else 0 for one in node.nodes]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts) or not all(sizes) or node.given:
        return Rest(node, rows)
    given, left = [0] * len(known), rows
    while True:
        live = [port for port, count in enumerate(known) if given[port] < count]
        if not live or (node.stop == "shortest" and len(live) < len(known)):
            return Rest(None, left)
        port = min(live, key=lambda one: (given[one] / node.weights[one], one))
        block = min(sizes[port], known[port] - given[port])
        if block > left:
            # Rows are left out before blocks are cut, so that these end where they did.
            inputs = tuple(
                one.with_inputs((without_first(one.inputs[0], taken),)) for one, taken in zip(node.nodes, given)
            )
            return Rest(replace(node, nodes=inputs, given=tuple(given)), left)
        given[port], left = given[port] + block, left - block
