"""The physical plan: which nodes run together in one task, and which are an operator of their own.

Nodes that take one row or batch after the other are *fused*. Rows go through all of their transforms inside of one
task, and never through the store in between. Nodes that want other resources, or actors, are operators of their own.

So is a function that wants more rows in a batch than a part has: blocks are brought together for it. Where parts are as
large as a batch, or their rows are not known, it is fused. Then each part ends with a batch that may be smaller.

What follows an exchange is done by its last tasks, where that is cheap: expressions, columns, states of groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hpc.data.expr.functions import UDFExpr
from hpc.data.expr.special import DownloadExpr
from hpc.data.plan.chains import limit_of, transform_of
from hpc.data.plan.nodes import (
    Apply,
    Blocks,
    Drop,
    Exchanged,
    Filter,
    Limit,
    Node,
    Options,
    Pool,
    Read,
    Rename,
    Select,
    WithColumns,
    Write,
)  # fmt: skip
from hpc.data.shuffle.aggregate import PartialGroups
from hpc.data.shuffle.sort import TopRows
from hpc.data.transform.base import Transform

PLAIN = Options()
#: Nodes that become a transform.
CHAINED = (Apply, Filter, Select, Drop, Rename, WithColumns, Write)
#: Expressions that take long for each row.
_OWN_TASKS = (UDFExpr, DownloadExpr)


@dataclass(frozen=True)
class Stage:
    """One operator. ``node`` says which: a `Read`, a node of several inputs, ..., or the first of a chain.

    chain: what its tasks do with each part. bundle_rows: see `Apply`. repeatable: that they give the same again.
    part_rows: how many rows a part has, as far as that is known before the run."""

    node: Node
    inputs: tuple[Stage, ...] = ()
    names: tuple[str, ...] = ()
    chain: tuple[Transform, ...] = ()
    options: Options = PLAIN
    pool: Pool | None = None
    bundle_rows: int | None = None
    repeatable: bool = True
    part_rows: float | None = None

    @property
    def name(self) -> str:
        """The names of all that is fused in it."""
        return "->".join(self.names)

    @property
    def draws(self) -> bool:
        """Whether its tasks draw rows, or numbers, at random."""
        return any(getattr(transform, "draws", False) for transform in self.chain)

    @property
    def is_chain(self) -> bool:
        """Whether transforms can be added to it."""
        return isinstance(self.node, (Read, *CHAINED))


def wished_parts(read: Read) -> int:
    """Into how many parts a source is cut, as the user has said; -1 where that is left to the run."""
    return read.parallelism


#: Parts of a source that have fewer bytes, and do not tell their rows, are brought together for a size of batches.
SMALL_PART_BYTES = 1 << 20


def physical(plan: Node, fuses: bool = True, parts_of: Callable[[Read], int] = wished_parts) -> Stage:
    """The stages of a plan. Without ``fuses`` each node is one of its own, as people see the plan before that.
    ``parts_of``: into how many parts a source is cut; -1: unknown."""
    if isinstance(plan, CHAINED):
        return _chained(plan, physical(plan.input, fuses, parts_of), fuses)
    if isinstance(plan, Limit):
        below = physical(plan.input, fuses, parts_of)
        if fuses and below.is_chain and plan.rows:
            below = replace(
                below, chain=(*below.chain, limit_of(plan.rows))
            )  # no part gives more than all together may
        return Stage(plan, (below,), (f"Limit[{plan.rows}]",))
    if isinstance(plan, Read):
        return Stage(plan, (), (plan.name,), (), plan.options, part_rows=_rows_of_parts(plan, parts_of(plan)))
    if isinstance(plan, Blocks):
        rows = sum(one.meta.rows for one in plan.blocks)
        return Stage(plan, (), (plan.name,), part_rows=rows / max(1, len(plan.blocks)))
    options = getattr(plan, "options", Options())
    return Stage(plan, tuple(physical(one, fuses, parts_of) for one in plan.inputs), (plan.name,), (), options)


def _chained(node: Node, below: Stage, fuses: bool) -> Stage:
    options = getattr(node, "options", Options())
    pool = node.pool if isinstance(node, Apply) else None
    transform = transform_of(node)
    repeatable = not isinstance(node, Apply) or node.repeatable
    # A write of so many rows at least takes blocks of several tasks.
    least = getattr(node.sink, "min_rows_per_write", None) if isinstance(node, Write) else None
    wanted = node.bundle_rows if isinstance(node, Apply) else least
    small = wanted is not None and below.part_rows is not None and below.part_rows < wanted
    drawn = getattr(transform, "draws", False) and not isinstance(below.node, Read)
    if drawn and not all(one.keeps_rows for one in below.chain):
        fuses = False  # a seed goes by the numbers of rows, which only blocks tell
    takes = below.is_chain or (_follows(node) and not drawn and isinstance(below.node, Exchanged))
    if fuses and least is None and not small and takes and _fits(below, options, pool):
        return replace(
            below,
            names=(*below.names, node.name),
            chain=(*below.chain, transform),
            options=options if pool is not None else below.options,
            pool=pool or below.pool,
            repeatable=repeatable and below.repeatable,
        )
    rows = wanted if small else below.part_rows
    return Stage(node, (below,), (node.name,), (transform,), options, pool, wanted, repeatable, rows)


def _follows(node: Node) -> bool:
    """Whether a node is done by the tasks that end an exchange. Functions of users, and what waits for a network, are
    not: these tasks may be fewer than the blocks that they make."""
    if isinstance(node, Apply):
        return isinstance(node.transform, (PartialGroups, TopRows))
    return not isinstance(node, Write) and not takes_long(node)


def read_for_few(node: Node) -> Read | None:
    """The source of which a step keeps states of groups, or first rows, with nothing between that takes long.

    Nobody sees then into how many parts it is cut."""
    if not isinstance(node, Apply) or not isinstance(node.transform, (PartialGroups, TopRows)):
        return None
    below = node.input
    while isinstance(below, (Filter, Select, Drop, Rename, WithColumns)) and not takes_long(below):
        below = below.input
    return below if isinstance(below, Read) and below.options == PLAIN else None


def takes_long(node: Node) -> bool:
    """Whether functions of users, or a network, are asked for the rows of a filter or for columns."""
    exprs = [node.expr] if isinstance(node, Filter) else []
    exprs += [expr for _, expr in node.columns] if isinstance(node, WithColumns) else []
    return any(isinstance(one, _OWN_TASKS) for expr in exprs for one in expr.walk())


def _rows_of_parts(read: Read, parts: int) -> float | None:
    """The rows of a part of a source; None where it does not tell, or only its beginning was looked at. Parts of few
    bytes have few rows, however many: those of small files of texts."""
    known = read.source.estimate()
    if parts <= 0 or known.whole_nbytes is None:
        return None
    if known.rows is None:
        return 1.0 if known.whole_nbytes < parts * SMALL_PART_BYTES else None
    return known.rows / parts


def _fits(below: Stage, options: Options, pool: Pool | None) -> bool:
    """Whether a node with these wishes can run in the tasks of the stage below."""
    plain = Options()
    if pool is not None:
        # What costs nothing may go into the actors, but not the reading: few actors would read for all.
        return below.pool is None and below.options == plain and not isinstance(below.node, (Read, Apply))
    return options == below.options or (options == plain and below.pool is not None)
