"""The control plane of a service, by its pure parts: what begins and ends, how many replicas, where requests go."""

from __future__ import annotations

from typing import Any

import pytest

from hpc.serve.canary import AppOutcomes, Judge, Outcomes, Split, choose, percentile
from hpc.serve.config import AutoscalingConfig
from hpc.serve.control.autoscale import Load, Scaler
from hpc.serve.control.rollout import Row, Wanted, batch_of, plan, surge_of, victims
from hpc.serve.control.world import World
from hpc.serve.messages import DeploymentID, HandleMetrics
from hpc.serve.policies import default_autoscaling_policy
from hpc.serve.schema import ReplicaState

RUNS, STARTS = ReplicaState.RUNNING, ReplicaState.STARTING
LEAVES = ReplicaState.PENDING_MIGRATION


def rows(*given: tuple[str, ReplicaState]) -> list[Row]:
    return [Row(f"r{at}", version, state, order=at) for at, (version, state) in enumerate(given)]


def test_what_is_missing_begins_and_what_is_too_much_ends() -> None:
    assert plan(Wanted(3, "a"), []).start == {"a": 3}
    made = plan(Wanted(1, "a"), rows(("a", RUNS), ("a", RUNS), ("a", STARTS)))
    assert made.stop == ["r2", "r1"] and not any(made.start.values())
    assert not plan(Wanted(1, "a"), rows(("a", RUNS)))


def test_without_a_surge_some_old_ones_end_first() -> None:
    made = plan(Wanted(4, "b", batch=1), rows(*[("a", RUNS)] * 4))
    assert len(made.stop) == 1 and made.start == {"b": 1}
    waiting = rows(*[("a", RUNS)] * 3, ("b", STARTS))
    assert not plan(Wanted(4, "b", batch=1), waiting)


def test_a_target_that_shrinks_during_a_change_ends_new_ones_that_have_not_begun() -> None:
    made = plan(Wanted(2, "b", batch=1), rows(("a", RUNS), ("a", RUNS), ("b", STARTS), ("b", STARTS)))
    assert sorted(made.stop) == ["r1", "r3"] and not any(made.start.values())


def test_with_a_surge_new_ones_begin_first() -> None:
    made = plan(Wanted(4, "b", surge=1), rows(*[("a", RUNS)] * 4))
    assert made.stop == [] and made.start == {"b": 1}
    made = plan(Wanted(4, "b", surge=1), rows(*[("a", RUNS)] * 4, ("b", RUNS)))
    assert len(made.stop) == 1 and made.start == {"b": 1}


def test_a_failed_version_leaves_the_good_one() -> None:
    wanted = Wanted(3, "b", failed=True, good="a")
    made = plan(wanted, rows(("a", RUNS), ("a", RUNS), ("b", STARTS)))
    assert made.stop == ["r2"] and made.start == {"a": 1}
    assert plan(Wanted(3, "b", failed=True), rows(("b", STARTS))).start == {}


def test_a_replica_moves_when_another_one_serves_in_its_place() -> None:
    made = plan(Wanted(2, "a"), rows(("a", LEAVES), ("a", RUNS)))
    assert made.start == {"a": 1} and made.stop == []
    made = plan(Wanted(2, "a"), rows(("a", LEAVES), ("a", RUNS), ("a", RUNS)))
    assert made.stop == ["r0"]


def test_the_emptiest_node_is_freed_first() -> None:
    there = [Row("a", "v", RUNS, "1"), Row("b", "v", RUNS, "1"), Row("c", "v", RUNS, "2", ongoing=3)]
    assert victims(there, 1) == ["c"]
    assert (surge_of(34, 3), surge_of(0, 3), batch_of(0.2, 4), batch_of(0.5, 4)) == (2, 0, 1, 2)


# ---------------------------------------------------------------- autoscaling


class Scaled:
    """A deployment that is scaled: its load is told, time passes."""

    def __init__(self, target: int, **options: Any) -> None:
        self.config = AutoscalingConfig(**options)
        self.load, self.scaler, self.target, self.now = Load(), Scaler(), target, 0.0

    def tell(self, queued: int, running: int, router: str = "r") -> None:
        row = HandleMetrics(router, "app", "d", queued, {"x": running})
        self.load.note(row, self.now)

    def at(self, now: float, policy: Any = default_autoscaling_policy) -> int:
        self.now = now
        self.target = self.scaler.decide(
            DeploymentID("d"), self.config, policy, self.load, [], self.target, 1.0, self.now
        )
        return self.target


