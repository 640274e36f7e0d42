"""Rows as a page shows them: those that a filter chooses, in an order, a part at a time. No I/O.

A filter is words. Each is a piece of text that some shown field has, or ``field=value``, or ``field!=value``; a row
passes all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
#: Rows that a page shows where it asks for no number, and the most that it gets.
SHOWN = 100
MOST = 500
#: A text in a row is cut here: all of it is in the row's own page.
LONGEST = 300


class Params:
    """What a page was asked for: the part of an address behind the question mark."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given

    def text(self, name: str, default: str = "") -> str:
        """One value as text."""
        return self._given.get(name, default)

    def number(self, name: str, default: float, most: float) -> float:
        """One value as a number from 0 to ``most``; the default where it is none."""
        try:
            return min(most, max(0.0, float(self._given.get(name, default))))
        except ValueError:
            return default


def listing(rows: Sequence[Row], columns: Sequence[str], params: Params) -> dict[str, Any]:
    """The rows that params choose by ``q``, ``sort`` (-field: downwards), ``from`` and ``limit``, with the number of
    all and of those that the filter passes."""
    chosen = matching(rows, params.text("q"), columns)
    if sort := params.text("sort"):
        field, down = sort.lstrip("-"), sort.startswith("-")
        if field in columns:
            chosen = sorted(chosen, key=lambda row: _rank(row.get(field)), reverse=down)
    begin = int(params.number("from", 0, 10_000_000))
    part = chosen[begin : begin + int(params.number("limit", SHOWN, MOST))]
    return {
        "columns": list(columns),
        "rows": [{name: short(row.get(name)) for name in columns} for row in part],
        "from": begin,
        "matching": len(chosen),
        "total": len(rows),
    }


def matching(rows: Iterable[Row], words: str, columns: Sequence[str]) -> list[Row]:
    """The rows that pass a filter."""
    tests = [_test(word.lower()) for word in words.split()]
    if not tests:
        return list(rows)
    return [row for row in rows if all(_passes(row, columns, *test) for test in tests)]


def _test(word: str) -> tuple[str, bool, str]:
    """The field ("" for any), whether it has to be, and the text."""
    for sign, wanted in (("!=", False), ("=", True)):
        field, found, value = word.partition(sign)
        if found and field.isidentifier():
            return field, wanted, value
    return "", True, word


def _passes(row: Row, columns: Sequence[str], field: str, wanted: bool, text: str) -> bool:
    if field:
        return (str(row.get(field, "")).lower() == text) == wanted
    return any(text in str(row.get(name, "")).lower() for name in columns)


def _rank(value: Any) -> tuple[int, float, str]:
    """What values of all kinds are ordered by: numbers before texts."""
    if isinstance(value, (int, float)):
        return 0, float(value), ""
    return 1, 0.0, str(value)


def short(value: Any) -> Any:
    """A value that is not longer than a row of a table can show."""
    if isinstance(value, str) and len(value) > LONGEST:
        return value[: LONGEST - 1] + "…"
    if isinstance(value, (list, tuple)) and len(value) > 20:
        return [*value[:20], "…"]
    return value


def tasks_by_name(rows: Iterable[Row], most: int = 40) -> list[dict[str, Any]]:
    """Tasks and calls counted by name: waiting, running, finished, failed, and the median and longest time in seconds
    of what has ended. What is unfinished, and then what failed, stands first."""
    groups: dict[str, dict[str, Any]] = {}
    times: dict[str, list[float]] = {}
    for row in rows:
        name = row["name"]
        group = groups.get(name)
        if group is None:
            group = groups[name] = {"name": name, "waiting": 0, "running": 0, "finished": 0, "failed": 0}
        kind = STANDING.get(row["state"], "waiting")
        group[kind] += 1
        if kind in ("finished", "failed") and row.get("start_time_ms"):
            times.setdefault(name, []).append((row["end_time_ms"] - row["start_time_ms"]) / 1e3)
    found = sorted(groups.values(), key=lambda g: (-(g["running"] + g["waiting"]), -g["failed"], -g["finished"]))
    for group in found[:most]:
        took = sorted(times.get(group["name"], ()))
        group["p50_s"] = took[len(took) // 2] if took else None
        group["most_s"] = took[-1] if took else None
    return found[:most]


#: What a state of a task is to somebody who looks; all others are "waiting".
STANDING = {"RUNNING": "running", "FINISHED": "finished", "FAILED": "failed"}


def used_shares(overview: Row) -> dict[str, float]:
    """The numbers of the charts, from what is known of a session: shares from 0 to 1, and counts."""
    found: dict[str, float] = {}
    for name, kind in overview["resources"].items():
        if name in ("CPU", "GPU") and kind["total"]:
            found[name] = kind["used"] / kind["total"]
    alive = [node for node in overview["nodes"] if node["state"] == "ALIVE"]
    for name, used, most in (
        ("memory", "memory_used_bytes", "memory_limit_bytes"),
        ("store", "store_used_bytes", "store_capacity_bytes"),
    ):
        if total := sum(node[most] for node in alive):
            found[name] = sum(node[used] for node in alive) / total
    found["spilled_bytes"] = float(sum(node["store_spilled_bytes"] for node in alive))
    found["nodes"] = float(len(alive))
    found["waiting"] = float(sum(row["tasks"] + row["actors"] for row in overview["demand"]))
    found |= {f"workers_{kind}": float(overview["workers"][kind]) for kind in ("tasks", "actors", "idle")}
    return found
