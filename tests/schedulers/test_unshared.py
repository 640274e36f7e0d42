"""Clusters whose nodes share no file system with each other nor with the login node: PBS and YARN, real ones.

Each node has an empty folder where the user's home and the working folder are at the login node. Python with hpc is on
all of them, as it is on the nodes of a cluster where it was installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pbs_bed
import pytest
import yarn_bed
from bed import Bed
from desk import Desk, launcher, nothing_left
from netbed import process_name, wait_for
from programs import HOSTS, PLAIN, WAITS

pytestmark = pytest.mark.scheduler

READS = """
    import json, os, socket
    import hpc
    import helper
    hpc.init()
    print("carried", helper.WORD, open("data/in.txt").read().strip(), os.path.exists("secret.txt"), flush=True)
    open("left.txt", "w").write("result")
    print("nodes", len(hpc.nodes()), flush=True)
"""


@pytest.fixture(scope="module", params=["pbs", "yarn"])
def apart(request: pytest.FixtureRequest) -> Iterator[Bed]:
    """Three nodes; skipped, with the reason, where there can be none."""
    why = {"pbs": pbs_bed, "yarn": yarn_bed}[request.param].reason_to_skip()
    if why:
        pytest.skip(why)
    made = (
        pbs_bed.PbsBed(nodes=3, shared=False) if request.param == "pbs" else yarn_bed.YarnBed(3, 2, 2048, shared=False)
    )
    with made as bed:
        yield bed


@pytest.fixture
def desk(apart: Bed, request: pytest.FixtureRequest) -> Iterator[Desk]:
    found = Desk.at(apart, request.node.name)
    found.env["HPC_TMPDIR"] = "/var/tmp"  # each node has its own
    programs = {"plain.py": PLAIN, "waits.py": WAITS, "hosts.py": HOSTS, "reads.py": READS}
    for name, text in programs.items():
        found.script(name, text)
    found.script("helper.py", "WORD = 'here'")
    (found.folder / "data").mkdir()
    (found.folder / "data" / "in.txt").write_text("input\n")
    (found.folder / "secret.txt").write_text("stays")
    yield found
    apart.cancel_all()


def roots(desk: Desk) -> list[Path]:
    """The file systems as each node sees them."""
    return [Path(f"/proc/{desk.bed.pids(host)[0]}/root") for host in desk.bed.hosts]


def inner(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def test_the_nodes_share_nothing(desk: Desk) -> None:
    one, two, three = roots(desk)
    (inner(one, desk.bed.scratch) / "work" / "mine").write_text("")
    for place in (two, three, Path("/")):
        assert not (inner(place, desk.bed.scratch) / "work" / "mine").exists()
    assert not inner(one, desk.folder).exists()


def test_the_script_and_what_it_needs_are_carried_and_its_output_and_exit_code_come_back(desk: Desk) -> None:
    done = desk.launch("-N3", "-c2", "-t5", "--carry=helper.py", "--carry=data", "reads.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "carried here input False\nnodes 3\n", done.stdout
    assert desk.status()["state"] == "ended" and desk.status()["exit_code"] == 0
    assert (desk.jobs / "1" / "files" / "left.txt").read_text() == "result"
    done = desk.launch("-N1", "-t5", "--carry=plain.py", "-o", "out.txt", "plain.py", "7")
    assert done.returncode == 7 and done.stdout.startswith("ran on"), done.stderr
    assert (desk.folder / "out.txt").read_text() == done.stdout
    nothing_left(desk)


def test_tasks_run_on_every_node(desk: Desk) -> None:
    done = desk.launch("-N3", "-c2", "-t5", "--carry=hosts.py", "hosts.py", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["hosts"] == sorted(desk.bed.hosts) and said["cpus"] == 6.0
    nothing_left(desk)


def waiting(desk: Desk, *options: str) -> subprocess.Popen[str]:
    """A job whose script waits."""
    process = desk.start(*launcher(), "-N3", "-c2", "-t5", "--grace=2", "--carry=waits.py", *options, "waits.py")
    assert process.stdout is not None and process.stdout.readline().startswith("waits"), process.communicate(timeout=60)
    return process


def test_a_job_that_is_cancelled_leaves_nothing_on_any_node(desk: Desk) -> None:
    process = waiting(desk)
    assert all(list((root / "var/tmp").glob("hpc-carried-*")) for root in roots(desk))
    assert desk.hpc("cancel", "last").returncode == 0
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, out + err
    nothing_left(desk)
    for root in roots(desk):
        assert list((root / "var/tmp").glob("hpc-*")) == []


def test_a_follower_that_leaves_can_come_back_and_nothing_is_lost(desk: Desk) -> None:
    desk.script("talks.py", """
        import os, time
        print("waits", flush=True)
        while not os.path.exists("go"):
            print("still here", flush=True)
            time.sleep(0.2)
        print("went", flush=True)
        raise SystemExit(4)
    """)  # fmt: skip
    process = desk.start(*launcher(), "-N1", "-t5", "--carry=talks.py", "talks.py")
    assert process.stdout is not None and process.stdout.readline() == "waits\n", process.communicate(timeout=60)
    process.kill()
    process.communicate(timeout=90)
    (desk.jobs / "1" / "files" / "go").write_text("")
    back = desk.hpc("attach", "last", timeout_s=90)
    assert back.returncode == 4 and back.stdout.endswith("went\n"), back.stdout + back.stderr
    said = (desk.jobs / "1" / "driver.log").read_text().splitlines()
    assert said[0] == "waits" and said[-1] == "went" and set(said[1:-1]) == {"still here"}
    nothing_left(desk)


OPENS = """
import os, sys
os.setgid(65534); os.setuid(65534)
for path in sys.argv[1:]:
    try:
        open(path, "rb").close()
        print(path)
    except OSError:
        pass