def test_a_decision_has_to_hold() -> None:
    one = Scaled(1, max_replicas=10, target_ongoing_requests=2, upscale_delay_s=3, downscale_delay_s=10)
    one.tell(4, 6)
    assert one.at(0) == 1
    one.tell(4, 6)
    assert one.at(2.9) == 1 and one.at(3) == 5
    one.load.routers.clear()
    one.tell(0, 2)
    assert one.at(4) == 5 and one.at(13.9) == 5
    one.tell(0, 2)
    assert one.at(14) == 1


def test_from_zero_at_once_and_to_zero_from_one() -> None:
    one = Scaled(0, min_replicas=0, max_replicas=3, downscale_delay_s=2, downscale_to_zero_delay_s=5)
    assert one.at(0) == 0
    one.tell(1, 0)
    assert one.at(0.1) == 1
    one.load.routers.clear()
    one.tell(0, 0)
    assert one.at(1) == 1 and one.at(5.9) == 1
    one.tell(0, 0)
    assert one.at(6) == 0


def test_a_caller_that_has_died_counts_no_more() -> None:
    one = Scaled(1, max_replicas=10, upscale_delay_s=0, downscale_delay_s=0, metrics_interval_s=1)
    one.tell(10, 0)
    assert one.at(0) == 5
    assert one.at(9) == 5 and one.at(10.1) == 1


def test_a_policy_of_a_user_decides_and_its_errors_change_nothing() -> None:
    one = Scaled(1, max_replicas=10, upscale_delay_s=0)
    assert one.at(0, lambda ctx: (ctx.current_num_replicas + 2, {"seen": 1})) == 3
    assert one.scaler.policy_state == {"seen": 1}

    def fails(ctx: Any) -> int:
        raise ZeroDivisionError("no")

    assert one.at(1, fails) == 3 and "ZeroDivisionError" in one.scaler.wrong


# ---------------------------------------------------------------- canaries


def test_weights_hold_and_keys_stay() -> None:
    split = [("a", 9.0), ("b", 1.0)]
    drawn = [choose(split, None, at / 1000) for at in range(1000)]
    assert drawn.count("b") == 100
    keys = [str(at).encode() for at in range(10000)]
    before = {key: choose(split, key, 0.0) for key in keys}
    assert abs(list(before.values()).count("b") - 1000) < 100
    after = {key: choose([("a", 8.0), ("b", 2.0)], key, 0.0) for key in keys}
    assert all(after[key] == "b" for key in keys if before[key] == "b")


def test_a_bad_canary_is_found_by_its_errors_and_its_latency() -> None:
    outcomes = Outcomes("b")
    assert outcomes.take() is None
    for at in range(100):
        outcomes.note(at % 10 == 0, 0.3)
    told = outcomes.take()
    assert told is not None and (told.requests, told.errors) == (100, 10)
    judge = Judge()
    judge.note(told, 0.0)
    assert judge.verdict(Split(weights={"a": 9, "b": 1}, max_error_rate=0.2), 1.0) is None
    assert judge.verdict(Split(weights={"a": 9, "b": 1}, max_error_rate=0.05), 1.0)[0] == "b"  # type: ignore[index]
    assert judge.verdict(Split(weights={"a": 9, "b": 1}, max_p99_s=1.0), 1.0) is None
    split = Split(weights={"a": 9, "b": 1}, max_p99_s=0.2)
    canary, why = judge.verdict(split, 1.0) or ("", "")
    split.without(canary, why)
    assert split.rows == [("a", 10.0)] and "99th percentile" in split.rolled_back
    assert judge.verdict(split, 100.0) is None and judge.seen["b"] == []
    assert percentile([AppOutcomes("a", 1, 0, [0] * 18 + [1]).latencies], 0.99) == float("inf")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weights": {}}, "weights"),
        ({"weights": {"a": 0}}, "above 0"),
        ({"weights": {"a": -1}}, "at least 0"),
        ({"weights": {"a": 1}, "sticky": "x"}, "sticky"),
        ({"weights": {"a": 1}, "baseline": "b"}, "baseline"),
        ({"weights": {"a": 1}, "max_error_rate": 2}, "max_error_rate"),
    ],
)
def test_what_is_wrong_with_a_split_is_said(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Split(**given)


# ---------------------------------------------------------------- all together


@pytest.mark.parametrize("seed", range(12))
def test_all_becomes_whole_whatever_dies(seed: int) -> None:
    world = World(seed)
    world.run()
    assert world.started and world.answered
