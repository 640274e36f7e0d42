"""The whole protocol under the simulator: fixed seeds, all promises kept."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

from hpc.core import wire
from hpc.core.head.detached import DetachedActors
from hpc.core.raylet.closing import Closing
from hpc.core.sim.detached import SEEN
from hpc.core.sim.paths import PATHS
from hpc.core.sim.run import SeedReport, Simulation, run

#: HPC_TEST_SEEDS=10000: so many; and a third of it with dying heads.
SEEDS = int(os.environ.get("HPC_TEST_SEEDS", 180))


@functools.cache
def plain(seed: int) -> SeedReport:
    return run(seed)


@pytest.mark.parametrize("first", range(0, SEEDS, 60))
def test_seeds_keep_all_promises(first):
    for seed in range(first, min(first + 60, SEEDS)):
        report = plain(seed)
        assert not report.problems, f"python -m hpc.core.sim --seed {seed} --story: {report.problems}"
        assert report.tasks > 0


def test_each_path_that_few_programs_lead_to_is_taken_by_one_seed_in_a_hundred():
    taken = [set(plain(seed).paths) for seed in range(180)]
    seldom = {path: times for path in PATHS if (times := sum(path in one for one in taken)) < 2}
    assert not seldom


def test_larger_clusters_and_longer_programs():
    for seed in range(8):
        report = run(seed, nodes=6, operations=120)
        assert not report.problems, f"--seed {seed} --nodes 6 --operations 120: {report.problems}"


def test_objects_go_to_disk_and_come_back_under_faults():
    reports = [run(seed, operations=60) for seed in range(1000, 1015)]
    assert not any(report.problems for report in reports)
    assert sum(report.spilled for report in reports) > 20
    assert sum(report.restored for report in reports) > 0


def test_a_seed_tells_the_same_story_each_time():
    assert run(17).story == run(17).story
    assert run(17).virtual_s == run(17).virtual_s


def test_the_checks_can_fail(monkeypatch):
    """A machine that forgets to send what was let go is noticed."""
    from hpc.core.owner.objects import Objects

    monkeypatch.setattr(Objects, "on_release", lambda self, src, msg: None)
    assert any(run(seed).problems for seed in range(40))


@pytest.mark.parametrize("forgotten", ["views that ended", "what is needed no more"])
def test_the_checks_can_fail_for_a_forgotten_unpin(monkeypatch, forgotten):
    """A process that keeps a pin in its raylet's memory, or in its own, is noticed."""
    from hpc.core.owner.pins import Pins

    def forget(self, idents):
        for ident in idents:
            self.held.pop(ident, None)

    def forget_views(self):
        self.unviewed.clear()
        let_go(self)

    let_go = Pins.let_go
    if forgotten == "views that ended":
        monkeypatch.setattr(Pins, "let_go", forget_views)
    else:
        monkeypatch.setattr(Pins, "_give_back", forget)
    assert any("objects" in text or "pins" in text for seed in range(40) for text in run(seed).problems)


def test_drivers_and_workers_read_the_arena_in_the_seeds():
    views = fetched = admitted = 0
    for seed in range(20):
        simulation = Simulation(seed)
        assert not simulation.run().problems
        views += sum(user.glances.views for user in simulation.users)
        fetched += sum(worker.steps.reader.fetched for worker in simulation.workers.values())
        admitted += sum(worker.steps.reader.admitted for worker in simulation.workers.values())
    assert views > 20 and fetched > 20 and admitted > 5, (views, fetched, admitted)


def test_the_checks_of_groups_can_fail(monkeypatch):
    """A raylet that gives back the resources of a bundle, but forgets the bundle's workers, is noticed."""
    from hpc.core.raylet.bundles import Bundles

    monkeypatch.setattr(Bundles, "_free", lambda self, bundle: self.resources.release(bundle.grant))
    assert any(run(seed).problems for seed in range(40))


def test_nothing_dies_without_faults():
    for seed in range(10):
        report = run(seed, faults=False)
        assert not report.problems
        assert report.deaths == 0


@pytest.mark.parametrize(("heads", "seeds"), [(False, 40), (True, 25)])
def test_nodes_drain_before_they_are_taken_away(heads, seeds):
    """Nothing new is leased there, and what ran there ends or runs elsewhere."""
    drained = 0
    for seed in range(seeds):
        simulation = Simulation(seed, drains=True, heads=heads)
        assert not simulation.run().problems, f"python -m hpc.core.sim --seed {seed} --drains"
        drained += len(simulation.leased_before)
    assert drained > 5