"""


def test_the_key_is_nowhere_where_another_user_could_read_it(desk: Desk) -> None:
    process = waiting(desk)
    keys = [json.loads((desk.jobs / "1" / ".porter").read_text())[name]["secret"] for name in ("server", "carrier")]
    joins = [path for root in roots(desk) for path in (root / "var/tmp").rglob("join") if path.is_file()]
    keys += [json.loads(path.read_text())["secret"] for path in joins]
    pids = [pid for host in desk.bed.hosts for pid in desk.bed.pids(host)]
    for pid in [*pids, process.pid]:
        for what in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/{what}").read_text(errors="replace")
                assert not any(key in text for key in keys), (pid, what, process_name(pid))
    assert not any(key in desk.bed.record(desk.job_id()) for key in keys)
    tops = [desk.bed.scratch, desk.bed.net.private, *(inner(root, desk.bed.scratch) / "work" for root in roots(desk))]
    tops += [root / "var/tmp" for root in roots(desk)]
    holding = []
    for path in (path for top in tops for path in top.rglob("*")):
        with contextlib.suppress(OSError):
            if path.is_file() and any(key in path.read_text(errors="replace") for key in keys):
                holding.append(str(path))
    assert any("hpc-carried" in path for path in holding) and any(path.endswith(".brings.sh") for path in holding)
    opens = [sys.executable, "-I", "-S", "-c", OPENS, *holding]
    assert subprocess.run(opens, capture_output=True, text=True, timeout=60).stdout == ""
    (desk.jobs / "1" / "files" / "go").write_text("")
    assert process.communicate(timeout=60) and process.returncode == 0


def test_a_job_script_of_the_users_own_finds_all_nodes(desk: Desk) -> None:
    if "own script" in desk.bed.lacks:
        pytest.skip(f"{desk.bed.scheduler}: {desk.bed.lacks['own script']}")
    lines = ["#!/bin/bash", "cat > hosts.py <<'END'", textwrap.dedent(HOSTS), "END", f"exec {launcher()[0]} hosts.py 3"]
    desk.script("own.sh", "\n".join(lines) + "\n")
    job_id = desk.bed.submit(desk.folder / "own.sh", 3, desk.bed.sent / "own.out")
    wait_for("its end", lambda: desk.bed.phase(job_id) == "ended", 90.0, 0.2)
    out = (desk.bed.sent / "own.out").read_text()
    said = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    assert said["hosts"] == desk.bed.hosts and desk.bed.exit_code(job_id) == 0
    nothing_left(desk)


@pytest.mark.skipif(not os.environ.get("HPC_TEST_SLOW"), reason="takes 50 s: HPC_TEST_SLOW=1 runs it")
def test_what_nobody_was_there_for_is_in_the_output_that_the_scheduler_keeps(desk: Desk) -> None:
    desk.script("late.py", "import time; print('first', flush=True); time.sleep(12); print('last words')")
    process = desk.start(*launcher(), "-N1", "-t5", "--carry=late.py", "late.py")
    assert process.stdout is not None and process.stdout.readline() == "first\n", process.communicate(timeout=60)
    process.kill()
    process.communicate(timeout=90)
    job_id = desk.job_id()
    wait_for("its end", lambda: desk.bed.phase(job_id) == "ended", 120.0, 0.5)
    tops = [desk.bed.scratch / "sent", *desk.bed.scratch.glob("nm-*/logs")]
    kept = [path.read_text(errors="replace") for top in tops for path in top.rglob("*") if path.is_file()]
    assert any("first\nlast words\n" in text for text in kept)
    nothing_left(desk)
