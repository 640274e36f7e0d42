"""Which rank the others wait for: what each rank knows of its groups, put together. No I/O.

A rank *waits* in an operation that it has begun and that is not done. A member of the group that has not begun that
operation is what it waits for. A rank that others wait for may itself wait in another group. So one follows the waits
to ranks that wait for nobody: these hang, or compute. Where there is none, ranks wait for each other in a circle, or
all have come and do not do the same.

What is told is what is known: a rank that has not come may be at work, and its stack says at what. Nobody is accused
before others have waited for it for the whole limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

#: A rank that has waited less is not counted as waiting: it may be at work in between.
WAITS_S = 0.5
#: Ranks of which a report shows the stack, and numbers that it lists.
MOST_STACKS, MOST_RANKS = 4, 8


class GroupRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a rank knows of its part in a group. ``number``: the collectives that it has begun. ``first``: the oldest of
    them that is not done; 0: all are. ``operation``: it in words. ``waits_s``: how long it has been going on.
    ``peer``: it waits for a message of, or to, this member alone. ``ranks``: the members' ranks in the run, where the
    group knows them; ``me`` is this rank's place among ``size``."""

    group: str
    me: int
    size: int
    number: int = 0
    first: int = 0
    operation: str = ""
    waits_s: float = 0.0
    peer: int = -1
    ranks: tuple[int, ...] = ()
    title: str = ""

    @property
    def waits(self) -> bool:
        """Whether it waits for another member."""
        return (self.first > 0 or self.peer >= 0) and self.waits_s >= WAITS_S

    def words(self) -> str:
        """The operation that goes on: "all_reduce number 7 of the group mine"."""
        number = f" number {self.first}" if self.first else ""
        return f"{self.operation}{number}{f' of {self.title}' if self.title else ''}"


class Wait(NamedTuple):
    """A rank waits in an operation for others, the ``missing``. It may be that all have come."""

    rank: int
    row: GroupRow
    missing: tuple[int, ...]


HangKind = Literal["missing", "circle", "differ", "together"]


class Hang(NamedTuple):
    """Ranks that wait, and for whom: for the ``culprits``, which wait for nobody ("missing"), or wait in a "circle". Or
    all have come, and the operations "differ"; or do not end "together". ``begun``: the number of collectives of that
    group that each culprit has begun, where it is known."""

    kind: HangKind
    waits: tuple[Wait, ...]
    culprits: tuple[int, ...]
    begun: tuple[int, ...] = ()

    @property
    def longest(self) -> Wait:
        """The wait that has lasted longest."""
        return max(self.waits, key=lambda wait: (wait.row.waits_s, -wait.rank))

    def is_still(self, before: Hang) -> bool:
        """Whether it is that hang yet: the wait that was the longest then goes on. Which one is the longest now says
        nothing: of waits that began together it is now this one and now that one."""
        row = before.longest.row
        return (self.kind, self.culprits) == (before.kind, before.culprits) and any(
            (wait.row.group, wait.row.first) == (row.group, row.first) for wait in self.waits
        )


def waits_of(rows: Mapping[int, Sequence[GroupRow]]) -> list[Wait]:
    """All waits of the ranks, and what they wait for. ``rows``: of each rank that has answered."""
    members: dict[str, dict[int, int]] = {}  # of each group: the ranks by their place in it
    known: dict[tuple[str, int], GroupRow] = {}
    for rank, its in rows.items():
        for row in its:
            of = members.setdefault(row.group, {})
            of.update(enumerate(row.ranks))
            of[row.me] = rank
            known[row.group, rank] = row
    found = []
    for rank, its in sorted(rows.items()):
        for row in its:
            if not row.waits:
                continue
            of = members[row.group]
            if row.peer >= 0:
                missing = [of[row.peer]] if row.peer in of else []
            else:
                others = [(other, known.get((row.group, other))) for other in of.values() if other != rank]
                missing = [other for other, its_row in others if its_row is None or its_row.number < row.first]
            found.append(Wait(rank, row, tuple(sorted(missing))))
    return found


def find_hang(rows: Mapping[int, Sequence[GroupRow]], limit_s: float) -> Hang | None:
    """What ranks have waited for, at least so long; None if nobody has. ``rows``: of each rank that has answered. A
    rank without any may be waited for all the same: it does not answer."""
    waits = waits_of(rows)
    long = [wait for wait in waits if wait.row.waits_s >= limit_s]
    if not long:
        return None
    by_rank: dict[int, list[Wait]] = {}
    for wait in waits:
        by_rank.setdefault(wait.rank, []).append(wait)
    reached: set[int] = set()
    ends: set[int] = set()
    todo = [rank for wait in long for rank in wait.missing]
    while todo:
        rank = todo.pop()
        if rank in reached:
            continue
        reached.add(rank)
        if rank not in by_rank:
            ends.add(rank)
        todo += [other for wait in by_rank.get(rank, ()) for other in wait.missing]
    if ends:
        return _hang("missing", [w for w in long if w.missing], ends, rows)
    circle = {rank for rank in reached if _leads_to(rank, rank, by_rank)}
    if circle:
        return _hang("circle", [w for w in waits if w.rank in circle and w.missing], circle, rows)
    differing = [w for w in long if w.row.peer < 0 and _others_do(w, rows)]
    if differing:
        return _hang("differ", differing, {w.rank for w in differing}, rows)
    return _hang("together", long, set(), rows)


