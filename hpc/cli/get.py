"""`hpc get KIND ID`: all about one thing of a session that runs."""

from __future__ import annotations

from typing import Any

from hpc.cli.look import FILTER, KINDS, KINDS_IN_WORDS, cell, is_kind, look, rows_of, show_rows
from hpc.cli.words import ADDRESS, JSON
from hpc.settings.errors import CliError

USAGE = f"hpc get KIND ID [options]     {KINDS_IN_WORDS}"
TABLE = (ADDRESS, FILTER, JSON)


def _is_one_of_kind(words: list[str]) -> None:
    is_kind(words)
    if len(words) != 3:
        raise CliError("USAGE", "hpc get KIND ID: which one?", fix="hpc get --help")


def run(words: list[str]) -> int:
    """Print it; returns the exit code."""
    return look(words, TABLE, _get, _is_one_of_kind)


def _get(given: dict[str, Any], rest: list[str]) -> int:
    key = KINDS[rest[0]][0]
    rows = [row for row in rows_of(rest[0], given, 10_000) if str(row.get(key, "")) == rest[1]]
    if not rows:
        raise CliError("USAGE", f"there is no {rest[0].rstrip('s')} {rest[1]}", fix=f"hpc list {rest[0]}")
    details = [_detail(row["run_id"]) for row in rows] if rest[0] == "runs" else []
    if given.get("json"):
        from msgspec import json as fast_json  # it has null for NaN, which readers of JSON refuse

        found = [{**row, "detail": detail} for row, detail in zip(rows, details, strict=True)] if details else rows
        print(fast_json.format(fast_json.encode(found), indent=1).decode())
        return 0
    for row in rows:
        print("\n".join(f"{name:<24} {cell(value)}" for name, value in row.items()))
    for detail in details:
        _show_detail(detail)
    return 0


def _detail(run_id: str) -> dict[str, Any]:
    """All that is told of a run; {} where nobody knows it any more."""
    import msgspec

    from hpc.state.runs import run_detail

    try:
        found, _ = run_detail(run_id)
    except FileNotFoundError:
        return {}
    plain: dict[str, Any] = msgspec.to_builtins(found) if found is not None else {}
    return plain


def _show_detail(detail: dict[str, Any]) -> None:
    """Texts and numbers as lines, lists of things as tables, of curves the last points."""
    for name, value in detail.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            print(f"{name}:")
            show_rows(value, list(value[0]))
        elif name in ("curves", "top"):
            for curve, xs, ys in value:
                print(f"{name:<24} {curve}: {ys[-1]:.6g} at {xs[-1]:g}" if ys else f"{name:<24} {curve}")
        elif value not in ("", None, [], {}):
            print(f"{name:<24} {cell(value)}")
