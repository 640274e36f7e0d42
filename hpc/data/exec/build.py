"""Operators out of the stages of a plan."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from typing import Any

from hpc.data.exec.bodies import ChainBody
from hpc.data.exec.budget import NodeRoom
from hpc.data.exec.loosen import loosen
from hpc.data.exec.operators import Operator
from hpc.data.exec.operators.combine import MixOperator, RandomizeOperator, UnionOperator, ZipOperator
from hpc.data.exec.operators.cutting import CutExchangeOperator, CuttingReadOperator, SampledBody
from hpc.data.exec.operators.exchange import ExchangeOperator
from hpc.data.exec.operators.joining import JoinedBody, JoiningReadOperator, JoinOperator
from hpc.data.exec.operators.maps import (
    BlocksOperator,
    LimitOperator,
    MapOperator,
    OutputOperator,
    ReadOperator,
    ResizeOperator,
    SkipOperator,
)  # fmt: skip
from hpc.data.exec.settings import MIB, RunSettings, block_target
from hpc.data.exec.work import Block
from hpc.data.plan.cutting import CutRead, cut_in_reads
from hpc.data.plan.joining import joins_in_reads
from hpc.data.plan.nodes import (
    Apply,
    Blocks,
    Exchanged,
    Limit,
    Mix,
    Node,
    RandomizeBlocks,
    Read,
    Resize,
    Skip,
    Union,
    Zip,
    walk,
)  # fmt: skip
from hpc.data.plan.optimize import optimized
from hpc.data.plan.physical import Stage, physical, read_for_few
from hpc.data.plan.steady import steady_below_draws

Rooms = Mapping[str, NodeRoom]
#: Into how many parts a source is cut.
PartsOf = Callable[[Read], int]
#: A source that rows are drawn from is cut as for so many CPUs on every machine: a seed draws from each part by itself.
DRAWING_CPUS = 8
#: A task that may join what it reads has so many bytes of it, where there are so many tasks for each CPU: each looks at
#: all of the other side.
JOINED_BYTES, JOINED_PER_CPU = 32 * MIB, 4
#: A task that makes states of what it reads has so many bytes of it, where there are so many tasks for each CPU: it
#: gives a few rows, and to begin it takes as long as to read a MiB.
FEW_BYTES, FEW_PER_CPU = 128 * MIB, 4


def build_operators(
    plan: Node, context: Any, settings: RunSettings, rooms: Mapping[str, NodeRoom]
) -> tuple[list[Operator], RunSettings]:
    """The operators of a plan, inputs before what uses them and the output last; and the settings with the size of
    blocks that suits them."""
    cpus = sum(room.cpus for room in rooms.values())
    plan, drawn = steady_below_draws(optimized(plan))

    few: Set[int] = {id(read) for node in walk(plan) if (read := read_for_few(node)) is not None} - drawn
    if context.max_errored_blocks:
        few = frozenset()  # of what cannot be read, a part is lost as a whole

    def parts_of(read: Read) -> int:
        parts = parallelism(read, context, DRAWING_CPUS if id(read) in drawn else cpus)
        return fewer(read, parts, cpus, FEW_BYTES, FEW_PER_CPU) if id(read) in few else parts

    stage = physical(plan, parts_of=parts_of)
    count = _count(stage)
    store = int(min(settings.store_limit, sum(room.store for room in rooms.values())))
    settings = replace(settings, target_bytes=block_target(settings.target_bytes, store, count))
    ops: list[Operator] = []
    _add(stage, ops, context, settings, rooms, parts_of)
    output = OutputOperator()
    _join(ops[-1], output, 0)
    ops.append(output)
    loosen(ops, not settings.keeps_order)
    return ops, settings


def _count(stage: Stage) -> int:
    return 1 + sum(_count(one) for one in stage.inputs)


def _join(up: Operator, down: Operator, port: int) -> None:
    up.down, up.down_port = down, port
    down.ups.append(up)


def _add(
    stage: Stage, ops: list[Operator], context: Any, settings: RunSettings, rooms: Rooms, parts_of: PartsOf
) -> Operator:
    side = joins_in_reads(stage)
    if side is not None:
        return _add_join(stage, side, ops, context, settings, rooms, parts_of)
    cut = cut_in_reads(stage, sum(room.store for room in rooms.values()), parts_of)
    if cut is not None:
        return _add_cut(stage, cut, ops, settings, rooms, parts_of)
    ups = [_add(one, ops, context, settings, rooms, parts_of) for one in stage.inputs]
    op = _operator(stage, settings, rooms, parts_of)
    for port, up in enumerate(ups):
        _join(up, op, port)
    ops.append(op)
    return op


def _add_join(
    stage: Stage, side: int, ops: list[Operator], context: Any, settings: RunSettings, rooms: Rooms, parts_of: PartsOf
) -> Operator:
    """A join whose side is read by tasks that may join it."""
    read, node = stage.inputs[side], stage.node
    assert isinstance(node, Exchanged) and isinstance(read.node, Read)
    other = _add(stage.inputs[1 - side], ops, context, settings, rooms, parts_of)
    exchange: Any = node.exchange
    cpus, size = sum(room.cpus for room in rooms.values()), read.node.source.estimate().nbytes or 0
    parts = fewer(read.node, parts_of(read.node), cpus, JOINED_BYTES, JOINED_PER_CPU)
    reader = JoiningReadOperator(
        read.name,
        ChainBody(read.chain, settings.target_bytes),
        JoinedBody(read.chain, exchange.joining, side, stage.chain, settings.target_bytes),
        read.node.source,
        parts,
        read.options,
        size,
    )
    reader.beside.append(other)
    join = JoinOperator(stage.name, exchange, 2, reader=reader, side=side, **_exchange_options(stage, settings, rooms))
    for port in (0, 1):
        _join(reader if port == side else other, join, port)
    ops += [reader, join]
    return join


def _add_cut(
    stage: Stage, cut: CutRead, ops: list[Operator], settings: RunSettings, rooms: Rooms, parts_of: PartsOf
) -> Operator:
    """An exchange whose rows are cut by the tasks that read them."""
    (read,), node = stage.inputs, stage.node
    assert isinstance(node, Exchanged) and isinstance(read.node, Read)
    op = CutExchangeOperator(stage.name, node.exchange, 1, **_exchange_options(stage, settings, rooms))
    parts = parts_of(read.node)
    if read.node.parallelism <= 0:
        parts = min(parts, op.map_tasks(cut.nbytes))
    reader = CuttingReadOperator(
        read.name,
        ChainBody(read.chain, settings.target_bytes),
        None if cut.keys is None else SampledBody(node.exchange, cut.keys),
        read.node.source,
        parts,
        read.options,
    )
    _join(reader, op, 0)
    ops += [reader, op]
    return op


def _exchange_options(stage: Stage, settings: RunSettings, rooms: Rooms) -> dict[str, Any]:
    node = stage.node
    assert isinstance(node, Exchanged)
    return {
        "partitions": node.partitions,
        "options": stage.options,
        "target_bytes": settings.target_bytes,
        "nodes": sorted(rooms),
        "cpus": sum(room.cpus for room in rooms.values()),
        "store": min((room.store for room in rooms.values()), default=0),
        "estimate": bytes_below(node, node),
        "chain": stage.chain,
    }


def _operator(stage: Stage, settings: RunSettings, rooms: Rooms, parts_of: PartsOf) -> Operator:
    node, name = stage.node, stage.name
    options = stage.options
    if stage.is_chain:
        body = ChainBody(stage.chain, settings.target_bytes)
        chain = (
            ReadOperator(name, body, node.source, parts_of(node), options)
            if isinstance(node, Read)
            else MapOperator(name, body, options, stage.pool, stage.bundle_rows)
        )
        chain.numbered = 0 if stage.draws and not isinstance(node, Read) else None
        chain.takes_at_end = not stage.repeatable
        return chain
    if isinstance(node, Blocks):
        return BlocksOperator(name, [Block(one.ref, one.meta) for one in node.blocks])
    if isinstance(node, Limit):
        return LimitOperator(name, node.rows)
    if isinstance(node, Skip):
        return SkipOperator(name, node.rows)
    if isinstance(node, Resize):
        return ResizeOperator(name, node.rows, node.strict)
    if isinstance(node, Union):
        return UnionOperator(name, len(node.nodes))
    if isinstance(node, Zip):
        return ZipOperator(name, len(node.nodes))
    if isinstance(node, Mix):
        return MixOperator(name, node.weights, node.stop == "shortest", node.given)
    if isinstance(node, RandomizeBlocks):
        if node.seed is None:
            return RandomizeOperator(name, random.randrange(1 << 62), is_drawn=True)
        return RandomizeOperator(name, node.seed)
    if isinstance(node, Exchanged):
        return ExchangeOperator(name, node.exchange, len(node.nodes), **_exchange_options(stage, settings, rooms))
    raise TypeError(f"nothing runs {name} yet")


def bytes_below(node: Node, top: Node) -> int | None:
    """How many bytes come into a node, where sources and blocks tell it, and no function of the user's is between."""
    if isinstance(node, Read):
        return node.source.estimate().whole_nbytes
    if isinstance(node, Blocks):
        return sum(one.meta.nbytes for one in node.blocks)
    if isinstance(node, (Apply, Exchanged, Mix)) and node is not top:
        return None
    below = [bytes_below(one, top) for one in node.inputs]
    known = [size for size in below if size is not None]
    return sum(known) if len(known) == len(below) else None


def fewer(read: Read, parts: int, cpus: float, nbytes: int, per_cpu: int) -> int:
    """Into how many of so many parts a source is cut, where parts should have so many bytes, or each CPU so many of
    them. What the user has said holds."""
    size = read.source.estimate().nbytes
    if read.parallelism > 0 or size is None:
        return parts
    return min(parts, max(-(-size // nbytes), int(per_cpu * cpus), 1))


def parallelism(read: Read, context: Any, cpus: float) -> int:
    """Into how many parts a source is cut: those that the user wants, or enough for all CPUs, of a good size."""
    if read.parallelism > 0:
        return read.parallelism
    estimate = read.source.estimate()
    if estimate.nbytes is None:
        return -1
    largest = context.target_max_block_size or 128 * MIB
    few = min(context.read_op_min_num_blocks, estimate.nbytes // max(1, context.target_min_block_size))
    return max(1, int(few), estimate.nbytes // largest, int(2 * cpus))
