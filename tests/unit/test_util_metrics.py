"""Metrics: their arguments are checked, their values are kept, and a snapshot shows them."""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import threading

import numpy as np
import pytest

from hpc.core.wire import ProcessMetrics, decode_body, encode_body
from hpc.spi import _sample
from hpc.util import metrics
from hpc.util.metrics import Counter, Gauge, Histogram


@pytest.fixture(autouse=True)
def no_metrics(monkeypatch):
    monkeypatch.setattr(metrics, "_series", {})


def values(name):
    return {tuple(v["tags"].items()): v for m in metrics.snapshot() if m["name"] == name for v in m["values"]}


def test_a_counter_counts_per_tags():
    counter = Counter("jobs", "Jobs done.", tag_keys=("kind", "node"))
    counter.set_default_tags({"node": "a"})
    counter.inc(tags={"kind": "x"})
    counter.inc(2.5, tags={"kind": "x"})
    counter.inc(tags={"kind": "x", "node": "b"})
    assert values("jobs")[(("kind", "x"), ("node", "a"))]["value"] == 3.5
    assert values("jobs")[(("kind", "x"), ("node", "b"))]["value"] == 1
    assert counter.info == {
        "name": "jobs",
        "description": "Jobs done.",
        "tag_keys": ("kind", "node"),
        "default_tags": {"node": "a"},
    }


def test_a_gauge_keeps_the_last_value():
    gauge = Gauge("depth")
    gauge.set(3)
    gauge.set(-1)
    assert values("depth")[()]["value"] == -1


def test_a_histogram_counts_in_its_ranges():
    histogram = Histogram("size", boundaries=[1, 10.0])
    for value in (0.5, 1, 2, 10, 11, -1):
        histogram.observe(value)
    shown = values("size")[()]
    assert shown["buckets"] == [[1.0, 3], [10.0, 2], [float("inf"), 1]]
    assert shown["count"] == 6
    assert shown["sum"] == 23.5
    assert histogram.info["boundaries"] == [1.0, 10.0]


def test_metrics_of_one_name_are_one():
    Counter("jobs").inc()
    Counter("jobs").inc()
    pickle.loads(pickle.dumps(Counter("jobs"))).inc()
    assert values("jobs")[()]["value"] == 3
    with pytest.raises(ValueError, match="in use"):
        Gauge("jobs")
    with pytest.raises(ValueError, match="in use"):
        Counter("jobs", tag_keys=("kind",))


def test_the_snapshot_is_of_plain_types():
    Counter("c", tag_keys=("k",)).inc(tags={"k": "v"})
    Histogram("h", boundaries=[1.0]).observe(2)
    assert json.loads(json.dumps(metrics.snapshot())) == metrics.snapshot()


def test_threads_do_not_lose_counts():
    counter = Counter("jobs")

    def count():
        for _ in range(2000):
            counter.inc()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values("jobs")[()]["value"] == 8000


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Counter(""), ValueError),
        (lambda: Counter("two words"), ValueError),
        (lambda: Counter(3), TypeError),
        (lambda: Counter("c", tag_keys=["a"]), TypeError),
        (lambda: Counter("c", tag_keys=(1,)), TypeError),
        (lambda: Counter("c").inc(0), ValueError),
        (lambda: Counter("c").inc(-1), ValueError),
        (lambda: Counter("c").inc("1"), TypeError),
        (lambda: Counter("c", tag_keys=("a",)).inc(), ValueError),
        (lambda: Counter("c", tag_keys=("a",)).inc(tags={"b": "x"}), ValueError),
        (lambda: Counter("c", tag_keys=("a",)).inc(tags={"a": 1}), TypeError),
        (lambda: Counter("c").set_default_tags({"a": "x"}), ValueError),
        (lambda: Counter("c", tag_keys=("a",)).set_default_tags({"a": 1}), TypeError),
        (lambda: Gauge("g").set(None), TypeError),
        (lambda: Histogram("h"), ValueError),
        (lambda: Histogram("h", boundaries=[]), ValueError),
        (lambda: Histogram("h", boundaries=[0, 1]), ValueError),
        (lambda: Histogram("h", boundaries=[2, 1]), ValueError),
        (lambda: Histogram("h", boundaries=[math.nan]), ValueError),
        (lambda: Histogram("h", boundaries=[1]).observe("x"), TypeError),
    ],
)
def test_bad_arguments(make, error):
    with pytest.raises(error):
        make()


