"""The policy of elastic sessions: single rules, and a session beside a queue with long waits, in virtual time."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.launch.growth import GROWTH, Wish, nodes_of_first, of_each, wish_of
from hpc.launch.jobdir import JobDir
from hpc.launchers.elastic import (
    LASTS_S,
    LEAVE_S,
    RETRY_MOST_S,
    RETRY_S,
    Decision,
    DemandReport,
    GroupWaiting,
    Limits,
    NodeUse,
    Policy,
    Waiting,
    need_of,
)
from hpc.settings.errors import CliError
from hpc.settings.options import load

CPU = 10_000
NODE = {"CPU": 2 * CPU, "memory": 8 * CPU}
LIMITS = Limits(2, 6, grow_after_s=5.0, idle_s=60.0)


def demand(nodes=2, waits=0, *, state="used", since=0.0, amounts=None, **more):
    """Nodes from number 1 on, all alike, and tasks that wait."""
    uses = nodes if isinstance(nodes, dict) else {n: NodeUse(state, since, 0) for n in range(1, nodes + 1)}
    waiting = [Waiting({"CPU": CPU} if amounts is None else amounts, waits)] if waits else []
    return DemandReport(uses, [NODE], waiting, **more)


def test_a_report_is_read_as_the_head_writes_it():
    report = {
        "nodes": [[1, "used", 3.0, 0, False], [2, "idle", 10.5, 0, True]], "kinds": [NODE],
        "shapes": [[{"CPU": CPU}, 12, 60.0, False]], "groups": [["PACK", [[{"CPU": CPU}, 2]]]],
        "room": [[{"CPU": CPU}, 1]], "more": 4,
    }  # fmt: skip
    found = DemandReport.of(report, 100.0)
    assert found.nodes == {1: NodeUse("used", 97.0, 0), 2: NodeUse("idle", 89.5, 0, True)}
    assert found.waiting == [Waiting({"CPU": CPU}, 12, 60.0, False)] and found.more == 4
    assert found.groups == [GroupWaiting("PACK", (({"CPU": CPU}, 2),))] and found.room == [({"CPU": CPU}, 1)]


# ---------------------------------------------------------------- how many nodes could be used


@pytest.mark.parametrize(
    ("waiting", "groups", "room", "nodes"),
    [
        ([Waiting({"CPU": CPU}, 1)], [], [], (0, 1)),
        ([Waiting({"CPU": CPU}, 3)], [], [], (0, 2)),
        ([Waiting({"CPU": CPU}, 10_000)], [], [], (0, 16)),
        ([Waiting({}, 500)], [], [], (0, 1)),
        ([Waiting({"CPU": 2 * CPU}, 2), Waiting({"memory": CPU}, 8)], [], [], (0, 2)),
        ([], [GroupWaiting("STRICT_SPREAD", (({"CPU": CPU}, 4),))], [({"CPU": 2 * CPU}, 2)], (2, 0)),
        ([], [GroupWaiting("PACK", (({"CPU": CPU}, 4),))], [({"CPU": 2 * CPU}, 1)], (1, 0)),
        ([], [GroupWaiting("STRICT_PACK", (({"CPU": CPU}, 2),))], [({"CPU": CPU}, 2)], (1, 0)),
        ([Waiting({"CPU": CPU}, 1)], [GroupWaiting("SPREAD", (({"CPU": CPU}, 3),))], [], (2, 0)),
    ],
)
def test_the_nodes_that_what_waits_could_use(waiting, groups, room, nodes):
    need = need_of(DemandReport({}, [], waiting, groups, room), NODE, 16)
    assert (need.groups, need.singles) == nodes and not need.unfit


@pytest.mark.parametrize(
    "what",
    [
        DemandReport(waiting=[Waiting({"GPU": CPU}, 3)]),
        DemandReport(waiting=[Waiting({"CPU": 3 * CPU}, 3)]),
        DemandReport(waiting=[Waiting({"CPU": CPU}, 3, elsewhere=False)]),
        DemandReport(waiting=[Waiting({"CPU": CPU}, 3, time_s=3601.0)]),
        DemandReport(groups=[GroupWaiting("STRICT_PACK", (({"CPU": CPU}, 3),))]),
        DemandReport(groups=[GroupWaiting("STRICT_SPREAD", (({"CPU": CPU}, 17),))]),
    ],
)
def test_what_no_node_could_serve_is_told_and_not_asked_for(what):
    need = need_of(what, NODE, 16, 3600.0)
    assert (need.groups, need.singles) == (0, 0) and len(need.unfit) == 1
    policy = Policy(Limits(1, 16, job_s=3600.0, grow_after_s=0.0))
    decided = policy.decide(DemandReport({1: NodeUse("used", 0.0, 0)}, [NODE], what.waiting, what.groups), 1.0)
    assert not decided.ask and "no node like these would help" in decided.why


# ---------------------------------------------------------------- asking


def test_nodes_are_asked_for_when_work_has_waited_for_a_while_and_only_once():
    policy = Policy(LIMITS)
    assert policy.decide(demand(waits=5), 0.0).ask == ()
    assert policy.decide(demand(waits=5), 4.9).ask == ()
    assert policy.decide(demand(waits=5), 5.0).ask == (1, 1, 1)
    for at in range(3):
        policy.asked(f"j{at}", 1, 5.0)
    assert all(policy.decide(demand(waits=6), 5.0 + t).ask == () for t in range(100))


def test_work_that_waits_for_moments_asks_for_nothing():
    policy = Policy(LIMITS)
    assert all(policy.decide(demand(waits=5 * (t % 5 != 0)), float(t)).ask == () for t in range(100))


def test_no_more_nodes_are_asked_for_than_the_limit():
    policy = Policy(Limits(2, 6, of_each=3, grow_after_s=0.0))
    assert policy.decide(demand(waits=10_000), 0.0).ask == (3, 1)


def test_after_a_refusal_it_waits_longer_each_time_and_after_a_success_as_at_first():
    policy, now, pauses = Policy(Limits(1, 2, grow_after_s=0.0)), 0.0, []
    for _ in range(10):
        began = now
        while not policy.decide(demand(1, 1), now).ask:
            now += 1.0
        pauses.append(now - began)
        policy.asked("j", 1, now)
        policy.refused("j", now)
    assert pauses[1:4] == [RETRY_S, 2 * RETRY_S, 4 * RETRY_S] and pauses[-1] == RETRY_MOST_S
    policy.asked("j", 1, now)
    policy.joined("j", [2], None, now)
    now += LASTS_S
    policy.decide(demand(2), now)
    policy.lost(2, now)
    policy.refused("k", now)
    assert policy.decide(demand(1, 1), now + RETRY_S).ask == (1,)


def test_jobs_whose_nodes_are_lost_as_soon_as_they_come_are_asked_for_less_and_less_often():
    policy, asked = Policy(Limits(1, 2, grow_after_s=1.0)), []
    for now in map(float, range(1000)):
        if policy.decide(demand(1, 1), now).ask:
            asked.append(now)
            policy.asked("j", 1, now)
            policy.joined("j", [2], None, now)
            pause_s = policy.lost(2, now)
            assert pause_s == RETRY_S * 2 ** (len(asked) - 1)
    assert len(asked) == 6


def test_jobs_that_are_refused_or_lost_together_count_once():
    policy = Policy(Limits(1, 9, grow_after_s=0.0))
    for name in "abcdefgh":
        policy.asked(name, 1, 0.0)
    policy.joined("g", [2], None, 0.0)
    policy.joined("h", [3], None, 0.0)
    pauses = [policy.refused(name, 1.0) for name in "abcdef"] + [policy.lost(2, 1.0), policy.lost(3, 1.0)]
    assert pauses == [RETRY_S] + 7 * [0.0]
    assert policy.decide(demand(1, 1), 0.9 + RETRY_S).ask == () and policy.decide(demand(1, 1), 1.0 + RETRY_S).ask


def test_refusals_are_counted_though_an_older_job_goes_on():
    policy, asked = Policy(Limits(1, 3, grow_after_s=1.0)), []
    policy.asked("old", 1, -100.0)
    policy.joined("old", [2], None, -100.0)
    for now in map(float, range(1000)):
        if policy.decide(demand(2, 1), now).ask:
            asked.append(now)
            policy.asked("j", 1, now)
            policy.refused("j", now)
    assert len(asked) == 6


def test_a_job_that_lasted_or_was_given_back_is_asked_for_again_at_once():
    policy = Policy(Limits(1, 2, grow_after_s=0.0, idle_s=1.0))
    policy.asked("j", 1, 0.0)
    policy.joined("j", [2], None, 0.0)
    assert policy.lost(2, LASTS_S) == 0.0 and policy.decide(demand(1, 1), LASTS_S).ask == (1,)
    policy.asked("k", 1, 100.0)
    policy.joined("k", [3], None, 100.0)
    policy.decide(demand({1: NodeUse("used", 0.0, 0), 3: NodeUse("idle", 100.0, 0)}), 102.0)
    assert policy.decide(demand({1: NodeUse("used", 0.0, 0), 3: NodeUse("empty", 100.0, 0)}), 103.0).end == ("k",)
    assert policy.lost(3, 104.0) == 0.0


def test_nothing_is_asked_for_tasks_that_outlast_the_session():
    policy = Policy(Limits(1, 2, grow_after_s=0.0, job_s=3600.0))
    waits = DemandReport({1: NodeUse("used", 0.0, 0)}, [NODE], [Waiting({"CPU": CPU}, 1, time_s=1800.0)])
    decided = policy.decide(waits, 0.0, left_s=600.0)
    assert not decided.ask and "no node like these would help" in decided.why
    assert policy.decide(waits, 1.0, left_s=3000.0).ask == (1,)


def test_nodes_below_the_least_are_replaced_though_nothing_waits():
    policy = Policy(Limits(3, 6, grow_after_s=2.0))
    assert policy.decide(demand(2), 0.0).ask == () and policy.decide(demand(2), 2.0).ask == (1,)


def test_a_session_that_is_about_to_end_asks_for_nothing():
    policy = Policy(Limits(1, 6, grow_after_s=0.0))
    assert policy.decide(demand(1, 9), 0.0, left_s=20.0).ask == ()
    assert policy.decide(demand(1, 9), 1.0, left_s=2000.0).ask


def test_a_job_near_its_end_counts_as_gone():
    policy = Policy(Limits(2, 3, grow_after_s=0.0, soon_s=30.0))
    policy.asked("j", 1, 0.0)
    policy.joined("j", [2], 100.0, 0.0)
    nodes = {1: NodeUse("used", 0.0, 0), 2: NodeUse("used", 0.0, 0)}
    assert policy.decide(demand(nodes), 50.0).ask == ()
    assert policy.decide(demand(nodes), 75.0).ask == (1,)


def test_what_waits_in_the_queue_is_withdrawn_when_it_has_not_been_needed_for_a_while():
    policy = Policy(LIMITS)
    policy.asked("old", 1, 0.0)
    policy.asked("new", 1, 1.0)
    assert policy.decide(demand(waits=2), 10.0).cancel == ()
    assert policy.decide(demand(waits=2), 69.0).cancel == ()
    assert policy.decide(demand(waits=2), 71.0).cancel == ("new",)


# ---------------------------------------------------------------- giving back


def grown(limits=LIMITS, ends=(None, None)):
    """A policy with two nodes of the first job, and two further jobs of one node each."""
    policy = Policy(limits)
    for number, end in zip((3, 4), ends):
        policy.asked(f"j{number}", 1, 0.0)
        policy.joined(f"j{number}", [number], end, 0.0)
    return policy


def uses(*states, since=0.0):
    return {n: NodeUse(state, since, 0) for n, state in enumerate(states, 1)}


def test_an_idle_job_is_vacated_and_ended_when_it_is_empty():
    policy = grown()
    assert policy.decide(demand(uses("used", "used", "idle", "used")), 59.0) == Decision()
    assert policy.decide(demand(uses("used", "used", "idle", "used")), 60.0) == Decision(vacate=frozenset([3]))
    assert policy.decide(demand(uses("used", "used", "leaving", "used")), 61.0) == Decision(vacate=frozenset([3]))
    ended = policy.decide(demand(uses("used", "used", "empty", "used")), 62.0)
    assert ended == Decision(end=("j3",), vacate=frozenset([3]))
    policy.lost(3, 63.0)
    assert list(policy.jobs) == ["j4"]


def test_the_nodes_of_the_first_job_are_never_given_back():
    policy = grown()
    assert policy.decide(demand(uses("idle", "idle", "idle", "idle")), 1000.0).vacate == {3, 4}


def test_the_job_that_ends_soonest_is_given_back_first():
    policy = grown(Limits(3, 6, idle_s=60.0), (9000.0, 5000.0))
    assert policy.decide(demand(uses("idle", "idle", "idle", "idle")), 1000.0).vacate == {4}


def test_a_job_without_values_is_given_back_before_one_that_has_some():
    policy = grown(Limits(3, 6, idle_s=60.0), (5000.0, 9000.0))
    nodes = {**uses("used", "used", "idle", "idle"), 3: NodeUse("idle", 0.0, 0, keeps=True)}
    assert policy.decide(demand(nodes), 1000.0).vacate == {4}
    policy.lost(4, 1000.0)
    del nodes[4]
    assert policy.decide(demand(nodes), 2000.0).vacate == frozenset()  # three are the least
    assert grown(LIMITS).decide(demand({**nodes, 4: NodeUse("used", 0.0, 0)}), 2000.0).vacate == {3}


def test_a_job_of_which_one_node_is_used_stays():
    policy = Policy(LIMITS)
    policy.asked("j", 2, 0.0)
    policy.joined("j", [3, 4], None, 0.0)
    assert policy.decide(demand(uses("used", "used", "idle", "used")), 1000.0) == Decision()


def test_a_job_that_is_used_again_while_it_is_vacated_stays():
    policy = grown()
    assert policy.decide(demand(uses("used", "used", "idle", "used")), 60.0).vacate == {3}
    assert policy.decide(demand(uses("used", "used", "used", "used")), 61.0) == Decision()


def test_a_job_whose_workers_do_not_end_is_used_again_for_a_while():
    policy = grown()
    policy.decide(demand(uses("used", "used", "idle", "used")), 60.0)
    assert policy.decide(demand(uses("used", "used", "leaving", "used")), 61.0 + LEAVE_S).vacate == frozenset()
    assert policy.decide(demand(uses("used", "used", "idle", "used")), 62.0 + LEAVE_S).vacate == frozenset()


def test_jobs_that_are_being_vacated_are_taken_back_before_others_are_asked_for():
    policy = grown(Limits(2, 6, grow_after_s=0.0, idle_s=60.0))
    policy.decide(demand(uses("used", "used", "idle", "idle")), 60.0)
    assert policy.decide(demand(uses("used", "used", "leaving", "leaving"), 3), 61.0) == Decision(
        why=policy.decide(demand(uses("used", "used", "idle", "idle"), 3), 61.0).why
    )


def test_nodes_that_did_not_help_are_not_asked_for_again_at_once():
    policy = Policy(Limits(1, 2, grow_after_s=1.0, idle_s=10.0))
    asked, now = [], 0.0
    while now < 400.0:
        job = next(iter(policy.jobs.values()), None)
        use = "empty" if job is not None and job.state == "leaving" else "idle"
        nodes = {1: NodeUse("used", 0.0, 0)} | ({2: NodeUse(use, job.since, 0)} if job is not None else {})
        decided = policy.decide(demand(nodes, 1), now)
        for _ in decided.ask:
            asked.append(now)
            policy.asked("j", 1, now)
            policy.joined("j", [2], None, now)
        for _ in decided.end:
            policy.lost(2, now)
        now += 1.0
    pauses = [b - a for a, b in pairwise(asked)]
    assert pauses == sorted(pauses) and pauses[-1] > 4 * pauses[0] and len(asked) <= 6


# ---------------------------------------------------------------- beside a queue, in virtual time


@dataclass
class World:
    """A session with work beside a queue: a turn is a second. Nodes have two places; a task needs one of them."""

    seed: int
    limits: Limits
    work: list[tuple[int, int, int]]  # when, how many tasks, how long each
    refuses: float = 0.0
    waits: tuple[int, int] = (30, 600)
    now: int = 0
    waiting: list[int] = field(default_factory=list)
    running: dict[int, list[int]] = field(default_factory=dict)
    idle_since: dict[int, int] = field(default_factory=dict)
    queue: dict[str, tuple[int, int]] = field(default_factory=dict)
    vacated: frozenset[int] = frozenset()
    asked: int = 0
    ended: int = 0
    most: int = 0
    done: int = 0
    log: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self):
        self.random = random.Random(self.seed)
        self.policy = Policy(self.limits)
        for number in range(1, self.limits.least + 1):
            self.running[number], self.idle_since[number] = [], 0
        self.next = self.limits.least + 1

    def turn(self):
        self.now += 1
        self.waiting += [each for when, count, each in self.work if when == self.now for _ in range(count)]
        self._arrive()
        self._run()
        self._decide()
        self.most = max(self.most, len(self.running))
        assert self.limits.least <= len(self.running) <= self.limits.most

    def _arrive(self):
        for name, (at, size) in list(self.queue.items()):
            if at <= self.now:
                del self.queue[name]
                numbers = range(self.next, self.next + size)
                self.next += size
                self.policy.joined(name, numbers, None, self.now)
                for number in numbers:
                    self.running[number], self.idle_since[number] = [], self.now

    def _run(self):
        for number, tasks in self.running.items():
            left = [each - 1 for each in tasks if each > 1]
            self.done += len(tasks) - len(left)
            while self.waiting and len(left) < 2 and number not in self.vacated:
                left.append(self.waiting.pop())
            self.running[number] = left
            if left:
                self.idle_since[number] = self.now

    def _decide(self):
        nodes = {
            n: NodeUse("used" if tasks else "empty" if n in self.vacated else "idle", float(self.idle_since[n]), 0)
            for n, tasks in self.running.items()
        }
        decided = self.policy.decide(demand(nodes, len(self.waiting)), float(self.now))
        self.vacated = frozenset(n for n in decided.vacate if not self.running.get(n))
        for size in decided.ask:
            self.asked += 1
            name = f"j{self.asked}"
            self.policy.asked(name, size, float(self.now))
            self.log.append((self.now, "ask"))
            if self.random.random() < self.refuses:
                self.policy.refused(name, float(self.now))
            else:
                self.queue[name] = self.now + self.random.randint(*self.waits), size
        for name in decided.cancel:
            del self.queue[name]
            self.policy.jobs.pop(name)
        for name in decided.end:
            self.ended += 1
            self.log.append((self.now, "end"))
            for number in self.policy.jobs[name].numbers:
                assert not self.running[number], "a node with work was ended"
                del self.running[number]
                self.policy.lost(number, float(self.now))

    def until(self, end):
        while self.now < end:
            self.turn()


bursts = st.lists(st.tuples(st.integers(1, 1500), st.integers(1, 60), st.integers(1, 100)), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 3), st.integers(0, 8), st.integers(1, 3), bursts, st.floats(0.0, 0.9))
def test_a_session_grows_within_its_limits_loses_nothing_and_comes_back(seed, least, more, of_each, work, refuses):
    world = World(seed, Limits(least, least + more, of_each, 5.0, 120.0), work, refuses)
    tasks = sum(count for _, count, _ in work)
    while world.done < tasks:
        world.turn()
        assert world.now < 1500 + 100 * tasks, "nothing goes on"
    over = world.now
    while len(world.running) > least or world.queue or world.policy.jobs:
        world.turn()
        assert world.now < over + 1000, "it does not come back"
    # No asking and giving back by turns: once for each burst, and what a job that waits for long may bring too late.
    assert refuses or world.asked <= more * len(work)


def test_steady_work_keeps_its_nodes():
    """Work for four nodes, with pauses shorter than the time after which nodes are given back."""
    work = [(1 + 60 * k, 8, 40) for k in range(60)]
    world = World(3, Limits(1, 8, 1, 5.0, 120.0), work, waits=(100, 300))
    world.until(3600)
    assert 4 <= len(world.running) <= 5 and not [what for at, what in world.log if at > 1000]


def test_a_burst_that_is_over_before_nodes_come_withdraws_them():
    world = World(1, Limits(2, 8, 1, 5.0, 60.0), [(10, 40, 5)], waits=(3000, 3000))
    world.until(400)
    assert world.asked and not world.queue and world.most == 2


def test_much_work_brings_all_nodes_at_once():
    world = World(1, Limits(2, 16, 2, 5.0, 60.0), [(1, 10_000, 60)], waits=(60, 60))
    world.until(120)
    assert len(world.running) == 16 and world.asked == 7 and {what for _, what in world.log} == {"ask"}


# ---------------------------------------------------------------- what the settings ask for


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ["-N2-4", "--ranks-per-node=2"],
            "--ranks-per-node and --nodes=2-4 do not go together: ranks cannot join later",
        ),
        (["-N2-4", "--runtime=mpi"], "--runtime and --nodes=2-4 do not go together"),
        (["-N2-4", "--gpus=4"], "--gpus and --nodes=2-4 do not go together"),
    ],
)
def test_what_does_not_go_with_a_session_that_grows_is_refused(words, why):
    with pytest.raises(CliError, match=why):
        wish_of(load([*words, "x.py"], {}))


def test_the_first_job_asks_for_the_least_and_with_min_nodes_for_what_is_free(tmp_path):
    settings = load(["-N4-16", "--min-nodes=2", "-t2h", "--setup=umask 077", "x.py"], {})
    assert nodes_of_first(settings, ranges=True) == (2, 4) and nodes_of_first(settings, ranges=False) == (4, 4)
    assert nodes_of_first(load(["-N4", "x.py"], {}), ranges=True) == (4, 4)
    wish = wish_of(settings)
    wish.save(JobDir(tmp_path))
    assert Wish.load(JobDir(tmp_path).read(GROWTH)) == wish and wish.setup == ("umask 077",)
    assert (wish.least, wish.most, of_each(settings, 4, 16), of_each(settings, 4, 30)) == (4, 16, 2, 4)
    assert wish_of(load(["-N4", "x.py"], {})) is None
