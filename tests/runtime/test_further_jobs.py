"""Further jobs of a session, by a scheduler that runs them on this machine: how they come, and that none stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

import hpc
from hpc.core.node.reap import descendants
from hpc.launch.jobdir import birth
from hpc.launchers import further
from hpc.launchers.batch_jobs import RECORD, BatchJobs, withdraw_recorded
from hpc.launchers.elastic import Limits, Policy
from hpc.launchers.further import Growth
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.relay import OVER
from hpc.launchers.scheduler import Diagnosis, Request
from hpc.launchers.session import Session
from hpc.launchers.session_thread import SessionThread
from hpc.util import state
from runtime.running import eventually, on

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from fake_scheduler import FakeScheduler


@dataclass
class RunsHere(FakeScheduler):
    """Runs each job script on this machine as soon as the test lets it: at once, unless it `holds` jobs. `code`: what
    its relays run first."""

    code: ClassVar[str] = ""
    holds: bool = False
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    one: threading.Lock = field(default_factory=threading.Lock)

    def submit(self, command: Sequence[str], request: Request) -> str:
        with self.one:  # each job is submitted by a thread
            job_id = super().submit(command, request)
        self.scripts[job_id] = command[-1]
        if not self.holds:
            self.start(job_id)
        return job_id

    def script(self, request: Request, *, cwd: str, setup: Sequence[str], command: Sequence[str]) -> str:
        import shlex

        text = "\n".join(["cd " + cwd, *setup, "exec " + shlex.join(command)]) + "\n"
        return text.replace("from hpc.launchers.relay", f"{self.code} from hpc.launchers.relay")

    def start(self, job_id: str) -> None:
        path = Path(self.scripts[job_id])
        with path.with_suffix(".out").open("wb") as out:
            self.running[job_id] = subprocess.Popen(["/bin/sh", str(path)], stdout=out, stderr=out)
        self.change(job_id, phase="running", state="RUNS")

    def look(self, job_id: str) -> None:
        process = self.running.get(job_id)
        if process is not None and process.poll() is not None:
            self.change(job_id, phase="ended", state="DONE", exit_code=process.returncode)

    def states(self, job_ids: Sequence[str]) -> Any:
        for job_id in job_ids:
            self.look(job_id)
        return super().states(job_ids)

    def inquire(self, job_id: str, *, position: bool) -> Any:
        self.look(job_id)
        return super().inquire(job_id, position=position)

    def cancel(self, job_id: str) -> Any:
        if job_id in self.running:
            self.running[job_id].terminate()
        return super().cancel(job_id)

    def said(self, job_id: str) -> str:
        return Path(self.scripts[job_id]).with_suffix(".out").read_text()


@dataclass
class World:
    """A session of one node with one CPU that may grow to three, the driver in this process."""

    scheduler: RunsHere
    folder: Path
    thread: SessionThread
    growth: Growth
    told: list[str]

    @property
    def session(self) -> Session:
        return self.thread.session

    def ready(self) -> int:
        with self.thread.hold() as session:
            return len(session.ready())

    def give_back_after(self, idle_s: float) -> None:
        """From now on. Before, no node that has come goes, whatever a slow machine takes to have work begin there."""
        with self.thread.hold():
            self.growth.policy.limits = replace(self.growth.policy.limits, idle_s=idle_s)

    def end(self) -> None:
        hpc.shutdown()
        with self.thread.hold():
            self.growth.close()
        self.thread.stop(2.0, "the test is over")
        self.growth.end()


@pytest.fixture
def world(no_leaks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    made: list[World] = []
    monkeypatch.setattr(further, "REPORT_S", 0.1)

    def make(
        scheduler: RunsHere, limits: Limits | None = None, env: dict[str, str] | None = None, **options: Any
    ) -> World:
        session = Session(
            LocalGroup(1), overrides={"num_cpus": 1, "object_store_bytes": 64 << 20}, config={"loopback": True},
            interface="lo",
        )  # fmt: skip
        session.wait_ready(30.0)
        thread = SessionThread(session)
        told: list[str] = []
        order = {"interface": "lo", "base_dir": None, "step_args": [], "env": env or {"FURTHER": "yes"}}
        jobs = BatchJobs(thread.loop, scheduler, Request(time=3600.0), tmp_path, cwd=str(tmp_path), order=order)
        policy = Policy(limits or Limits(1, 3, grow_after_s=0.2, idle_s=60.0))
        with thread.hold():
            growth = Growth(
                thread.loop, policy, jobs, overrides={"num_cpus": 1, "object_store_bytes": 64 << 20}, grace_s=2.0,
                say=told.append, **options,
            )  # fmt: skip
            growth.begin()
        made.append(World(scheduler, tmp_path, thread, growth, told))
        hpc.init(address=session.local_dir())
        return made[-1]

    yield make
    for each in made:
        each.end()


@hpc.remote(max_retries=0)
def one(seconds: float = 0.3) -> tuple[int, str | None]:
    time.sleep(seconds)
    return int(hpc.get_runtime_context().get_node_id()), os.environ.get("FURTHER")


class Pings(RunsHere):
    """Its relays say that they live at the last moment, too: between their last word and their end."""

    code = (
        "from hpc.launchers.relay import Relay as R; f = R._leave; "
        "R._leave = lambda self, deadline: (self._tick(), f(self, deadline)); "
    )


def test_nodes_of_further_jobs_work_like_the_others_and_go_when_they_are_idle(world: Callable[..., World]) -> None:
    here = world(Pings())
    gate = here.folder / "gate"
    refs = [until.remote(gate) for _ in range(6)]
    eventually(lambda: len([row for row in state.list_tasks() if row.state == "RUNNING"]) == 3)
    gate.touch()
    assert set(hpc.get(refs)) == {1, 2, 3}
    values = hpc.get([one.options(scheduling_strategy=on(node)).remote(0) for node in (2, 3)])
    assert values == [(2, "yes"), (3, "yes")]
    secrets = [here.folder / "join-further", here.folder / "further-1.order"]
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}
    here.give_back_after(0.5)
    eventually(lambda: here.ready() == 1)
    eventually(lambda: here.scheduler.states(["1", "2"])["1"].phase == "ended")
    eventually(lambda: {info.exit_code for info in here.scheduler.states(["1", "2"]).values()} == {0})
    assert [here.scheduler.said(job) for job in "12"] == ["", ""]
    assert hpc.get(one.remote()) == (1, None)


@hpc.remote(max_retries=2)
def until(gate: Path) -> int:
    """Which node; it holds its CPU until the gate is there."""
    eventually(gate.exists, 60.0)
    return int(hpc.get_runtime_context().get_node_id())


def test_an_actor_and_what_a_worker_owns_keep_their_node_and_values_move(world: Callable[..., World]) -> None:
    here = world(RunsHere(), Limits(1, 2, grow_after_s=0.1, idle_s=60.0))

    @hpc.remote(num_cpus=1)
    class Counts:
        def where(self) -> int:
            return int(hpc.get_runtime_context().get_node_id())

    @hpc.remote(scheduling_strategy=on(2))
    def owns() -> list[hpc.ObjectRef]:
        return [hpc.put("small")]

    first, second = Counts.remote(), Counts.remote()
    assert sorted(hpc.get([first.where.remote(), second.where.remote()])) == [1, 2]
    here.give_back_after(0.3)
    time.sleep(1.0)  # three times as long
    assert here.ready() == 2 and here.growth.policy.jobs["1"].state == "there"
    there = first if hpc.get(first.where.remote()) == 2 else second
    value = hpc.remote(lambda: b"x" * 10_000_000).options(scheduling_strategy=on(2), max_retries=0).remote()
    owned = owns.remote()
    hpc.kill(there)
    inner = hpc.get(owned)
    hpc.wait([value], fetch_local=False)
    time.sleep(1.0)  # its worker stays for what it owns, though it was asked to end
    assert here.ready() == 2 and hpc.get(inner) == ["small"]
    del inner, owned
    eventually(lambda: here.ready() == 1)
    assert hpc.get(value) == b"x" * 10_000_000


def test_a_refusal_is_told_and_the_session_goes_on(world: Callable[..., World]) -> None:
    here = world(RunsHere(refusal=Diagnosis("REJECTED", "no more jobs for you", why="fsub: limit reached")))
    gate = here.folder / "gate"
    refs = [until.remote(gate) for _ in range(6)]
    eventually(lambda: any("no more jobs for you; fsub: limit reached" in text for text in here.told))
    gate.touch()
    assert set(hpc.get(refs)) == {1}
    assert here.growth.facts()["refusal"] and len([text for text in here.told if "do not come" in text]) == 1


def test_a_job_that_ends_in_the_queue_is_told(world: Callable[..., World]) -> None:
    here = world(RunsHere(holds=True))
    gate = here.folder / "gate"
    refs = [until.remote(gate) for _ in range(6)]
    eventually(lambda: here.scheduler.jobs)
    here.scheduler.change("1", phase="ended", state="GONE")
    eventually(lambda: any("job 1 has ended before its nodes came (GONE)" in text for text in here.told))
    gate.touch()
    hpc.get(refs)


def test_what_waits_in_the_queue_is_cancelled_with_the_session(world: Callable[..., World], tmp_path: Path) -> None:
    here = world(RunsHere(holds=True))
    gate = tmp_path / "gate"
    refs = [until.remote(gate) for _ in range(6)]
    eventually(lambda: len(here.scheduler.jobs) == 2)
    eventually(lambda: (tmp_path / RECORD).exists() and json.loads((tmp_path / RECORD).read_text())["ids"])
    eventually(lambda: "waits: all nodes are busy, ...)" in here.growth.words()[0])
    assert here.growth.words()[0].startswith("2 nodes asked for (job ")
    gate.touch()
    hpc.get(refs)
    here.end()
    assert {info.ending for info in here.scheduler.jobs.values()} == {"cancelled"}
    assert json.loads((tmp_path / RECORD).read_text())["ids"] == []


def test_a_session_that_drains_asks_for_nothing_and_withdraws_what_waits(
    world: Callable[..., World], tmp_path: Path
) -> None:
    here = world(RunsHere(holds=True), Limits(2, 3, grow_after_s=0.1, idle_s=60.0))
    gate = tmp_path / "gate"
    refs = [until.remote(gate) for _ in range(6)]
    eventually(lambda: len(here.scheduler.jobs) == 2)
    with here.thread.hold() as session:
        session.tell_head({"op": "time", "left_s": 60.0, "drain": "a test"})
        here.growth.drain()
    eventually(lambda: {info.ending for info in here.scheduler.jobs.values()} == {"cancelled"})
    time.sleep(0.5)  # five reports, in which less nodes than the least take work
    assert len(here.scheduler.jobs) == 2 and not here.growth.words() and not here.growth.facts()["why"]
    gate.touch()
    hpc.get(refs[0])


def test_nodes_that_cannot_start_are_not_asked_for_again_and_again(world: Callable[..., World]) -> None:
    here = world(RunsHere(), Limits(1, 2, grow_after_s=0.1, idle_s=60.0), {"HPC_TMPDIR": "/no/such/folder"})
    gate = here.folder / "gate"
    refs = [until.remote(gate) for _ in range(6)]
    eventually(lambda: here.growth.refusal)
    gate.touch()
    hpc.get(refs)
    assert list(here.scheduler.jobs) == ["1"] and "/no/such/folder" in here.growth.refusal
    assert "hpc: nodes that had just come are gone: others are asked for in 30 s, or later" in here.told


def test_a_job_that_starts_after_the_session_ends_at_once(world: Callable[..., World]) -> None:
    here = world(RunsHere(holds=True))
    gate = here.folder / "gate"
    refs = [until.remote(gate) for _ in range(6)]
    eventually(lambda: here.scheduler.jobs)
    gate.touch()
    hpc.get(refs)
    here.end()
    here.scheduler.start("1")
    assert here.scheduler.running["1"].wait(60) == 0 and OVER in here.scheduler.said("1")


def test_the_nodes_of_a_job_that_is_cancelled_are_lost_and_their_tasks_run_elsewhere(
    world: Callable[..., World],
) -> None:
    here = world(RunsHere(), Limits(1, 2, grow_after_s=0.1, idle_s=60.0))
    gate = here.folder / "gate"
    refs = [until.remote(gate) for _ in range(3)]
    eventually(lambda: here.ready() == 2)
    here.scheduler.cancel("1")
    eventually(lambda: here.ready() == 1)
    gate.touch()
    assert hpc.get(refs) == [1, 1, 1]
    eventually(lambda: here.scheduler.running["1"].poll() is not None)


def test_nothing_of_a_further_job_stays_when_its_relay_is_killed(world: Callable[..., World]) -> None:
    here = world(RunsHere(), Limits(1, 2, grow_after_s=0.1, idle_s=60.0))
    gate = here.folder / "gate"
    refs = [until.remote(gate) for _ in range(3)]
    eventually(lambda: here.ready() == 2)
    relay = here.scheduler.running["1"].pid
    below = descendants(relay)
    assert below
    os.kill(relay, signal.SIGKILL)
    eventually(lambda: not any(birth(pid) for pid in below))
    with here.thread.hold() as session:
        session.groups[1].kill()  # as the door does when it has heard nothing for 30 s
    eventually(lambda: here.ready() == 1)
    gate.touch()
    assert hpc.get(refs) == [1, 1, 1]


def test_a_job_near_its_end_drains_and_another_is_asked_for(world: Callable[..., World]) -> None:
    """Further jobs last 8 s, and tasks may run once only."""
    here = world(Short(), Limits(1, 2, grow_after_s=0.1, idle_s=60.0, soon_s=2.5), drain_s=2.5)
    refs = [one.remote(0.3) for _ in range(80)]
    assert len(hpc.get(refs, timeout=100.0)) == 80
    assert here.growth.grown >= 2
    eventually(lambda: here.scheduler.states(["1"])["1"].exit_code == 0)


class Short(RunsHere):
    """Its jobs last 8 s, as their relays say, and as it says itself."""

    code = (
        "from hpc.launchers.local.group import LocalGroup as G; f = G.start_fields; "
        "G.start_fields = lambda self: dict(f(self), time_left_s=8.0); "
    )

    def look(self, job_id: str) -> None:
        super().look(job_id)
        self.began.setdefault(job_id, time.monotonic())
        self.change(job_id, limit_s=8.0, run_time_s=time.monotonic() - self.began[job_id])


@pytest.mark.parametrize(
    ("asked_s", "left_s", "time_s"),
    [
        (None, None, None),
        (None, 3597.0, 3597.0),
        (3600.0, None, 3600.0),
        (3600.0, 3597.0, 3600.0),
        (3600.0, 60.0, 120.0),
    ],
)
def test_a_further_job_asks_for_no_more_time_than_the_first_one_was_granted(
    tmp_path: Path, asked_s: float | None, left_s: float | None, time_s: float | None
) -> None:
    jobs = BatchJobs(SimpleNamespace(), FakeScheduler(), Request(time=asked_s), tmp_path)  # type: ignore[arg-type]
    assert jobs._request("1", 1, left_s).time == time_s


class Mute(RunsHere):
    """The nodes of its jobs hear nothing, and so say nothing."""

    code = "from hpc.launchers.local.group import LocalGroup as G; G.send = lambda self, message: None; "


def test_nodes_that_come_and_never_answer_are_given_up(world: Callable[..., World]) -> None:
    here = world(Mute(), Limits(1, 2, grow_after_s=0.1, idle_s=60.0))
    here.session.start_timeout_s = 1.0
    gate = here.folder / "gate"
    refs = [until.remote(gate) for _ in range(4)]
    eventually(lambda: here.growth.refusal.endswith("not ready within 1 s"))
    eventually(lambda: here.scheduler.states(["1"])["1"].phase == "ended")
    gate.touch()
    assert here.growth.facts()["asked"] == [] and set(hpc.get(refs)) == {1}


def test_what_a_session_could_not_clear_up_is_withdrawn_by_its_record(tmp_path: Path) -> None:
    scheduler = FakeScheduler()
    for _ in range(3):
        scheduler.submit(["fsub", "x"], Request())
    scheduler.change("2", phase="ended")
    (tmp_path / RECORD).write_text(json.dumps({"scheduler": "fake", "ids": ["1", "2", "7"]}))
    assert withdraw_recorded(tmp_path, scheduler) == ["1"]
    assert scheduler.jobs["1"].ending == "cancelled" and scheduler.jobs["3"].phase == "queued"
    assert withdraw_recorded(tmp_path / "none", scheduler) == []
