"""The time limit of a job: when its scheduler is asked, what is done before the end, and what is kept for the next."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipe_node import PipeGroup

from hpc.core.exceptions import NoStateError
from hpc.core.head.endings import Endings
from hpc.core.process.saved import SavedStates, file_name
from hpc.core.raylet.closing import Closing
from hpc.core.raylet.tables import NOBODY, Demand
from hpc.launch.limit import drain_time
from hpc.launchers import timekeeper
from hpc.launchers.loop import SessionLoop
from hpc.launchers.scheduler import JobInfo, JobNews
from hpc.launchers.session import Session
from hpc.launchers.timekeeper import FRESH_S, LEAD_S, Moment, Timekeeper, TimeLimit

LIMIT_S = 20.0


def limit(left_s: float | None, *before_s: float, ask_s: float = 60.0) -> TimeLimit:
    """What is known at time 1000."""
    made = TimeLimit(ask_s, moments=[Moment(each, lambda: None) for each in before_s])
    made.learn(left_s, 1000.0)
    made.asked_at = 1000.0
    return made


def test_far_from_the_end_it_is_asked_at_a_slow_pace() -> None:
    assert limit(86_400.0, 10.0).ask_at() == 1060.0
    assert limit(None, 10.0).ask_at() == 1060.0
    assert TimeLimit().ask_at() < 0  # nothing is known: at once


def test_ahead_of_each_moment_it_is_asked_again() -> None:
    known = limit(100.0, 60.0, 10.0, ask_s=600.0)
    assert known.ask_at() == 1000.0 + 40.0 - LEAD_S
    known.asked_at = known.ask_at()
    assert known.ask_at() == 1000.0 + 90.0 - LEAD_S
    known.asked_at = known.ask_at()
    assert known.ask_at() == known.asked_at + 600.0


def test_an_old_answer_is_not_acted_upon() -> None:
    """As after a suspension: the clock says that the end has come, and it has not."""
    known = limit(100.0, 10.0)
    assert known.due(1089.9) == [] and len(known.due(1090.0)) == 1
    assert not known.is_fresh(1090.0)
    known.learn(80.0, 1090.0)
    known.asked_at = 1090.0
    assert known.due(1091.0) == [] and known.is_fresh(1090.0 + FRESH_S)


def test_whole_seconds_are_no_news() -> None:
    known = limit(100.0)
    assert not known.learn(89.0, 1010.0) and not known.learn(91.5, 1010.0)
    assert known.learn(180.0, 1010.0) and known.learn(20.0, 1010.0) and known.learn(None, 1010.0)
    assert known.ends_at is None and not known.learn(None, 1010.0)


def test_a_node_ends_with_its_own_job_or_with_the_session() -> None:
    endings = Endings()
    assert endings.at(1) is None and endings.message(1, 50.0).left_s == -1.0
    endings.learn(100.0)
    endings.learn(80.0, [2])
    endings.learn(150.0, [3])
    assert [endings.at(node) for node in (1, 2, 3)] == [100.0, 80.0, 100.0]
    assert endings.message(2, 50.0).left_s == 30.0 and endings.message(2, 90.0).left_s == 0.0
    endings.learn(None)
    assert [endings.at(node) for node in (1, 2, 3)] == [None, 80.0, 150.0]
    endings.learn(None, [2])
    endings.forget(3)
    assert [endings.at(node) for node in (1, 2, 3)] == [None, None, None]


class Question:
    """An inquiry that is answered when the test says so."""

    def __init__(self, controller: Controller) -> None:
        self.controller, self.over = controller, False

    def poll(self) -> JobNews | None:
        if self.controller.silent:
            return None
        self.over = True
        left_s = self.controller.left_s
        info = JobInfo("7", "running", "R", run_time_s=0.0, limit_s=left_s)
        return JobNews(None if self.controller.down else info)

    def close(self) -> None:
        self.over = True


class Controller:
    """Of a scheduler with one job."""

    def __init__(self, left_s: float | None) -> None:
        self.left_s, self.asked, self.silent, self.down = left_s, 0, False, False

    def inquire(self) -> Question:
        self.asked += 1
        return Question(self)


@pytest.fixture
def node() -> PipeGroup:
    return PipeGroup()


@pytest.fixture
def loop(node: PipeGroup, monkeypatch: pytest.MonkeyPatch) -> Iterator[SessionLoop]:
    monkeypatch.setattr(timekeeper, "ASK_LEAST_S", 0.1)
    monkeypatch.setattr(timekeeper, "PATIENCE_S", 0.5)
    session = Session(node, start_timeout_s=LIMIT_S)
    loop = SessionLoop(session)
    session.start()
    node.come()
    assert loop.until(lambda: session.state == "ready", time.monotonic() + LIMIT_S)
    node.heard()
    yield loop
    node.end()
    session.stop(0.1)
    loop.close()


def until(loop: SessionLoop, check: object) -> None:
    assert callable(check) and loop.until(check, time.monotonic() + LIMIT_S)


def test_a_changed_limit_is_told_to_the_head(loop: SessionLoop, node: PipeGroup) -> None:
    controller, changes = Controller(500.0), []
    clock = Timekeeper(loop, controller.inquire, left_s=500.0, ask_s=0.1)
    clock.on_change = lambda: changes.append(clock.left_s)
    until(loop, lambda: controller.asked > 2)
    assert not changes and node.heard() == []
    controller.left_s = 900.0
    until(loop, lambda: bool(changes))
    assert changes[0] == pytest.approx(900.0, abs=2.0)
    assert node.heard() == [{"op": "time", "left_s": 900.0}]
    controller.left_s = None
    until(loop, lambda: len(changes) == 2)
    assert clock.left_s is None and node.heard() == [{"op": "time", "left_s": None}]
    clock.close()


def test_a_moment_of_a_limit_that_was_extended_does_not_come(loop: SessionLoop) -> None:
    controller, done = Controller(500.0), []
    clock = Timekeeper(loop, controller.inquire, left_s=LEAD_S + 1.5, ask_s=60.0)
    clock.before_end(1.0, lambda: done.append("too early"))
    until(loop, lambda: controller.asked == 1)  # LEAD_S ahead of it
    assert not loop.until(lambda: bool(done), time.monotonic() + 0.3)
    assert clock.left_s == pytest.approx(500.0, abs=2.0) and not done
    clock.close()


def test_a_limit_that_was_shortened_brings_the_moment_at_once(loop: SessionLoop) -> None:
    controller, done = Controller(0.5), []
    clock = Timekeeper(loop, controller.inquire, left_s=500.0, ask_s=0.1)
    clock.before_end(10.0, lambda: done.append(clock.left_s))
    until(loop, lambda: bool(done))
    assert done[0] <= 0.5
    clock.close()


@pytest.mark.parametrize("how", ["silent", "down"])
def test_a_scheduler_that_does_not_answer_is_not_waited_for(loop: SessionLoop, how: str) -> None:
    controller, done = Controller(500.0), []
    setattr(controller, how, True)
    clock = Timekeeper(loop, controller.inquire, left_s=0.5, ask_s=60.0)
    clock.limit.asked_at -= 100.0
    clock.before_end(0.3, lambda: done.append(True))
    until(loop, lambda: bool(done))
    assert clock.left_s is not None
    clock.close()


def test_a_moment_can_be_moved_when_the_limit_is_another(loop: SessionLoop) -> None:
    controller, done = Controller(30.0), []
    clock = Timekeeper(loop, controller.inquire, left_s=500.0, ask_s=0.1)
    moment = clock.before_end(60.0, lambda: done.append(True))
    clock.on_change = lambda: setattr(moment, "before_s", 6.0)
    until(loop, lambda: moment.before_s == 6.0)
    assert not loop.until(lambda: bool(done), time.monotonic() + 0.3), "as it would have been by the first limit"
    clock.close()


def test_where_nobody_can_be_asked_the_first_word_counts(loop: SessionLoop) -> None:
    done: list[bool] = []
    clock = Timekeeper(loop, None, left_s=0.4)
    clock.before_end(0.2, lambda: done.append(True))
    until(loop, lambda: bool(done))
    clock.close()


def test_where_there_is_no_limit_and_nobody_to_ask_nothing_is_looked_at(loop: SessionLoop) -> None:
    """A moment before an end that is not known is no reason to look again and again."""
    assert limit(None, 10.0).look_at(1001.0, asks=False) is None
    clock = Timekeeper(loop, None)
    clock.before_end(60.0, lambda: None)
    turns = []
    loop.at(time.monotonic() + 0.3, lambda: turns.append("late"))
    while "late" not in turns:
        loop.turn()
        turns.append("turn")
    assert len(turns) < 20, len(turns)
    clock.close()


def test_nodes_that_end_too_soon_for_what_takes_long() -> None:
    endings = Endings()
    assert endings.too_short([1, 2], 500.0, 0.0)[0] == set()
    endings.learn(300.0)
    endings.learn(100.0, [2])
    short, words = endings.too_short([1, 2], 200.0, 0.0)
    assert short == {2} and endings.too_short([1, 2], 500.0, 0.0)[0] == {1, 2}
    assert "200 s" in words and "100 s" in words


def test_a_node_that_closes_admits_what_can_finish_and_nothing_once_it_drains() -> None:
    closing = Closing()
    short, long = (Demand(NOBODY, 1, 1, {}, {}, "DEFAULT", (), False, NOBODY, time_s=s) for s in (10.0, 100.0))
    assert closing.admits(long, 0.0)
    closing.ends_at = 50.0
    assert closing.admits(short, 0.0) and not closing.admits(long, 0.0) and not closing.admits(short, 45.0)
    closing.timed = {7: 10.0, 8: 100.0}
    assert closing.late(0.0) == [8] and closing.late(0.0) == [] and closing.next_at(0.0) == 40.0
    assert closing.late(41.0) == [7] and closing.next_at(41.0) == 42.0
    closing.ends_at, closing.why = None, "it goes"
    assert not closing.admits(short, 0.0)
    assert closing.cause("crash") == "drained" and closing.cause("oom") == "oom"


@pytest.mark.parametrize(("left_s", "drain_s"), [(None, 60.0), (86_400.0, 60.0), (60.0, 12.0)])
def test_how_long_before_the_end_a_session_drains(left_s: float | None, drain_s: float) -> None:
    assert drain_time(left_s) == drain_s


def test_names_of_states_are_names_of_files(tmp_path: Path) -> None:
    names = ["a", "a/b", "..", ".hidden", "", "ü" * 300, "ü" * 301, "a b", "a%20b", "A"]
    files = [file_name(name) for name in names]
    assert len({*files}) == len(names) and not any("/" in f or f.startswith(".") or len(f) > 220 for f in files)
    states = SavedStates(str(tmp_path / "deep" / "er"))
    for number, name in enumerate(names[:4]):
        states.save("script", name, number)
    assert [states.load("script", name) for name in names[:4]] == [(True, n) for n in range(4)]
    assert states.load("actors/x", "a") == (False, None)
    (tmp_path / "file").touch()
    with pytest.raises(NoStateError, match="cannot be written"):
        SavedStates(str(tmp_path / "file" / "x")).save("script", "a", 1)


def test_a_state_that_was_half_written_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between any two of its steps, a state is the old one or the new one."""
    states = SavedStates(str(tmp_path))
    states.save("script", "a", "old")
    real, left = os.replace, 0

    def replace(src: str, dst: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        real(src, dst)

    monkeypatch.setattr(os, "replace", replace)
    for moves in (0, 1):
        left = moves
        with pytest.raises(KeyboardInterrupt):
            states.save("script", "a", "new")
        assert states.load("script", "a") == (True, "old")
