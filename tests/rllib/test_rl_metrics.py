"""Metrics: what becomes of values under keys, of several loggers, and in checkpoints; and what samples say."""

from __future__ import annotations

import math
import pickle

import pytest
import torch

from hpc.rllib.env.fragment import EpisodeRecord, Sample
from hpc.rllib.utils.metrics.metrics_logger import MetricsLogger
from hpc.rllib.utils.metrics.sample_report import SampleReport
from hpc.rllib.utils.metrics.stats import DEFAULT_STATS_CLS_LOOKUP, MeanStats


def logged(values, root=True, **how):
    logger = MetricsLogger(root=root)
    for value in values:
        logger.log_value("a", value, **how)
    return logger


@pytest.mark.parametrize(
    ("how", "once", "twice"),
    [
        ({"reduce": "mean"}, 2.0, math.nan),
        ({"reduce": "mean", "window": 2}, 2.5, math.nan),
        ({"window": 1}, 4.0, math.nan),
        ({"reduce": "ema", "ema_coeff": 0.5}, 2.5, 2.5),
        ({}, 1.03, 1.03),
        ({"reduce": "min"}, 1.0, math.nan),
        ({"reduce": "max"}, 4.0, math.nan),
        ({"reduce": "sum"}, 6.0, 0),
        ({"reduce": "lifetime_sum"}, 6.0, 6.0),
        ({"reduce": "item"}, 4.0, None),
        ({"reduce": "item_series"}, [1.0, 1.0, 4.0], []),
        ({"reduce": "smoothed", "window": 2, "how": "mean"}, 2.0, 2.5),
    ],
)
def test_values_become_one_and_begin_anew(how, once, twice):
    logger = logged([1.0, 1.0, 4.0], **how)
    first = logger.compile()["a"]
    assert first == pytest.approx(once) if not isinstance(once, list) else first == once
    second = logger.compile()["a"]
    if not how:
        assert second == first, "an average stays"
    elif isinstance(twice, (int, float)):
        assert second == pytest.approx(twice, nan_ok=True)
    else:
        assert second == twice


def test_percentiles_lie_between_values():
    found = logged(range(11), reduce="percentiles", percentiles=[0, 25, 100]).compile()["a"]
    assert found == {0: 0.0, 25: 2.5, 100: 10.0}
    assert logged([], reduce="mean").compile() == {}


@pytest.mark.parametrize(
    "how", [{"reduce": "mean"}, {"window": 1}, {"reduce": "sum"}, {"reduce": "ema"}, {"reduce": "item"}]
)
def test_tensors_are_numbers_only_when_they_are_read(how):
    value = torch.tensor(2.0, requires_grad=True) * 2
    logger = logged([value], **how)
    kept = vars(logger.stats["a"]).values()
    assert not any(getattr(one, "requires_grad", False) for one in kept), "the graph is let go"
    assert logger.compile()["a"] == 4.0


def test_keys_are_nested_and_can_be_asked_for():
    logger = MetricsLogger(root=True)
    logger.log_value(("a", "b"), 1.0, reduce="sum")
    logger.log_dict({"c": 2.0, "d": {"e": 3.0}}, key="a")
    assert logger.peek() == {"a": {"b": 1.0, "c": 2.0, "d": {"e": 3.0}}}
    assert logger.peek(("a", "d", "e")) == 3.0 and logger.peek(["a", "b"]) == 1.0
    assert ("a", "d") in logger and ("a", "x") not in logger
    assert logger.peek("nothing", default=7) == 7
    with pytest.raises(KeyError):
        logger.peek("nothing")
    logger.delete("a", "d")
    assert ("a", "d") not in logger
    with pytest.raises(KeyError):
        logger.delete("a", "d")
    logger.log_value(("a", "b"), 1.0, reduce="sum")
    assert logger.peek(("a", "b")) == 2.0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda log: log.log_value("x", 1, reduce="often"), "none of smoothed, mean"),
        (lambda log: log.log_value("a", 1), "further keys"),
        (lambda log: log.log_value(("a", "b", "c"), 1), "has a value already"),
        (lambda log: log.aggregate([{"z": 5}]), "aggregate takes"),
        (lambda log: log.log_dict(5), "takes a dict"),
    ],
)
def test_what_cannot_be_logged_is_said(wrong, said):
    logger = MetricsLogger(root=True)
    logger.log_value(("a", "b"), 1.0)
    with pytest.raises((ValueError, TypeError), match=said):
        wrong(logger)