def test_what_has_changed_is_told_once():
    counter = metrics.Counter("told_once", tag_keys=("kind",))
    histogram = metrics.Histogram("told_sizes", boundaries=[1.0, 10.0])
    gauge = metrics.Gauge("told_level")
    mine = ("told_once", "told_sizes", "told_level")
    metrics.changes()
    counter.inc(2, {"kind": "a"})
    counter.inc(3, {"kind": "a"})
    for value in (0.5, 5.0, 50.0):
        histogram.observe(value)
        gauge.set(value)
    found = {
        name: (kind, tags, bounds, numbers) for name, kind, tags, bounds, numbers in metrics.changes() if name in mine
    }
    assert found["told_once"] == ("counter", (("kind", "a"),), (), [5.0])
    assert found["told_sizes"] == ("histogram", (), (1.0, 10.0), [1, 1, 1, 55.5])
    assert found["told_level"] == ("gauge", (), (), [50.0])
    assert not [one for one in metrics.changes() if one[0] in mine]
    histogram.observe(2.0)
    assert [one[4] for one in metrics.changes() if one[0] == "told_sizes"] == [[0, 1, 0, 2.0]]


def test_many_values_of_a_tag_are_told_as_a_hundred_and_the_others():
    counter = metrics.Counter("told_users", tag_keys=("user",))
    metrics.changes()
    for number in range(5_000):
        counter.inc(tags={"user": str(number)})
    changes = metrics.changes()
    told = {tags[0][1]: numbers[0] for name, _, tags, _, numbers in changes if name == "told_users"}
    assert len(told) == metrics.MAX_SETS + 1 and told["other"] == 5_000 - metrics.MAX_SETS
    dropped = [numbers[0] for name, _, _, _, numbers in changes if name == metrics.DROPPED]
    assert dropped == [5_000 - metrics.MAX_SETS]


class Word(str):
    """A str of a program's own."""


def test_values_and_tags_of_other_libraries_can_be_sent():
    strange = {"a": Word("word"), "b": np.str_("x"), "c": "\udc80"}
    metrics.changes()
    Counter("told_strange", tag_keys=tuple(strange)).inc(np.float64(2), strange)
    Gauge("told_strange_level").set(np.float64(3))
    sizes = Histogram("told_strange_sizes", boundaries=[1.0])
    sizes.observe(np.float64(2))
    sizes.observe(2**70)
    sent = [_sample(*change) for change in metrics.changes() if change[0].startswith("told_strange")]
    (again,) = decode_body(encode_body([ProcessMetrics(sent)]))
    assert isinstance(again, ProcessMetrics)
    found = {one.name: one for one in again.samples}
    assert found["told_strange"].labels == ("a", "word", "b", "x", "c", "?")
    assert found["told_strange"].total == 2 and found["told_strange_level"].low == 3
    assert (found["told_strange_sizes"].bins, found["told_strange_sizes"].total) == ([0, 2], 2.0 + 2**70)


def test_no_number_and_no_end_are_left_out_of_what_is_told_and_counted():
    counter, histogram = Counter("told_ends"), Histogram("told_ends_sizes", boundaries=[1.0])
    metrics.changes()
    for value in (2.0, math.nan, math.inf):
        counter.inc(value)
        histogram.observe(value)
    changes = [(name, numbers) for name, _, _, _, numbers in metrics.changes()]
    assert ("told_ends", [2.0]) in changes and ("told_ends_sizes", [0, 1, 2.0]) in changes
    assert sum(numbers[0] for name, numbers in changes if name == metrics.DROPPED) == 4
    assert values("told_ends_sizes")[()]["count"] == 3


def test_a_forked_process_counts_its_own_though_another_thread_held_the_lock():
    counter, held, done = Counter("jobs"), threading.Event(), threading.Event()
    counter.inc(5)  # the parent's to tell

    def hold():
        with metrics._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        counter.inc()
        os._exit(7 if [numbers for *_, numbers in metrics.changes()] == [[1.0]] else 1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_handler_of_a_signal_counts_though_the_lock_is_held_below_it():
    counter = Counter("jobs")
    before = signal.signal(signal.SIGUSR1, lambda *_: counter.inc())
    try:
        with metrics._lock:
            signal.raise_signal(signal.SIGUSR1)
            assert values("jobs")[()]["value"] == 1
    finally:
        signal.signal(signal.SIGUSR1, before)
