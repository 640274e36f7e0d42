"""The doctor on the nodes of a job: `hpc-launch --nodes N -m hpc.doctor.nodes`, which is what `hpc doctor -N2` runs.

Each node looks at itself; then they are compared. What differs between nodes hurts most: another Python, a folder that
is not shared, a clock that is off, a link that is slow.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hpc
from hpc.doctor import folders, machine, network
from hpc.doctor.finding import Finding, fail, ok, run, warn, worst
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy

SKEW_S = 0.5


def environment() -> dict[str, str]:
    """What has to be the same in the driver and on all nodes."""
    return {"python": f"{platform.python_version()} {sys.executable}", "version": hpc.__version__}


def look(token: str, interface: str | None, tmpdir: str | None) -> dict[str, Any]:
    """One node about itself. token: a file that the driver has made in the folder of jobs."""
    checks = machine.checks(interface)
    checks.append(("local folder", lambda: folders.local_folder(os.environ, tmpdir)))
    return {
        "host": platform.node(),
        "findings": [finding.row() for finding in run(checks)],
        **environment(),
        "sees_token": Path(token).exists() if token else None,
        "gpus": len(hpc.get_gpu_ids()),
    }


def now() -> float:
    return time.time()


def compare(rows: Sequence[dict[str, Any]], here: dict[str, Any]) -> list[Finding]:
    """What has to be alike on all nodes, and with the driver. Each row is a `look` with "skew_s"."""
    found: list[Finding] = []
    for name, key, fix in (
        ("same python", "python", "activate the environment in the job too: --setup 'source .../activate'"),
        ("same version", "version", "install hpc where compute nodes see it, in one place"),
    ):
        others = {row["host"]: row[key] for row in rows if row[key] != here[key]}
        if others:
            names = ", ".join(f"{host}: {value}" for host, value in sorted(others.items())[:3])
            found.append(fail(name, f"{here[key]} here; {names}", fix))
        else:
            found.append(ok(name, str(here[key])))
    blind = sorted(row["host"] for row in rows if row["sees_token"] is False)
    if blind:
        seen = f"not seen from {', '.join(blind[:4])}"
        found.append(fail("shared job folder", seen, "--job-dir=DIR on a file system that compute nodes share"))
    elif any(row["sees_token"] for row in rows):
        found.append(ok("shared job folder", "seen from all nodes"))
    late = {row["host"]: row["skew_s"] for row in rows if abs(row["skew_s"]) > SKEW_S}
    if late:
        host, skew_s = max(late.items(), key=lambda item: abs(item[1]))
        found.append(warn("clocks", f"{host} is {skew_s:+.1f} s off", "tell the centre: times in logs will not fit"))
    else:
        found.append(ok("clocks", f"within {max((abs(row['skew_s']) for row in rows), default=0.0):.3f} s"))
    return found


def _with_skew(row: dict[str, Any], where: NodeAffinitySchedulingStrategy) -> dict[str, Any]:
    """Add the clock's difference: the middle of a question and its answer."""
    ask = hpc.remote(now).options(num_cpus=0, scheduling_strategy=where)
    hpc.get(ask.remote())  # a worker is there
    before = time.time()
    there = hpc.get(ask.remote())
    row["skew_s"] = there - (before + time.time()) / 2
    return row


def _name_apart(rows: Sequence[dict[str, Any]]) -> None:
    """Local nodes share their host's name: these get a number behind it."""
    hosts = [row["host"] for row in rows]
    for i, row in enumerate(rows):
        if hosts.count(row["host"]) > 1:
            row["host"] = f"{hosts[i]}#{i}"


def examine(token: str, interface: str | None, tmpdir: str | None) -> list[Finding]:
    """Look at every node of the session that this process belongs to."""
    nodes = [node for node in hpc.nodes() if node["Alive"]]
    places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    task = hpc.remote(look)
    looks = [
        task.options(num_cpus=0, num_gpus=node["Resources"].get("GPU", 0), scheduling_strategy=place)
        .remote(token, interface, tmpdir)
        for node, place in zip(nodes, places, strict=True)
    ]  # fmt: skip
    rows = [_with_skew(row, place) for row, place in zip(hpc.get(looks), places, strict=True)]
    _name_apart(rows)
    here = environment()
    found = [Finding(**{**finding, "node": row["host"]}) for row in rows for finding in row["findings"]]
    for node, row in zip(nodes, rows, strict=True):
        granted = int(node["Resources"].get("GPU", 0))
        if granted != row["gpus"]:
            seen = f"{row['gpus']} visible to a task of {granted} granted"
            found.append(Finding("gpus granted", "fail", seen, "hpc why NODE; please report it", row["host"]))
    return found + compare(rows, here) + network.findings([row["host"] for row in rows], *network.measure(nodes))


def main(words: Sequence[str]) -> int:
    """Print the findings; the exit code is 1 where something fails.

    words: "--json", and a list in JSON: the folder of jobs, --interface, --tmpdir.
    """
    as_json = "--json" in words
    folder, interface, tmpdir = json.loads(next(word for word in words if word != "--json"))
    hpc.init(log_to_driver=False)
    token = Path(folder, f".doctor-{os.getpid()}-{time.time_ns()}")
    token.write_text("")
    try:
        found = examine(str(token), interface, tmpdir)
    finally:
        token.unlink()
    from hpc.doctor.page import show

    show(found, as_json)
    return int(worst(found) == "fail")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
