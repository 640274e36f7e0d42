"""A real Prometheus finds a session by the file that `hpc metrics` writes, reads it, and sees no counter fall."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hpc
from hpc.core.metrics.table import BY_NAME
from hpc.metrics.grafana import board
from hpc.state import metrics
from hpc.util.metrics import Counter, Gauge, Histogram
from runtime.hosting import ENV, hpc_command
from runtime.running import Heads, eventually, kill9, local_nodes, on, one_node

parser = pytest.importorskip("prometheus_client.parser")
needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")), reason="needs Prometheus: apt-get install prometheus"
)
pytestmark = pytest.mark.usefixtures("no_leaks")
#: What is not told without a GPU, a network, a time limit, objects on disk, workers that failed, runs of libraries, and
#: tasks that are unfinished when that is told.
NOT_HERE = {name for name in BY_NAME if name.startswith("hpc_gpu_")} | {
    "hpc_walltime_left_seconds", "hpc_workers_ended_total", "hpc_metrics_dropped_total",
    "hpc_object_moved_bytes_total", "hpc_net_bytes_total", "hpc_run_numbers", "hpc_tasks_unfinished",
}  # fmt: skip
#: How names end of what Prometheus takes for something that only grows.
GROW = ("_total", "_count", "_bucket")


@hpc.remote
def work(number: int) -> int:
    Counter("things", tag_keys=("kind",)).inc(2, {"kind": 'a "quoted"\nname'})
    Histogram("sizes", boundaries=[1.0, 10.0]).observe(number)
    Gauge("level").set(number)
    return number


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Served:
    """`hpc metrics --prometheus-target`, and what it has printed for prometheus.yml."""

    def __init__(self, process: subprocess.Popen[str], file: Path) -> None:
        assert process.stdout is not None
        self.process, self.file = process, file
        self.url = re.findall(r"http://\S+/metrics", process.stdout.readline())[0]
        self.config = "".join(process.stdout.readline() for _ in range(3))

    def text(self, accept: str = "") -> str:
        token = self.file.with_name(f"{self.file.name}.token").read_text()
        asked = urllib.request.Request(self.url, headers={"Authorization": f"Bearer {token}", "Accept": accept})
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.read().decode()

    def counters(self) -> dict[str, float]:
        """All that may only grow, by name and labels."""
        families = parser.text_string_to_metric_families(self.text())
        samples = [one for family in families if family.type in ("counter", "histogram") for one in family.samples]
        return {f"{one.name}{sorted(one.labels.items())}": one.value for one in samples}


@contextmanager
def served(file: Path, bind: str = "127.0.0.1") -> Iterator[Served]:
    words = [sys.executable, "-m", "hpc", "metrics", "--prometheus-target", str(file), "--bind", bind]
    process = subprocess.Popen(words, env=ENV, stdout=subprocess.PIPE, text=True)
    try:
        yield Served(process, file)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


class Prometheus:
    """A Prometheus of the test's own."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **params: str) -> Any:
        with urllib.request.urlopen(f"{self.base}/{path}?{urllib.parse.urlencode(params)}", timeout=20) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def values(self, query: str) -> list[float]:
        """What a query finds now."""
        return [float(one["value"][1]) for one in self.ask("query", query=query)["result"]]


@contextmanager
def prometheus_of(folder: Path, jobs: str) -> Iterator[Prometheus]:
    """Looks at what it is told of every second."""
    config, port = folder / "prometheus.yml", free_port()
    config.write_text(f"global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}")
    subprocess.run(["promtool", "check", "config", str(config)], check=True, capture_output=True, timeout=60)
    words = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", "--log.level=error"]
    process = subprocess.Popen([*words, f"--web.listen-address=127.0.0.1:{port}"], cwd=folder)
    try:
        found = Prometheus(port)

        def is_up() -> bool:
            try:
                return bool(found.ask("status/buildinfo"))
            except OSError:
                assert process.poll() is None
                return False

        eventually(is_up)
        yield found
    finally:
        process.terminate()
        process.wait(timeout=60)


