"""Which exchanges may have their rows cut by the tasks that read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hpc.data.plan.nodes import Drop, Exchanged, Filter, Node, Read, Rename, Select, WithColumns
from hpc.data.plan.physical import PLAIN, Stage, physical, takes_long
from hpc.data.plan.rules_project import only
from hpc.data.transform.base import Transform

#: Rows are cut as they are read where they have more bytes than one part in so many of the stores.
STORE_SHARE = 2


class KeysRead(NamedTuple):
    """How samples are read: these columns of each part, and what is done with them."""

    columns: tuple[str, ...]
    chain: tuple[Transform, ...]


class CutRead(NamedTuple):
    """How an exchange is cut as its rows are read. ``keys`` is None for one that needs no samples."""

    nbytes: int
    keys: KeysRead | None


def cut_in_reads(stage: Stage, store: int, parts_of: Callable[[Read], int]) -> CutRead | None:
    """How the rows of an exchange are cut by the tasks that read them; None: they are not. Nothing would
    be saved where a store of so many bytes has room for all rows, and for what is made of them."""
    node = stage.node
    if not isinstance(node, Exchanged) or stage.options != PLAIN or len(stage.inputs) != 1:
        return None
    (below,), exchange = stage.inputs, node.exchange
    is_read = isinstance(below.node, Read) and below.pool is None and below.bundle_rows is None
    if not is_read or not below.repeatable or below.draws or not exchange.cut_by_reads:
        return None
    source: Any = below.node.source  # type: ignore[attr-defined]
    size = source.estimate().whole_nbytes
    if size is None or size <= max(store // STORE_SHARE, exchange.few_bytes):
        return None
    if exchange.needs == "nothing":
        keeps = all(transform.keeps_rows for transform in below.chain)
        return CutRead(size, None) if keeps or not exchange.in_order else None
    keys = _keys(node.nodes[0], exchange.columns_looked_at, parts_of) if source.reads_columns_alone else None
    return None if keys is None else CutRead(size, keys)


def _keys(node: Node, names: tuple[str, ...], parts_of: Callable[[Read], int]) -> KeysRead | None:
    """How to read these columns of what a node gives; None where functions of users would run twice for it."""
    at = node
    while not isinstance(at, Read):
        if not isinstance(at, (Filter, Select, Drop, Rename, WithColumns)) or takes_long(at):
            return None
        (at,) = at.inputs
    stage = physical(only(node, dict.fromkeys(names)), parts_of=parts_of)
    schema = stage.node.source.schema() if isinstance(stage.node, Read) else None
    return None if schema is None else KeysRead(tuple(schema.names), stage.chain)
