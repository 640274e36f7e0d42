"""Metrics of all processes come together: those of programs and the runtime's own, from the nodes to who asks."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

import hpc
import hpc.actor
from hpc.cluster_utils import Cluster
from hpc.core.metrics.table import BY_NAME, HEAT
from hpc.state import metrics
from hpc.state.metrics import MetricRow
from hpc.util import state
from hpc.util.metrics import Counter, Gauge, Histogram
from runtime.running import eventually, local_nodes, on, one_node


@pytest.fixture
def session(no_leaks: None) -> Iterator[None]:
    with one_node():
        metrics.look()
        yield


def row(name: str, /, **labels: str) -> MetricRow | None:
    return next((one for one in metrics.latest().rows if one.name == name and one.labels == labels), None)


def value(name: str, /, **labels: str) -> float | None:
    found = row(name, **labels)
    return None if found is None else found.value


@hpc.remote
def count(number):
    Counter("things", tag_keys=("kind",)).inc(2, {"kind": "a"})
    Gauge("level").set(number)
    Histogram("sizes", boundaries=[1.0, 10.0]).observe(number)
    return number


@hpc.remote(max_retries=0)
def fail():
    raise ValueError("meant")


@hpc.remote
class Leaving:
    def count(self):
        Counter("things", tag_keys=("kind",)).inc(2, {"kind": "a"})
        return 1

    def leave(self):
        hpc.actor.exit_actor()


@hpc.remote
class Actor:
    def call(self):
        return 1


def test_metrics_of_programs_come_from_all_processes(session):
    Counter("things", tag_keys=("kind",)).inc(1, {"kind": "a"})
    assert sum(hpc.get([count.remote(number) for number in range(20)])) == 190
    eventually(lambda: value("things", kind="a") == 41)
    sizes = row("sizes")
    assert sizes is not None and sizes.buckets == [(1.0, 2), (10.0, 11), (math.inf, 20)]
    assert (sizes.sum, sizes.count) == (190.0, 20)
    level = row("level")
    assert level is not None and level.band is not None and level.band.max == 19.0


def test_tasks_and_calls_are_counted_by_name_and_outcome(session):
    hpc.get([count.remote(number) for number in range(50)])
    with pytest.raises(ValueError, match="meant"):
        hpc.get(fail.remote())
    actor = Actor.remote()
    hpc.get([actor.call.remote() for _ in range(30)])
    eventually(lambda: value("hpc_tasks_finished_total", name="count", outcome="ok") == 50)
    eventually(lambda: value("hpc_tasks_finished_total", name="fail", outcome="failed") == 1)
    eventually(lambda: value("hpc_tasks_finished_total", name="Actor.call", outcome="ok") == 30)
    seconds = row("hpc_task_seconds", name="count")
    assert seconds is not None and seconds.count == 50 and seconds.buckets is not None
    assert seconds.buckets[-1] == (math.inf, 50)


def test_the_node_tells_its_own_numbers_and_all_are_in_the_table(session):
    eventually(lambda: row("hpc_node_cpu_ratio") is not None)
    latest = metrics.latest()
    assert latest.nodes == 1 and latest.silent == [] and latest.age_s < 10
    assert value("hpc_cpus") == hpc.cluster_resources()["CPU"]
    names = {one.name for one in latest.rows if one.name.startswith("hpc_")}
    assert names <= BY_NAME.keys()
    for one in latest.rows:
        if one.name in BY_NAME:
            assert (one.kind, tuple(one.labels)) == (BY_NAME[one.name].kind, BY_NAME[one.name].labels)
    heats = {name: metrics.heat(name) for name in HEAT}
    assert all(0 <= share <= 1 for found in heats.values() for share in found.values())
    assert set(heats["hpc_node_memory_ratio"]) == {1}


def test_the_course_of_a_counter_is_its_rate_and_that_of_a_gauge_its_band(session):
    counter, gauge = Counter("steps"), Gauge("height")
    counter.inc(10)
    gauge.set(3.0)
    eventually(lambda: value("steps") == 10 and value("height") == 3.0)
    counter.inc(30)
    eventually(lambda: value("steps") == 40)
    eventually(lambda: len(metrics.series(["steps"])[0].values) >= 3)
    steps, height = metrics.series(["steps"])[0], metrics.series(["height"])[0]
    known = [rate for rate in steps.values if rate == rate]
    assert max(known) > 0 and min(known) >= 0 and len(steps.times) == len(steps.values)
    assert height.bands is not None and height.bands[-1] is not None and height.bands[-1].p50 == 3.0
    assert metrics.series(["no such metric"]) == []


PROGRAM = """
import sys, hpc
from hpc.util.metrics import Counter
hpc.init(address=sys.argv[1])
Counter("left").inc(7)
hpc.shutdown()
"""


def test_what_a_driver_counted_is_there_after_its_end(no_leaks):
    with local_nodes(2) as nodes:
        metrics.look()
        subprocess.run([sys.executable, "-c", PROGRAM, nodes.local_dir()], check=True, timeout=60)
        eventually(lambda: value("left") == 7)


def test_nodes_are_told_together(no_leaks):
    with local_nodes(3):
        metrics.look()
        eventually(lambda: metrics.latest().nodes == 3)
        cpus = row("hpc_cpus")
        assert cpus is not None and cpus.band is not None and cpus.band.count == 3
        assert set(metrics.heat("hpc_node_memory_ratio")) == {1, 2, 3}


def cli(*words: str) -> str:
    command = [sys.executable, "-m", "hpc.cli.main", "metrics", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_shows_metrics_in_all_its_forms(session):
    Counter("shown").inc(3)
    eventually(lambda: value("shown") == 3 and value("hpc_cpus") == 2)
    people = cli()
    assert "METRIC" in people and "hpc_cpus" in people and "1 nodes" in people
    rows = {one["name"]: one for one in json.loads(cli("--json"))["rows"]}
    assert rows["shown"]["value"] == 3 and rows["hpc_cpus"]["band"]["max"] == 2
    assert "shown 3" in cli("--text").splitlines()


def test_a_prometheus_finds_the_session_by_a_file_and_reads_it(session, tmp_path):
    Counter("scraped").inc(5)
    eventually(lambda: value("scraped") == 5)
    file = tmp_path / "hpc.json"
    words = [sys.executable, "-m", "hpc.cli.main", "metrics", "--prometheus-target", str(file)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None and "/metrics" in serving.stdout.readline()
        (target,) = json.loads(file.read_text())
        token = file.with_name("hpc.json.token").read_text()
        asked = urllib.request.Request(
            f"http://{target['targets'][0]}/metrics", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(asked, timeout=10) as answer:
            assert "scraped 5" in answer.read().decode().splitlines()
        serving.send_signal(signal.SIGINT)
        assert serving.wait(30) == 0
    assert not list(tmp_path.iterdir()), "the files are gone with the door"


def test_metrics_can_be_switched_off(no_leaks):
    with one_node(env={"HPC_METRICS": "0"}):
        hpc.get([count.remote(number) for number in range(10)])
        latest = metrics.latest()
        assert latest.age_s == math.inf and latest.silent == ["1"] and value("things", kind="a") is None


def test_what_was_counted_on_a_node_that_leaves_is_kept(no_leaks):
    cluster = Cluster(
        initialize_head=True, connect=True, head_node_args={"num_cpus": 1, "object_store_memory": 64 << 20}
    )
    try:
        node = cluster.add_node(num_cpus=1, object_store_memory=64 << 20)
        actor = Leaving.options(scheduling_strategy=on(2)).remote()
        assert hpc.get(actor.count.remote()) == 1
        actor.leave.remote()  # then its process has told what it counted
        eventually(lambda: state.get_actor(actor._actor_id.hex()).state == "DEAD")
        cluster.remove_node(node)  # long before its metrics are due
        metrics.look()
        eventually(lambda: value("things", kind="a") == 2)
    finally:
        cluster.shutdown()