def _leads_to(start: int, end: int, by_rank: Mapping[int, Sequence[Wait]]) -> bool:
    seen: set[int] = set()
    todo = [rank for wait in by_rank.get(start, ()) for rank in wait.missing]
    while todo:
        rank = todo.pop()
        if rank == end:
            return True
        if rank not in seen:
            seen.add(rank)
            todo += [other for wait in by_rank.get(rank, ()) for other in wait.missing]
    return False


def _others_do(wait: Wait, rows: Mapping[int, Sequence[GroupRow]]) -> bool:
    """Whether another member does something else under the same number."""
    return any(
        row.group == wait.row.group and row.first == wait.row.first and row.operation != wait.row.operation
        for its in rows.values()
        for row in its
    )


def _hang(kind: HangKind, waits: Sequence[Wait], culprits: set[int], rows: Mapping[int, Sequence[GroupRow]]) -> Hang:
    named = tuple(sorted(culprits))
    hang = Hang(kind, tuple(waits), named)
    group = hang.longest.row.group
    numbers = {rank: row.number for rank, its in rows.items() for row in its if row.group == group}
    return hang._replace(begun=tuple(numbers.get(rank, -1) for rank in named))


# ---------------------------------------------------------------- in words


class Sighting(NamedTuple):
    """What is known of a rank that others wait for. ``where``: "node 2 (nid0042)"; ``doing``: how it was seen ("uses a
    core"); ``stack``: its Python calls, the innermost last."""

    where: str = ""
    doing: str = ""
    stack: str = ""


def numbers(ranks: Sequence[int]) -> str:
    """ "rank 3", "ranks 0, 2, 3", "ranks 0 to 6 and 12 more"."""
    some = ", ".join(map(str, ranks[:MOST_RANKS]))
    more = f" and {len(ranks) - MOST_RANKS} more" if len(ranks) > MOST_RANKS else ""
    return f"rank{'s' if len(ranks) != 1 else ''} {some}{more}"


def headline(hang: Hang, where: Mapping[int, Sighting]) -> str:
    """One line: who waits, for whom, in what, how long."""
    longest = hang.longest
    waiting = sorted({wait.rank for wait in hang.waits})
    words, waits_s = longest.row.words(), longest.row.waits_s
    if hang.kind == "missing":
        named = hang.culprits
        place = where[named[0]].where if len(named) == 1 and named[0] in where else ""
        who = numbers(named) + (f" on {place}" if place else "")
        has = "has" if len(named) == 1 else "have"
        wait = f"{numbers(waiting)} {'waits' if len(waiting) == 1 else 'wait'}"
        return f"{who} {has} not come for {waits_s:.0f} s: {wait} in {words}"
    if hang.kind == "circle":
        each = "; ".join(f"rank {w.rank} in {w.row.words()} for {numbers(w.missing)}" for w in hang.waits[:MOST_RANKS])
        return f"ranks have waited for each other for {waits_s:.0f} s: {each}"
    if hang.kind == "differ":
        each = "; ".join(f"rank {w.rank} calls {w.row.operation}" for w in hang.waits[:MOST_RANKS])
        which = f"operation number {longest.row.first} of {longest.row.title}"
        return f"the ranks do not do the same in {which}, and have waited for {waits_s:.0f} s: {each}"
    return f"{numbers(waiting)} have been in {words} for {waits_s:.0f} s: all have come, and it does not end"


def report(hang: Hang, known: Mapping[int, Sighting]) -> str:
    """Several lines: the headline, and of each culprit where it is and what it does."""
    lines = [headline(hang, known)]
    for rank, begun in list(zip(hang.culprits, hang.begun))[:MOST_STACKS]:
        one = known.get(rank, Sighting())
        place = f" on {one.where}" if one.where else ""
        told = [one.doing] if one.doing else []
        if hang.kind == "missing" and begun >= 0 and hang.longest.row.first:
            told.insert(0, f"it has begun {begun} of the {hang.longest.row.first} operations there")
        lines.append(f"  rank {rank}{place}{': ' + '; '.join(told) if told else ''}")
        lines += [f"    {line}" for line in one.stack.rstrip().splitlines()]
    if len(hang.culprits) > MOST_STACKS:
        lines.append(f"  and {len(hang.culprits) - MOST_STACKS} more ranks")
    return "\n".join(lines)
