"""Services: figures beside their peers (`figures`), and programs that break a service under load (`faults`).

``--only serve`` has all of them, and ``--checks`` some. Each fault is a program too (`python -m bench.serve.replicas`),
which prints ``failed=`` and exits with 1 where a promise is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bench.children import Children
from bench.parts import Skipped, Stopped
from bench.serve import faults, figures

#: What ``--checks`` takes.
CHECKS = (*figures.CHECKS, *faults.PROGRAMS)


def serve(
    children: Children, quick: bool, *, checks: Sequence[str], rounds: int, peers: bool, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """The tables of these checks, or of all. One that is stopped raises Stopped with what there is."""
    try:
        import hpc.serve.http.server  # noqa: F401
    except ModuleNotFoundError as missing:
        raise Skipped(f"a service needs {missing.name}: pip install 'hpc[serve]'") from None
    tables: list[dict[str, Any]] = []
    for name in [name for name in figures.CHECKS if not checks or name in checks]:
        check = figures.CHECKS[name]
        measuring = figures.Measuring(children, quick, rounds, say)
        found: dict[str, list[dict[str, float]]] = {peer: [] for peer in check.peers if peers or peer.startswith("hpc")}
        try:
            measuring.turns(found, lambda who, check=check, measuring=measuring: check.ask(measuring, who))
        except KeyboardInterrupt:
            raise Stopped([*tables, check.table(measuring, found)] if any(found.values()) else tables) from None
        tables.append(check.table(measuring, found))
    programs = [name for name in faults.PROGRAMS if not checks or name in checks]
    if programs:
        rows: list[list[str]] = []
        try:
            for name in programs:
                rows += faults.rows(children, name, quick, say)
        except KeyboardInterrupt:
            raise Stopped([*tables, faults.table_of(rows)] if rows else tables) from None
        tables.append(faults.table_of(rows))
    return tables
