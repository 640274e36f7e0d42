"""Plans as text: what was asked for, and which operators would run."""

from __future__ import annotations

from hpc.data.plan import nodes
from hpc.data.plan.joining import joins_in_reads
from hpc.data.plan.nodes import Node, Options, Pool
from hpc.data.plan.physical import Stage

#: What operators other than tasks and pools of actors are called.
_KINDS = {
    nodes.Blocks: "InputDataBuffer",
    nodes.Limit: "LimitOperator",
    nodes.Union: "UnionOperator",
    nodes.Zip: "ZipOperator",
    nodes.Mix: "MixOperator",
    nodes.RandomizeBlocks: "RandomizeBlocksOperator",
    nodes.Exchanged: "ExchangeOperator",
}


def step(node: Node) -> str:
    """One step of a logical plan, in a word."""
    if isinstance(node, nodes.Limit):
        return f"limit={node.rows}"
    if isinstance(node, (nodes.Select, nodes.Rename, nodes.WithColumns)):
        return "Project"
    if isinstance(node, nodes.Drop):
        return "MapBatches(drop_columns)"
    if isinstance(node, nodes.Filter):
        return f"Filter({node.expr})"
    if isinstance(node, nodes.RandomizeBlocks):
        return "RandomizeBlockOrder"
    if isinstance(node, nodes.Resize):
        return "StreamingRepartition"
    return node.name


def logical(node: Node, depth: int = 0) -> str:
    """All steps of a plan, each under the step that it is for, with the kind of each."""
    text = step(node)
    kind = "Read" if isinstance(node, nodes.Read) else text.partition("(")[0].partition("[")[0]
    kind = "Limit" if isinstance(node, nodes.Limit) else kind
    lines = [f"{_indent(depth)}{kind}[{text}]{_pushed(node)}"]
    return "\n".join([*lines, *(logical(one, depth + 1) for one in node.inputs)])


def operators(stage: Stage, depth: int = 0) -> str:
    """The operators, each under the one that takes its blocks: how each runs, and what one task or actor wants."""
    lines = [f"{_indent(depth)}{_kind(stage)}[{stage.name}]{_how(stage)}"]
    if isinstance(stage.node, nodes.Read):
        lines.append(f"{_indent(depth + 1)}InputDataBuffer[Input]")
    return "\n".join([*lines, *(operators(one, depth + 1) for one in stage.inputs)])


def _indent(depth: int) -> str:
    return "   " * (depth - 1) + "+- " if depth else ""


def _kind(stage: Stage) -> str:
    if stage.pool is not None:
        return "ActorPoolMapOperator"
    return _KINDS.get(type(stage.node), "TaskPoolMapOperator")


def _how(stage: Stage) -> str:
    facts = []
    if stage.pool is not None:
        facts.append(_actors(stage.pool))
    elif stage.options.concurrency is not None:
        facts.append(f"at most {stage.options.concurrency} tasks")
    facts += _wants(stage.options)
    if stage.bundle_rows is not None:
        facts.append(f"blocks of {stage.bundle_rows} rows together")
    side = joins_in_reads(stage)
    if side is not None:
        facts.append(f"the tasks that read the {('left', 'right')[side]} side do it, if the other one is small")
    if not stage.repeatable:
        facts.append("blocks are taken when all are made")
    return f" ({', '.join(facts)})" if facts else ""


def _actors(pool: Pool) -> str:
    if pool.most == pool.least:
        text = f"{pool.least} actor{'s' if pool.least > 1 else ''}"
    else:
        text = f"{pool.least} actors or more" if pool.most is None else f"{pool.least} to {pool.most} actors"
    if pool.initial is not None and pool.initial != pool.least:
        text += f", {pool.initial} at first"
    return text if pool.concurrent == 1 else f"{text}, {pool.concurrent} calls at a time in each"


def _wants(options: Options) -> list[str]:
    facts = [f"{options.num_cpus:g} CPU each"] if options.num_cpus is not None else []
    facts += [f"{options.num_gpus:g} GPU each"] if options.num_gpus else []
    facts += [f"{options.memory:,} bytes of memory each"] if options.memory is not None else []
    return facts + [f"{name}: {amount} each" for name, amount in (options.remote.get("resources") or {}).items()]


def _pushed(node: Node) -> str:
    """What a source gives less than all of: columns, rows that a filter keeps, a number of rows."""
    narrow = getattr(getattr(getattr(node, "source", None), "reading", None), "narrow", None)
    if narrow is None:
        return ""
    facts = [] if narrow.columns is None else [f"columns {', '.join(narrow.columns) or 'none'}"]
    facts += [f"where {' and '.join(str(one) for one in narrow.filters)}"] if narrow.filters else []
    facts += [] if narrow.limit is None else [f"{narrow.limit} rows at most"]
    return f" ({'; '.join(facts)})" if facts else ""
