"""Findings as people read them: one line each, what is alike on all nodes only once, and what to do below it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

from hpc.doctor.finding import Finding, worst

MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


def lines(findings: Sequence[Finding]) -> list[str]:
    """The page. Nodes that say the same share a line."""
    width = max((len(finding.check) for finding in findings), default=0)
    nodes = {finding.node for finding in findings if finding.node}
    text: list[str] = []
    for finding, hosts in _folded(findings):
        where = f"[{_names(hosts, len(nodes))}] " if hosts else ""
        text.append(f"{MARKS[finding.level]}  {finding.check:<{width}}  {where}{finding.seen}")
        if finding.level != "ok" and finding.fix:
            text.append(f"      {'':<{width}}  -> {finding.fix}")
    counts = {level: sum(finding.level == level for finding in findings) for level in ("fail", "warn")}
    text.append("")
    if worst(findings) == "ok":
        text.append("Nothing is wrong here.")
    else:
        text.append(f"{counts['fail']} to mend, {counts['warn']} to know of")
    return text


def _folded(findings: Iterable[Finding]) -> list[tuple[Finding, list[str]]]:
    found: dict[tuple[str, str, str, str], tuple[Finding, list[str]]] = {}
    for finding in findings:
        key = (finding.check, finding.level, finding.seen, finding.fix)
        hosts = found.setdefault(key, (finding, []))[1]
        if finding.node:
            hosts.append(finding.node)
    return list(found.values())


def _names(hosts: Sequence[str], all_nodes: int) -> str:
    if len(hosts) == all_nodes:
        return f"all {all_nodes} nodes" if all_nodes > 1 else hosts[0]
    return ", ".join(hosts[:3]) + (f" and {len(hosts) - 3} more" if len(hosts) > 3 else "")


def show(findings: Sequence[Finding], as_json: bool) -> None:
    """Print them on stdout."""
    if as_json:
        sys.stdout.write(json.dumps([finding.row() for finding in findings]) + "\n")
    else:
        sys.stdout.write("\n".join(lines(findings)) + "\n")