def test_a_node_that_drains_and_leases_is_noticed(monkeypatch):
    monkeypatch.setattr(Closing, "admits", lambda self, demand, now: True)
    assert any(run(seed, drains=True).problems for seed in range(30))


@functools.cache
def headless(seed: int) -> tuple[SeedReport, int, int]:
    """A seed in which heads die: how often, and how many calls detached actors had."""
    simulation = Simulation(seed, heads=True)
    report, detached = simulation.run(), simulation.detached
    assert detached is not None
    return report, simulation.world.head_restarts, detached.calls


@pytest.mark.parametrize("first", range(0, SEEDS // 3, 20))
def test_heads_die_and_are_replaced_in_the_seeds(first):
    for seed in range(first, min(first + 20, SEEDS // 3)):
        report = headless(seed)[0]
        assert not report.problems, f"python -m hpc.core.sim --seed {seed} --heads --story: {report.problems}"


def test_what_may_happen_to_detached_actors_happens_in_the_seeds():
    reports = [headless(seed) for seed in range(60)]
    assert sum(restarts for _, restarts, _ in reports) > 10
    assert sum(calls for _, _, calls in reports) > 1000
    assert {path for report, _, _ in reports for path in report.paths} >= {*SEEN}


def test_a_head_without_its_journal_is_noticed(monkeypatch):
    monkeypatch.setattr("hpc.core.sim.world.restore", lambda machine, ops: None)
    assert any(run(seed, heads=True).problems for seed in range(30))


@pytest.mark.parametrize("forgotten", ["_on_head_leases", "_create_again"])
def test_a_head_that_adopts_its_actors_badly_is_noticed(monkeypatch, forgotten):
    monkeypatch.setattr(DetachedActors, forgotten, lambda self, *told: None)
    assert any(run(seed, heads=True).problems for seed in range(60))


def test_a_raylet_that_does_not_report_anew_is_noticed(monkeypatch):
    monkeypatch.setattr("hpc.core.raylet.machine.RayletMachine.head_restarted", lambda self: None)
    assert any(run(seed, heads=True).problems for seed in range(30))


def test_a_digest_says_what_a_seed_delivers_whatever_the_hash_seed_is():
    """Equal for equal seeds in processes with different hash seeds, and another for another seed."""

    def digests(hash_seed: str) -> list[str]:
        command = [sys.executable, "-m", "hpc.core.sim", "--seeds", "0:4", "--heads", "--digest"]
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        lines = subprocess.run(command, env=env, check=True, text=True, capture_output=True, timeout=120).stdout
        return lines.splitlines()[:4]

    first = digests("1")
    assert first == digests("2")
    hashes = [line.split()[2] for line in first]
    assert len(set(hashes)) == len(hashes)
    again = [run(seed, heads=True) for seed in range(4)]
    assert [(report.digest, str(report.frames)) for report in again] == [
        (h, line.split()[1]) for h, line in zip(hashes, first)
    ]


def test_no_run_depends_on_the_words_of_a_reason(monkeypatch):
    """Each text for people becomes another of its length on its way: the same happens at the same times."""

    def outcomes() -> list[tuple[object, ...]]:
        reports = [run(seed, heads=seed % 3 == 0) for seed in range(24)]
        return [(r.problems, r.frames, r.virtual_s, r.tasks, r.story) for r in reports]

    def unread(body: bytes) -> list[wire.Message]:
        messages = wire.decode_body(body)
        for msg in messages:
            for name in ("why", "infeasible"):
                if getattr(msg, name, ""):
                    setattr(msg, name, "?" * len(getattr(msg, name)))
                    met.add(type(msg))
        return messages

    met: set[type] = set()
    before = outcomes()
    monkeypatch.setattr("hpc.core.sim.world.decode_body", unread)
    assert outcomes() == before
    assert met >= {wire.LeaseLost, wire.LeaseInfeasible, wire.Tickets, wire.BundleReturn, wire.KillWorker}


def test_a_digest_sees_a_frame_that_says_something_else(monkeypatch):
    before = run(3).digest
    monkeypatch.setattr("hpc.core.sim.world.TICK_S", 0.006)
    assert run(3).digest != before
