"""Why a run stands still, in words: which operator waits, and for what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from hpc.data.exec.operators import Operator
from hpc.data.exec.pool import ActorSet
from hpc.data.exec.waits import Wait
from hpc.data.exec.work import WorkState

#: What each node has free, and in all, by resource.
Free: TypeAlias = Sequence[tuple[Mapping[str, float], Mapping[str, float]]]


def why_stands(
    ops: Sequence[Operator],
    pools: Mapping[int, ActorSet],
    why: Callable[[Operator], Wait],
    free: Free = (),
    now: float = 0.0,
) -> str:
    """A sentence for each operator with something to do; "" where code of the user runs, which may take its time."""
    lines = []
    for op in reversed(ops):
        if op.told_over or op.down is None:
            continue
        running = [work for work in op.running.values() if work.state is WorkState.BEGUN and not work.paused]
        if running:
            return ""
        line = _line(op, pools.get(op.index), why(op), free, now)
        if line:
            lines.append(f"{op.name}: {line}")
    return "; ".join(lines)


def _line(op: Operator, pool: ActorSet | None, wait: Wait, free: Free, now: float) -> str:
    if pool is not None and not any(actor.is_up for actor in pool.actors.values()) and pool.starting:
        return why_no_actor(pool, free, now)
    begun = sum(work.state is WorkState.BEGUN for work in op.running.values())
    if op.running and begun < len(op.running):
        return f"{len(op.running) - begun} tasks have not begun; they want {needs(op)} each{_lacks(op, free)}"
    if begun:
        return f"{begun} tasks wait until their blocks are taken"
    return f"waits for {wait.value}" if wait not in (Wait.NOTHING, Wait.INPUT) else ""


def why_no_actor(pool: ActorSet, free: Free, now: float) -> str:
    """Why actors of a pool that were started are not up: they have no place, or their constructors have not ended."""
    placed = [actor.placed_at for actor in pool.actors.values() if not actor.is_up and actor.placed_at is not None]
    parts = []
    if pool.starting > len(placed):
        op = pool.op
        parts.append(
            f"{pool.starting - len(placed)} actors have no place: they want {needs(op)} each{_lacks(op, free)}"
        )
    if placed:
        parts.append(f"the constructors of {len(placed)} actors have not ended, after {now - min(placed):.0f} s")
    return ", and ".join(parts)


def wants(op: Operator) -> dict[str, float]:
    """What a task or an actor of it wants, by resource."""
    use = op.options
    cpus = (0 if use.num_gpus else 1) if use.num_cpus is None else use.num_cpus
    found = {"CPU": cpus, "GPU": use.num_gpus or 0, **(use.remote.get("resources") or {})}
    return {name: amount for name, amount in found.items() if amount}


def needs(op: Operator) -> str:
    """The same in words."""
    told = [
        f"{amount:g} {name}" if name in ("CPU", "GPU") else f"{name}: {amount}" for name, amount in wants(op).items()
    ]
    return ", ".join(told) or "no CPU"


def _lacks(op: Operator, free: Free) -> str:
    """Which of that no node has free; "" where nobody knows of a lack."""
    if not free:
        return ""
    lacks = []
    for name, amount in wants(op).items():
        most = max(total.get(name, 0.0) for _, total in free)
        now = max(some.get(name, 0.0) for some, _ in free)
        if most < amount:
            lacks.append(f"no node has more than {most:g} {name}")
        elif now < amount:
            lacks.append(f"no node has more than {max(0.0, now):g} {name} free, of {most:g}")
    return f" ({'; '.join(lacks)})" if lacks else ""