@needs_prometheus
def test_a_prometheus_reads_what_programs_have_set(tmp_path):
    with one_node(), served(tmp_path / "hpc.json") as door, prometheus_of(tmp_path, door.config) as found:
        assert sum(hpc.get([work.remote(number) for number in range(20)])) == 190
        eventually(lambda: found.values("up") == [1.0])
        eventually(lambda: found.values('things_total{kind="a \\"quoted\\"\\nname"}') == [40.0])
        eventually(lambda: found.values("sizes_count") == [20.0] and found.values('sizes_bucket{le="10"}') == [11.0])
        assert found.values('level{of="max"}') == [19.0]
        assert found.values('hpc_tasks_finished_total{name="work",outcome="ok"}') == [20.0]
        told = {re.sub("_(bucket|sum|count)$", "", name) for name in found.ask("label/__name__/values")}
        ours = {name for name in told if name.startswith("hpc_")}
        assert ours <= BY_NAME.keys() and BY_NAME.keys() - ours <= NOT_HERE
        for panel in board()["panels"]:
            for aim in panel.get("targets", ()):
                found.ask("query", query=aim["expr"].replace("$__rate_interval", "1m"))
        (target,) = found.ask("targets")["activeTargets"]
        assert target["labels"]["session"] == hpc.get_runtime_context().get_job_id() and not target["lastError"]


@needs_prometheus
def test_its_own_checks_find_nothing_to_say_of_our_metrics():
    with one_node():
        metrics.look()
        hpc.get([hpc.remote(lambda: 1).options(name=f"a-{number}").remote() for number in range(20)])
        eventually(lambda: "hpc_tasks_finished_total" in {row.name for row in metrics.latest().rows})
        text = hpc_command("metrics", "--text").stdout
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stdout + done.stderr
    assert "hpc_node_cpu_ratio" in text


def test_both_forms_are_read_by_the_client_of_prometheus(tmp_path):
    openmetrics = pytest.importorskip("prometheus_client.openmetrics.parser")
    with one_node(), served(tmp_path / "hpc.json", "[::1]") as door:
        assert door.url.startswith("http://[::1]:")
        hpc.get([work.remote(number) for number in range(20)])
        eventually(lambda: "things" in door.text())
        plain = {one.name: one for one in parser.text_string_to_metric_families(door.text())}
        strict = openmetrics.text_string_to_metric_families(door.text("application/openmetrics-text"))
        assert {family.name.removesuffix("_total") for family in strict} == {n.removesuffix("_total") for n in plain}
        (kind,) = (one.labels["kind"] for one in plain["things"].samples)
        assert kind == 'a "quoted"\nname'


@needs_prometheus
def test_no_counter_falls_when_doors_and_heads_begin_anew_and_nodes_are_lost(tmp_path):
    """Prometheus sees no counter begin anew, and the numbers never fall."""
    file, bind = tmp_path / "hpc.json", f"127.0.0.1:{free_port()}"
    low: dict[str, float] = {}

    def seen(door: Served, tasks: int) -> None:
        """It tells of so many tasks, and of nothing less than it did."""

        def is_told() -> bool:
            now = door.counters()
            assert not {name: (low[name], now.get(name)) for name in low if now.get(name, -1.0) < low[name]}
            low.update(now)
            name = "hpc_tasks_finished_total[('name', 'work'), ('outcome', 'ok')]"
            return now.get(name, 0.0) >= tasks

        eventually(is_told)

    with local_nodes(2) as nodes, served(file, bind) as door, prometheus_of(tmp_path, door.config) as found:
        hpc.get([work.options(scheduling_strategy=on(1 + number % 2)).remote(number) for number in range(20)])
        seen(door, 20)
        door.process.kill()
        door.process.wait(timeout=60)
        with served(file, bind) as door:
            seen(door, 20)
            node = hpc.get(pid_above.options(scheduling_strategy=on(2)).remote())
            kill9(node)
            eventually(lambda: nodes.pump(0.02) or len([one for one in hpc.nodes() if one["Alive"]]) == 1)
            hpc.get([work.remote(number) for number in range(10)])
            seen(door, 30)
            eventually(lambda: found.values('hpc_tasks_finished_total{name="work"}') == [30.0])
            grows = [name for name in found.ask("label/__name__/values") if name.endswith(GROW)]
            assert len(grows) > 8 and not [name for name in grows if found.values(f"resets({name}[5m]) > 0")]
            Heads(nodes).kill()
            hpc.get([work.remote(number) for number in range(5)])
            seen(door, 35)


@hpc.remote
def pid_above() -> int:
    """The process above its worker, without which its node is lost."""
    return os.getppid()
