"""The physical plan: which nodes run together in one task, and which are an operator of their own.

Nodes that take one row or batch after the other are *fused*. Rows go through all of their transforms inside of one
task, and never through the store in between. Nodes that want other resources, or actors, are operators of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hpc.data.plan.chains import limit_of, transform_of
from hpc.data.plan.nodes import (
    Apply,
    Blocks,
    Drop,
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
from hpc.data.transform.base import Transform

PLAIN = Options()
#: Nodes that become a transform.
CHAINED = (Apply, Filter, Select, Drop, Rename, WithColumns, Write)


@dataclass(frozen=True)
class Stage:
    """One operator. ``node`` says which: a `Read`, a node of several inputs, ..., or the first of a chain.

    chain: what its tasks do with each part. bundle_rows: see `Apply`. repeatable: that its tasks may be tried again."""

    node: Node
    inputs: tuple[Stage, ...] = ()
    names: tuple[str, ...] = ()
    chain: tuple[Transform, ...] = ()
    options: Options = PLAIN
    pool: Pool | None = None
    bundle_rows: int | None = None
    repeatable: bool = True

    @property
    def name(self) -> str:
        """The names of all that is fused in it."""
        return "->".join(self.names)

    @property
    def is_chain(self) -> bool:
        """Whether transforms can be added to it."""
        return isinstance(self.node, (Read, *CHAINED))


def physical(plan: Node, fuses: bool = True) -> Stage:
    """The stages of a plan. Without ``fuses`` each node is one of its own, as people see the plan before that."""
    if isinstance(plan, CHAINED):
        return _chained(plan, physical(plan.input, fuses), fuses)
    if isinstance(plan, Limit):
        below = physical(plan.input, fuses)
        if fuses and below.is_chain and plan.rows:
            below = replace(
                below, chain=(*below.chain, limit_of(plan.rows))
            )  # no part gives more than all together may
        return Stage(plan, (below,), (f"Limit[{plan.rows}]",))
    if isinstance(plan, Read):
        return Stage(plan, (), (plan.name,), (), plan.options)
    if isinstance(plan, Blocks):
        return Stage(plan, (), (plan.name,))
    options = getattr(plan, "options", Options())
    return Stage(plan, tuple(physical(one, fuses) for one in plan.inputs), (plan.name,), (), options)


def _chained(node: Node, below: Stage, fuses: bool) -> Stage:
    options = getattr(node, "options", Options())
    pool = node.pool if isinstance(node, Apply) else None
    transform = transform_of(node)
    repeatable = not isinstance(node, Apply) or node.repeatable
    # A write of so many rows at least takes blocks of several tasks.
    least = getattr(node.sink, "min_rows_per_write", None) if isinstance(node, Write) else None
    if fuses and least is None and below.is_chain and _fits(below, options, pool):
        return replace(
            below,
            names=(*below.names, node.name),
            chain=(*below.chain, transform),
            options=options if pool is not None else below.options,
            pool=pool or below.pool,
            repeatable=repeatable and below.repeatable,
        )
    bundle = node.bundle_rows if isinstance(node, Apply) else least
    return Stage(node, (below,), (node.name,), (transform,), options, pool, bundle, repeatable)


def _fits(below: Stage, options: Options, pool: Pool | None) -> bool:
    """Whether a node with these wishes can run in the tasks of the stage below."""
    plain = Options()
    if pool is not None:
        # What costs nothing may go into the actors, but not the reading: few actors would read for all.
        return below.pool is None and below.options == plain and not isinstance(below.node, (Read, Apply))
    return options == below.options or (options == plain and below.pool is not None)
