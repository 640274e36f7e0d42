"""What metrics of very many nodes cost: one line ``@bench {json}`` for each figure.

    python seeing.py tree NODES WORKERS         what the head is told by so many nodes, and what that costs

The tree has the real parts of raylets and of the head, and nothing between them: frames are encoded and decoded.
"""

import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

ROUNDS = 3


def say(**figures: Any) -> None:
    print("@bench " + json.dumps(figures), flush=True)


# ---------------------------------------------------------------- a tree


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def tree(count: int, workers: int) -> None:
    from hpc.core.ids import HEAD, Address
    from hpc.core.metrics import table
    from hpc.core.metrics.node import WATCHED_S, NodeMetrics
    from hpc.core.metrics.sample import Sample, counted, gauge
    from hpc.core.wire import MetricsWatched, NodeInfo, ProcessMetrics, decode_body, encode_body

    rng = random.Random(1)
    infos = {n: NodeInfo(n, f"host{n}", "", "", {}, {}, False, 1, "") for n in range(1, count + 1)}
    outbox: list[Any] = []
    own = [m for m in table.TABLE if m.kind == "gauge" and m.name not in (table.NODES, table.TASKS_UNFINISHED)]

    def numbers(now: float) -> list[Sample]:
        found = []
        for metric in own:
            value = rng.random() if metric.unit == "ratio" else rng.random() * 1e9
            labels = tuple(word for label in metric.labels for word in (label, "used"))
            found.append(gauge(metric.name, value, labels))
        found.append(counted(table.NET, 1e6 * rng.random(), ("direction", "sent")))
        return [*found, counted(table.CPU_SECONDS, rng.random())]

    def of_worker(number: int) -> ProcessMetrics:
        labels = ("name", f"task{number % 20}", "outcome", "ok")
        times = Sample(table.TASK_SECONDS, 2, labels[:2], 0.5, 50, bins=[4] * 12 + [2], bounds=table.TASK_BOUNDS_S)
        mine = [counted(table.TASKS_FINISHED, 50, labels), times]
        return ProcessMetrics([*mine, gauge("loss", rng.random()), counted("samples_total", 64, ("split", "train"))])

    nodes = {n: NodeMetrics(info, outbox, numbers) for n, info in infos.items()}
    order = sorted(infos)
    for node in nodes.values():  # as each finds it by itself from the table of nodes, which 10,000 times takes long
        node._stale, node.order, node.place = False, order, node.info.node - 1
    told = [of_worker(number) for number in range(workers)]
    rounds: list[bytes] = []
    now, sizes = 100.0, [0]
    for turn in range(ROUNDS):
        now += WATCHED_S
        for number in reversed(order):  # those below first
            node = nodes[number]
            node.now = now
            for proc in range(workers):
                node.on_process(Address(number, proc + 1), told[proc])
            if turn == 0:
                node.on_watched(HEAD, MetricsWatched(WATCHED_S, 1e9))
                outbox.clear()
            node._due = now
            node.tick(now, {})
            ((dst, msg),) = outbox
            outbox.clear()
            body = encode_body([msg])
            sizes.append(len(body))
            (again,) = decode_body(body)
            if dst == HEAD:
                rounds.append(body)
            else:
                nodes[dst.node].on_tree(Address(number, 0), again)  # type: ignore[arg-type]
    with tempfile.NamedTemporaryFile() as file:
        file.write(msgspec.msgpack.encode(rounds))
        file.flush()
        run = [sys.executable, __file__, "head", file.name, str(count), str(workers), str(max(sizes))]
        subprocess.run(run, check=True)


def head(path: str, count: int, workers: int, largest: int) -> None:
    """The head's part, in a process of its own: 15 minutes of packets."""
    from types import SimpleNamespace

    from hpc.core.ids import HEAD, Address
    from hpc.core.metrics import table
    from hpc.core.metrics.cluster import ClusterMetrics
    from hpc.core.metrics.node import WATCHED_S
    from hpc.core.metrics.sample import Sample
    from hpc.core.wire import MetricsQuery, NodeInfo, decode_body

    rounds = msgspec.msgpack.decode(Path(path).read_bytes())
    known: Any = {
        n: SimpleNamespace(info=NodeInfo(n, f"host{n}", "", "", {}, {}, False, 1, "")) for n in range(1, count + 1)
    }
    gc.collect()
    before, now, took = resident_mb(), 100.0, []
    metrics = ClusterMetrics([], known, {})
    for turn in range(450):
        now += WATCHED_S
        start = time.process_time()
        (msg,) = decode_body(rounds[turn % len(rounds)])
        metrics.on_tree(Address(1, 0), msg, now)  # type: ignore[arg-type]
        took.append(1e3 * (time.process_time() - start))
    rss_mb = resident_mb() - before
    start = time.process_time()
    answer = metrics.on_query(HEAD, MetricsQuery(1, "latest"), now)
    asked_ms = 1e3 * (time.process_time() - start)
    latest = msgspec.msgpack.decode(answer)
    samples = {(one.name, one.labels): one for one in (msgspec.convert(one, Sample) for one in latest["samples"])}
    assert samples[table.CPU_RATIO, ()].count == count and not latest["silent"]
    say(
        nodes=count, workers=workers, head_bytes_s=len(rounds[-1]) / WATCHED_S, tick_ms=sorted(took)[len(took) // 2],
        worst_ms=max(took), rss_mb=rss_mb, largest=largest, series=len(samples), answer_bytes=len(answer),
        answer_ms=asked_ms,
    )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1] == "tree":
        tree(int(sys.argv[2]), int(sys.argv[3]))
    else:
        head(sys.argv[2], *map(int, sys.argv[3:]))