def test_loggers_below_are_merged_with_the_same_weight_for_each_value():
    above = MetricsLogger(root=True)
    for round_ in (1, 2):
        below = []
        for values in ([1.0, 3.0], [8.0]):
            logger = logged(values, root=False, reduce="mean")
            logger.log_value("steps", 10, reduce="sum")
            logger.log_value("life", 10, reduce="lifetime_sum", with_throughput=True)
            logger.log_value("average", sum(values), reduce="ema")
            below.append(pickle.loads(pickle.dumps(logger.reduce())))
        above.aggregate(below, key=("x", "y"))
        found = above.compile()["x"]["y"]
        assert (found["a"], found["steps"], found["life"], found["average"]) == (4.0, 20.0, 20.0 * round_, 6.0)
        assert found["life_throughput"]["throughput_since_last_reduce"] > 0
    assert above.peek(("x", "y", "life"), throughput=True)["throughput_since_last_restore"] > 0


def test_what_a_logger_hands_on_is_gone_from_it():
    logger = logged([1.0], root=False, reduce="lifetime_sum")
    assert logger.reduce()["a"].peek() == 1.0
    logger.log_value("a", 5.0)
    assert logger.reduce()["a"].peek() == 5.0


def test_a_time_is_logged_by_a_context():
    logger = MetricsLogger(root=True)
    with logger.log_time(("timers", "t")):
        pass
    assert 0 <= logger.peek(("timers", "t")) < 1


def test_a_state_comes_back():
    logger = logged([1.0, 2.0], reduce="mean", window=3)
    logger.log_value(("b", "sum"), torch.tensor(5.0), reduce="lifetime_sum", with_throughput=True)
    logger.log_value("episodes", 5.0, reduce="smoothed", window=2)
    logger.log_value("item", {"any": "thing"}, reduce="item")
    again = MetricsLogger(root=True)
    again.set_state(pickle.loads(pickle.dumps(logger.get_state())))
    assert again.peek() == logger.peek()
    for one in (logger, again):
        for value in (3.0, 4.0):
            one.log_value("a", value)
        one.log_value(("b", "sum"), 1.0)
    assert again.peek("a") == logger.peek("a") == 3.0 and again.peek(("b", "sum")) == 6.0


@pytest.mark.parametrize("how", ["smoothed", "mean", "item_series", "lifetime_sum"])
def test_a_state_stays_what_it_was_when_more_is_logged(how):
    one = logged([1.0, 2.0], reduce=how)
    state = one.get_state()
    one.log_value("a", 30.0)
    again, other = MetricsLogger(root=True), MetricsLogger(root=True)
    again.set_state(state)
    again.log_value("a", 40.0)
    other.set_state(state)
    assert other.peek("a") == logged([1.0, 2.0], reduce=how).peek("a")


def test_keys_come_back_as_they_were():
    one = MetricsLogger(root=True)
    keys = [("a", "b--c"), ("a--b", "c"), ("steps", 3), ("steps", "3")]
    for count, key in enumerate(keys, 1):
        one.log_value(key, count, reduce="lifetime_sum")
    again = MetricsLogger(root=True)
    again.set_state(pickle.loads(pickle.dumps(one.get_state())))
    for count, key in enumerate(keys, 1):
        again.log_value(key, 10, reduce="lifetime_sum")
        assert again.peek(key) == count + 10
    assert len(again.all_stats()) == len(keys)


def test_one_tensor_that_is_not_a_number_does_not_stay_in_an_average():
    values = [math.nan, 1.0, math.nan, 3.0]
    plain = logged(values, ema_coeff=0.5).peek("a")
    assert logged([torch.tensor(value) for value in values], ema_coeff=0.5).peek("a") == plain == 2.0


