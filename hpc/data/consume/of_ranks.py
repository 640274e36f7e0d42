"""What ranks that share a dataset do with their batches: they tell the actor that runs it, whose `stats` has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hpc.data.consume.times import PARTS, WAIT, Times, time_text

#: Of more ranks only the least, the most and the mean are shown.
MOST_SHOWN = 16


class RankTimes(NamedTuple):
    """One rank in one pass. batches: that its loop got. blocked_s, user_s: for which the loop waited for batches, and
    did something of its own. parts: seconds of what makes the batches, by its name in the lines of `stats`."""

    batches: int
    blocked_s: float
    user_s: float
    parts: Mapping[str, float]


def of_times(times: Times, waited_s: float) -> RankTimes:
    """What a rank tells. waited_s: of the time in which it got blocks it waited for the actor."""
    parts = {WAIT: waited_s, **{part: times.seconds[part] for part in PARTS if part in times.seconds}}
    if PARTS[0] in parts:
        parts[PARTS[0]] = max(0.0, parts[PARTS[0]] - waited_s)
    return RankTimes(times.batches, times.blocked_s, times.user_s, parts)


def ranks_text(ranks: Mapping[int, RankTimes]) -> str:
    """Lines for people; "" where no rank has told anything."""
    if not ranks:
        return ""
    lines = ["Ranks:"]
    if len(ranks) <= MOST_SHOWN:
        for rank, one in sorted(ranks.items()):
            parts = ", ".join(f"{part} {time_text(seconds)}" for part, seconds in one.parts.items())
            lines.append(
                f"* Rank {rank}: {one.batches} batches, blocked by iter_batches {time_text(one.blocked_s)}, own time "
                f"{time_text(one.user_s)}; made ahead: {parts}"
            )
        return "\n".join(lines) + "\n"
    lines.append(_spread("Blocked by iter_batches", {rank: one.blocked_s for rank, one in ranks.items()}))
    lines.append(_spread("Own time", {rank: one.user_s for rank, one in ranks.items()}))
    for part in dict.fromkeys(part for one in ranks.values() for part in one.parts):
        lines.append(_spread(f"In {part}", {rank: one.parts.get(part, 0.0) for rank, one in ranks.items()}))
    return "\n".join(lines) + "\n"


def _spread(what: str, seconds: Mapping[int, float]) -> str:
    least, most = min(seconds, key=seconds.__getitem__), max(seconds, key=seconds.__getitem__)
    mean = sum(seconds.values()) / len(seconds)
    return (
        f"* {what}: {time_text(seconds[least])} min (rank {least}), {time_text(seconds[most])} max (rank {most}), "
        f"{time_text(mean)} mean"
    )
