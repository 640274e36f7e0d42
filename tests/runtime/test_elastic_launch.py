"""`hpc-launch --nodes=MIN-MAX`: a session on this machine grows while work waits, and comes back; nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.test_launch import Place

#: 24 tasks that may run once only, on nodes with one CPU each, and wait until all nodes have come. Then it waits until
#: the session is as small as before.
WORK = """
    import glob, json, os, sys, time
    import hpc
    import hpc.util.state
    from hpc.state import gather

    hpc.init()

    def until(check, limit_s=40.0):
        end = time.monotonic() + limit_s
        while not check():
            assert time.monotonic() < end, "not within the time"
            time.sleep(0.1)

    @hpc.remote(max_retries=0)
    def one(i):
        open(f"begun-{i}", "w").close()
        until(lambda: os.path.exists("all"))
        return i, hpc.get_runtime_context().get_node_id()

    def alive():
        return [row for row in gather.node_rows() if row["alive"] and not row["gateway"]]

    before = len(alive())
    refs = [one.remote(i) for i in range(24)]
    until(lambda: len(alive()) == 3 and len(glob.glob("begun-*")) == 3)
    open("all", "w").close()
    growth = gather.session_facts()["growth"]
    values = hpc.get(refs)
    assert [i for i, _ in values] == list(range(24))
    until(lambda: len(alive()) == 1)
    assert hpc.get(one.remote(7))[0] == 7
    kinds = {row.kind for row in hpc.util.state.list_events(limit=1000)}
    facts = {"before": before, "nodes": len({node for _, node in values}), "growth": growth, "kinds": sorted(kinds)}
    print(json.dumps(facts))
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_session_grows_under_load_and_shrinks_again_and_no_task_is_lost(place: Place) -> None:
    place.script("work.py", WORK)
    done = place.run("--nodes=1-3", "-c1", "--grow-after=0.3s", "--shrink-after=1s", "work.py")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["before"] == 1 and said["nodes"] == 3
    assert (said["growth"]["least"], said["growth"]["most"]) == (1, 3)
    assert {"NODES_ASKED", "NODES_CAME", "NODES_RETURNED", "NODE_DRAINS", "NODE_LEFT"} <= set(said["kinds"])
    assert not {"NODE_LOST", "TASK_FAILED", "WORKER_DIED"} & set(said["kinds"])
    assert "asks for 1 node more: work waits for" in done.stderr and "given back" in done.stderr
    assert "lost" not in done.stderr


def test_what_no_node_could_run_is_not_asked_for(place: Place) -> None:
    place.script(
        "large.py",
        """
        import time
        import hpc
        from hpc.state import gather

        hpc.init()
        ref = hpc.remote(num_cpus=8)(lambda: 1).remote()
        while "would help" not in (why := (gather.session_facts()["growth"] or {}).get("why") or ""):
            time.sleep(0.1)
        print(len(gather.node_rows()), why)
        """,
    )
    done = place.run("--nodes=1-3", "-c1", "--grow-after=0.1s", "large.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 ") and "no node like these would help 1 for {CPU: 8}" in done.stdout