def test_the_window_of_means_is_that_of_now_after_a_restore():
    one = MetricsLogger(root=True)
    SampleReport(one, 100, several=False).write(
        [Sample(modules={}, env_steps=1, episodes=[EpisodeRecord(float(at), 1, 0.1) for at in range(4)])]
    )
    one.compile()
    report = SampleReport(one, 2, several=False)
    report.resume()
    report.write([Sample(modules={}, env_steps=1, episodes=[EpisodeRecord(9.0, 1, 0.1)])])
    one.compile()
    assert one.peek(("env_runners", "episode_return_mean")) == (3.0 + 9.0) / 2


def test_a_kind_of_ones_own_is_taken_by_its_name():
    class Range(MeanStats):
        stats_cls_identifier = "range"

        def reduced(self, values):
            return values.max() - values.min()

    logger = MetricsLogger(root=True, stats_cls_lookup={**DEFAULT_STATS_CLS_LOOKUP, "range": Range})
    for value in (1.0, 5.0):
        logger.log_value("a", value, reduce="range")
    with pytest.raises(ValueError, match="custom_stats_cls_lookup"):
        MetricsLogger(root=True).set_state(logger.get_state())
    assert logger.compile() == {"a": 4.0}


def sample(*returns, steps=10, **more):
    episodes = [EpisodeRecord(r, int(r), 0.5, {"default_agent": r}, {"default_policy": r}) for r in returns]
    return Sample(
        {}, steps, {"default_agent": steps}, episodes, seconds=0.1, module_steps={"default_policy": steps}, **more
    )


def test_samples_become_the_keys_of_results():
    logger = MetricsLogger(root=True)
    report = SampleReport(logger, 2, several=False)
    report.expect()
    assert math.isnan(logger.compile()["env_runners"]["episode_return_mean"]), "no episode has ended: NaN, not nothing"
    below = logged([7.0], root=False, reduce="mean").reduce()
    report.write([sample(1.0, 2.0), sample(3.0, version=4, metrics=below)])
    found = logger.compile()["env_runners"]
    assert (found["episode_return_mean"], found["episode_return_min"], found["episode_len_max"]) == (2.0, 1.0, 3.0)
    assert (found["num_env_steps_sampled"], found["num_env_steps_sampled_lifetime"], found["num_episodes"]) == (
        20,
        20,
        3,
    )
    assert found["num_agent_steps_sampled"] == {"default_agent": 20} and found["weights_seq_no"] == 2.0
    assert found["agent_episode_return_mean"] == {"default_agent": 2.0} and found["a"] == 7.0
    report.write([sample()])
    found = logger.compile()["env_runners"]
    assert found["episode_return_mean"] == 2.5, "the last two episodes"
    assert (found["num_env_steps_sampled_lifetime"], found["num_episodes_lifetime"]) == (30, 3)


def test_failed_steps_count_over_the_whole_life():
    logger = MetricsLogger(root=True)
    found = []
    for count in (1, 2):
        sample = Sample(modules={}, env_steps=1, faults={"num_env_steps_failed_lifetime": count})
        SampleReport(logger, 1, several=False).write([sample])
        found.append(logger.compile()["env_runners"])
    assert [one["num_env_steps_failed_lifetime"] for one in found] == [1, 3]
    assert [one["num_env_steps_failed"] for one in found] == [1, 2]
    assert "num_env_steps_failed_lifetime_lifetime" not in found[0]


def test_samples_of_several_agents_have_their_own_keys():
    logger = MetricsLogger(root=True)
    record = EpisodeRecord(3.0, 5, 0.1, {"x": 1.0, "y": 2.0}, {"p": 3.0}, {"x": 5, "y": 4})
    SampleReport(logger, 100, several=True).write([Sample({}, 5, {"x": 5, "y": 4}, [record], module_steps={"p": 9})])
    found = logger.compile()["env_runners"]
    assert found["agent_episode_returns_mean"] == {"x": 1.0, "y": 2.0} and found["agent_steps"] == {"x": 5.0, "y": 4.0}
    assert found["module_episode_returns_mean"] == {"p": 3.0} and found["num_module_steps_sampled"] == {"p": 9}
