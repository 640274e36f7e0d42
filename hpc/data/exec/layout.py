"""What people see of a run: facts in, lines out. It knows no terminal, clock or run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from hpc.data.options import memory_text

#: Names of operators are cut at so many letters, where that is wanted.
NAME_LETTERS = 60
#: Cells of a bar.
BAR_CELLS = 20

OperatorState: TypeAlias = Literal["queued", "running", "done"]


@dataclass(frozen=True)
class OperatorFacts:
    """One operator. state: "queued", "running" or "done". waits: for what, in words; "" for nothing. actors: how many
    are up, of how many; "" without a pool."""

    name: str
    state: OperatorState
    tasks: int
    queued: int
    blocks: int
    rows: int
    nbytes: int
    rows_s: float
    waits: str = ""
    actors: str = ""


@dataclass(frozen=True)
class RunFacts:
    """A run. parts: of its sources, read and in all (None: not known yet). store: bytes of blocks, and the limit."""

    name: str
    seconds: float
    rows: int
    nbytes: int
    parts: tuple[int, int | None]
    read_bytes: int
    store: tuple[int, int]
    cpus: tuple[float, float]
    gpus: tuple[float, float]
    operators: tuple[OperatorFacts, ...]


def block(facts: RunFacts, width: int, operators: bool = True, truncates: bool = True) -> list[str]:
    """The lines of a run on a terminal, none wider than ``width``: how far it is, and one line for each operator."""
    lines = [f"{facts.name}  {_bar(facts.parts)}  {_total(facts)}"]
    if operators:
        names = [_name(one.name, truncates) for one in facts.operators]
        widest = max((len(name) for name in names), default=0)
        for name, one in zip(names, facts.operators):
            lines.append(f"  {name.ljust(widest)}  {one.state:7}  {_numbers(one)}")
    return [line if len(line) <= width else line[: max(1, width - 1)] + "…" for line in lines]


def line(facts: RunFacts, operators: bool = True, truncates: bool = True) -> str:
    """The same as one line, for logs."""
    parts = [f"{facts.name}: {_parts(facts.parts)}{_total(facts)}"]
    if operators:
        parts += [f"{_name(one.name, truncates)} {one.state}, {_numbers(one)}" for one in facts.operators]
    return "; ".join(parts)


def last(facts: RunFacts, error: BaseException | None, interrupted: bool = False, closed: bool = False) -> str:
    """What is left of a run that has ended. interrupted: by the user, or with its session. closed: no more rows were
    wanted of it."""
    done = "ended early" if closed else "done"
    ended = "interrupted" if interrupted else done if error is None else f"failed ({type(error).__name__})"
    return f"{facts.name}: {ended} after {_seconds(facts.seconds)}, {facts.rows:,} rows, {memory_text(facts.nbytes)}"


def _name(name: str, truncates: bool) -> str:
    return name if not truncates or len(name) <= NAME_LETTERS else name[: NAME_LETTERS - 1] + "…"


def _bar(parts: tuple[int, int | None]) -> str:
    done, of = parts
    if not of:
        return f"{done} parts" if done else "..."
    cells = min(BAR_CELLS, BAR_CELLS * done // of)
    return f"[{'#' * cells}{'-' * (BAR_CELLS - cells)}] {100 * done // of}%"


def _parts(parts: tuple[int, int | None]) -> str:
    done, of = parts
    if of:
        return f"{done} of {of} parts read, "
    return f"{done} parts read, " if done else ""


def _total(facts: RunFacts) -> str:
    read = f"{memory_text(facts.read_bytes)} read, " if facts.read_bytes else ""
    text = f"{read}{facts.rows:,} rows out in {_seconds(facts.seconds)}"
    text += f", store {memory_text(facts.store[0])} of {memory_text(facts.store[1])}"
    text += f", {facts.cpus[0]:g} of {facts.cpus[1]:g} CPU"
    return text + (f", {facts.gpus[0]:g} of {facts.gpus[1]:g} GPU" if facts.gpus[1] else "")


def _numbers(one: OperatorFacts) -> str:
    texts: Sequence[str] = (
        f"{one.rows:,} rows, {one.blocks:,} blocks, {memory_text(one.nbytes)}",
        f"{one.rows_s:,.0f} rows/s" if one.rows_s else "",
        one.actors,
        f"waits for {one.waits}" if one.waits else "",
        f"{one.tasks} tasks" if one.tasks else "",
        f"{one.queued} queued" if one.queued else "",
    )
    return ", ".join(text for text in texts if text)


def _seconds(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
