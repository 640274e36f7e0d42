"""What a check says: how bad it is, what was seen, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line. `fix` is empty where nothing is to be done; `node` is the host's name in a look at several."""

    check: str
    level: Level
    seen: str
    fix: str = ""
    node: str = ""

    def row(self) -> dict[str, Any]:
        return asdict(self)


Check = Callable[[], Iterable[Finding]]


def ok(check: str, seen: str) -> Finding:
    return Finding(check, "ok", seen)


def warn(check: str, seen: str, fix: str) -> Finding:
    """Something that works, and may hurt."""
    return Finding(check, "warn", seen, fix)


def fail(check: str, seen: str, fix: str) -> Finding:
    """Something that keeps a session from coming up, or makes it lose work."""
    return Finding(check, "fail", seen, fix)


def run(checks: Iterable[tuple[str, Check]]) -> list[Finding]:
    """What the checks say, in their order. A check that breaks is a finding too, and keeps no other from its turn."""
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += check()
        except Exception as error:
            found.append(warn(name, f"the check itself broke: {type(error).__name__}: {error}", "please report it"))
    return found


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level among them."""
    levels = {finding.level for finding in findings}
    return "fail" if "fail" in levels else "warn" if "warn" in levels else "ok"
