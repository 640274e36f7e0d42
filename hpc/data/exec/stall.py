"""Why a run stands still, in words: which operator waits, and for what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hpc.data.exec.operators import Operator
from hpc.data.exec.pool import ActorSet
from hpc.data.exec.waits import Wait
from hpc.data.exec.work import WorkState


def why_stands(ops: Sequence[Operator], pools: Mapping[int, ActorSet], why: Callable[[Operator], Wait]) -> str:
    """A sentence for each operator with something to do; "" where code of the user runs, which may take its time."""
    lines = []
    for op in reversed(ops):
        if op.told_over or op.down is None:
            continue
        running = [work for work in op.running.values() if work.state is WorkState.BEGUN and not work.paused]
        if running:
            return ""
        line = _line(op, pools.get(op.index), why(op))
        if line:
            lines.append(f"{op.name}: {line}")
    return "; ".join(lines)


def _line(op: Operator, pool: ActorSet | None, wait: Wait) -> str:
    if pool is not None and not any(actor.is_up for actor in pool.actors.values()) and pool.starting:
        return f"{pool.starting} actors have not begun: they want {needs(op)} each, or their constructor has not ended"
    begun = sum(work.state is WorkState.BEGUN for work in op.running.values())
    if op.running and begun < len(op.running):
        return f"{len(op.running) - begun} tasks have not begun; they want {needs(op)} each"
    if begun:
        return f"{begun} tasks wait until their blocks are taken"
    return f"waits for {wait.value}" if wait not in (Wait.NOTHING, Wait.INPUT) else ""


def needs(op: Operator) -> str:
    """What a task or an actor of it wants, in words."""
    use = op.options
    cpus = (0 if use.num_gpus else 1) if use.num_cpus is None else use.num_cpus
    parts = [f"{cpus:g} CPU"] if cpus else []
    parts += [f"{use.num_gpus:g} GPU"] if use.num_gpus else []
    parts += [f"{name}: {amount}" for name, amount in (use.remote.get("resources") or {}).items()]
    return ", ".join(parts) or "no CPU"
