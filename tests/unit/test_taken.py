"""Nodes that are told to end: who asks the scheduler, and what follows from its answer. The loop here does not wait."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from hpc.launch.taken import TAKEN, Taken
from hpc.launchers.scheduler import JobInfo, JobNews
from hpc.launchers.session_nodes import SessionNode


class Question:
    """A scheduler's answer, at the second look."""

    def __init__(self, info: JobInfo | None) -> None:
        self.info, self.looks, self.closed = info, 0, False

    @property
    def over(self) -> bool:
        return self.looks > 1

    def poll(self) -> JobNews | None:
        self.looks += 1
        return JobNews(self.info, known=self.info is not None) if self.looks > 1 else None

    def close(self) -> None:
        self.closed = True


class Group:
    """Nodes of one job."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id


class World:
    """A session with its head on node 1, in a group of its own, and node 2 and 3 in another job's."""

    def __init__(self, info: JobInfo | None, kind: str = "inside") -> None:
        groups = [Group("10"), Group("11")]
        self.nodes = {n: SessionNode(n, 0, groups[n > 1], state="ready") for n in (1, 2, 3)}
        self.drained: list[tuple[int, float, str]] = []
        self.removed: list[int] = []
        self.asked: list[str] = []
        self.ended: list[tuple[JobInfo | None, str]] = []
        self.later: list[Callable[[], object]] = []
        self.on_warned: Callable[[SessionNode, str], bool] | None = None
        self.head, self.state = self.nodes[1], "ready"
        self.question = Question(info)

        def inquire(job_id: str, *, position: bool) -> Question:
            self.asked.append(job_id)
            return self.question

        place = SimpleNamespace(kind=kind, scheduler=SimpleNamespace(inquire=inquire))
        loop = SimpleNamespace(session=self, at=lambda at_s, call: self.later.append(call))
        Taken(loop, place, 5.0, lambda job, name: self.ended.append((job, name)), lambda text: None)

    def drain_node(self, node: int, left_s: float, why: str) -> None:
        self.drained.append((node, left_s, why))

    def remove_node(self, node: int, grace_s: float) -> None:
        self.removed.append(node)
        self.nodes[node].state = "gone"

    def warn(self, *nodes: int) -> None:
        assert self.on_warned is not None
        for node in nodes:
            assert self.on_warned(self.nodes[node], "SIGTERM"), "it may stay until it is ended from here"

    def turn(self) -> None:
        later, self.later = self.later, []
        for call in later:
            call()


def preempted(left_s: float) -> JobInfo:
    return JobInfo("11", "running", "RUNNING", limit_s=left_s, preempted=True)


def test_one_question_is_asked_for_all_nodes_of_a_job_and_they_leave_in_the_time_that_it_has() -> None:
    world = World(preempted(30.0))
    world.warn(2, 3)
    world.turn()
    assert world.asked == ["11"] and world.question.closed and not world.ended
    assert world.drained == [(2, 28.0, TAKEN), (3, 28.0, TAKEN)]
    world.nodes[2].drained = True  # all has moved
    world.turn()
    assert world.removed == [2], "it ends as soon as nothing is lost by that"


def test_a_node_that_leaves_already_and_is_told_once_more_is_told_of_once() -> None:
    world = World(preempted(30.0))
    world.warn(2)
    world.turn()
    world.warn(2, 3)
    world.turn()
    world.turn()
    assert [node for node, _, _ in world.drained] == [2, 3]


def test_where_the_head_is_told_to_end_the_session_ends_and_is_told_what_the_scheduler_says() -> None:
    world = World(preempted(30.0))
    world.warn(1)
    world.turn()
    assert [(job.time_left_s, name) for job, name in world.ended if job is not None] == [(30.0, "SIGTERM")]
    assert not world.drained


@pytest.mark.parametrize("info", [None, JobInfo("11", "running", "RUNNING", limit_s=3000.0)])
def test_nodes_of_which_nothing_is_known_have_the_grace_time(info: JobInfo | None) -> None:
    world = World(info)
    world.warn(3)
    world.turn()
    assert world.drained == [(3, 3.0, "it was told to end by SIGTERM")]


def test_on_a_machine_without_a_scheduler_nobody_is_asked() -> None:
    world = World(None, kind="local")
    world.warn(2)
    world.turn()
    assert not world.asked and [node for node, _, _ in world.drained] == [2]
