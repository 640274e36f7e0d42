"""What people see of runs: lines out of facts, on a terminal and elsewhere; and where the time went."""

import io
import threading
import time
from types import SimpleNamespace

import pytest

from hpc.data.consume.times import COLLATE, CREATE, FORMAT, GET, Times
from hpc.data.context import DataContext
from hpc.data.exec import layout, progress
from hpc.data.exec.layout import OperatorFacts, RunFacts
from hpc.data.exec.rooms import Moved
from hpc.data.exec.stats import OperatorStats, RunStats, with_times

READ = OperatorFacts("ReadParquet->Map(f)", "done", 0, 0, 40, 4000, 40 << 20, 100.0)
MODEL = OperatorFacts(
    "MapBatches(Model)", "running", 2, 8, 10, 1000, 10 << 20, 25.0, "an actor to begin", "1 of 2 actors"
)
LAST = OperatorFacts("Write", "queued", 0, 0, 0, 0, 0, 0.0)
RUN = RunFacts(
    "sums", 75.4, 1000, 10 << 20, (30, 40), 1 << 30, (50 << 20, 1 << 30), (3.0, 4.0), (2, 2), (READ, MODEL, LAST)
)


def test_a_run_on_a_terminal_has_a_bar_and_a_line_for_each_operator():
    assert layout.block(RUN, 200) == [
        "sums  [###############-----] 75%  "
        "1.0GiB read, 1,000 rows out in 1:15, store 50.0MiB of 1.0GiB, 3 of 4 CPU, 2 of 2 GPU",
        "  ReadParquet->Map(f)  done     4,000 rows, 40 blocks, 40.0MiB, 100 rows/s",
        "  MapBatches(Model)    running  1,000 rows, 10 blocks, 10.0MiB, 25 rows/s, 1 of 2 actors, "
        "waits for an actor to begin, 2 tasks, 8 queued",
        "  Write                queued   0 rows, 0 blocks, 0.0B",
    ]
    assert len(layout.block(RUN, 200, operators=False)) == 1
    assert all(len(text) <= 40 for text in layout.block(RUN, 40))


def test_elsewhere_a_run_is_one_line():
    text = layout.line(RUN)
    assert text.startswith("sums: 30 of 40 parts read, 1.0GiB read, 1,000 rows out in 1:15") and "\n" not in text
    assert "MapBatches(Model) running, 1,000 rows" in text and "waits for an actor to begin" in text
    assert "MapBatches" not in layout.line(RUN, operators=False)


def test_long_names_are_cut_where_that_is_wanted():
    long = RUN.__class__(**{**vars(RUN), "operators": (OperatorFacts("x" * 100, "queued", 0, 0, 0, 0, 0, 0.0),)})
    assert "x" * 59 + "…" in layout.line(long) and "x" * 100 in layout.line(long, truncates=False)


class Screen(io.StringIO):
    def __init__(self, is_terminal):
        super().__init__()
        self.is_terminal, self.wrote = is_terminal, threading.Event()

    def isatty(self):
        return self.is_terminal

    def write(self, text):
        count = super().write(text)
        if "sums" in text:
            self.wrote.set()
        return count


def shown(monkeypatch, screen, **switches):
    """A run that is shown on a screen: its progress, begun a second ago."""
    monkeypatch.setattr(progress.sys, "stderr", screen)
    monkeypatch.setattr(progress.spi, "whoami", lambda: SimpleNamespace(kind=switches.pop("kind", "driver")))
    monkeypatch.setattr(progress, "facts_of", lambda machine, name, seconds: RUN)
    monkeypatch.setattr(progress, "BOARD", progress.Board())
    context = DataContext()
    context.set_config("progress_interval_s", 0.25)
    for name, value in switches.items():
        setattr(context, name, value)
    run = progress.Progress("sums", context)
    run.begin(SimpleNamespace(), time.monotonic() - 1)
    return run


def test_a_terminal_is_left_as_it_was(monkeypatch):
    screen = Screen(is_terminal=True)
    monkeypatch.setenv("TERM", "xterm")
    run = shown(monkeypatch, screen)
    assert screen.wrote.wait(20)
    run.ended(None, time.monotonic(), ValueError("no"))
    text = screen.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is hidden still"
    assert text.endswith("sums: failed (ValueError) after 1:15, 1,000 rows, 10.0MiB\n")
    assert progress.sys.stderr is screen


def test_a_log_gets_lines(monkeypatch):
    screen = Screen(is_terminal=False)
    run = shown(monkeypatch, screen, enable_operator_progress_bars=False)
    assert screen.wrote.wait(20)
    run.ended(None, time.monotonic(), None)
    lines = screen.getvalue().splitlines()
    assert lines[0] == layout.line(RUN, operators=False) and lines[-1].startswith("sums: done after")


@pytest.mark.parametrize("switches", [{"enable_progress_bars": False}, {"kind": "worker"}])
def test_nothing_is_shown_where_nobody_wants_it_and_in_workers(monkeypatch, switches):
    screen = Screen(is_terminal=True)
    run = shown(monkeypatch, screen, **switches)
    assert not run.shows and progress.BOARD._thread is None
    run.ended(None, time.monotonic(), None)
    assert not screen.getvalue()


def test_a_run_that_is_interrupted_has_not_failed(monkeypatch):
    screen = Screen(is_terminal=False)
    run = shown(monkeypatch, screen)
    assert screen.wrote.wait(20)
    run.interrupted = True
    run.ended(None, time.monotonic(), ValueError("the session is gone"))
    assert screen.getvalue().splitlines()[-1].startswith("sums: interrupted after")


def test_a_run_of_which_no_more_is_wanted_has_ended_early(monkeypatch):
    screen = Screen(is_terminal=False)
    run = shown(monkeypatch, screen)
    assert screen.wrote.wait(20)
    run.closed = True
    run.ended(None, time.monotonic(), None)
    assert screen.getvalue().splitlines()[-1].startswith("sums: ended early after")


def test_statistics_have_the_lines_that_people_read():
    one = OperatorStats(
        "ReadRange->Map(f)", 4, 8, 1000, 8000, 0.02, 1, 2, {}, {"a CPU": 1.5, "input": 0.25}, 0.01, 0.5, 0.004, 0.002,
        {"seconds": (0.001, 0.01), "rows": (100, 150), "bytes": (800, 1200)}, {"1": 3, "2": 1},
    )  # fmt: skip
    assert str(RunStats("sums", (one,), 2.0, 0.5, 8, 1000, 8000, 4096, "failed")) == (
        "Operator 1 ReadRange->Map(f): 4 tasks executed, 8 blocks produced in 0.50s\n"
        "* Remote wall time: 1ms min, 10ms max, 5ms mean, 20ms total\n"
        "* Remote cpu time: 2.5ms mean, 10ms total\n"
        "* Task scheduling time: 1ms mean, 4ms total\n"
        "* Task output backpressure time: 500us mean, 2ms total\n"
        "* Output num rows per block: 100 min, 150 max, 125 mean, 1000 total\n"
        "* Output size bytes per block: 800 min, 1200 max, 1000 mean, 8000 total\n"
        "* Tasks per node: 1 min, 3 max, 2 mean; 2 nodes used\n"
        "* Left out 1 parts that failed, began 2 tasks again\n"
        "* Waited for a CPU 1.5s, input 250ms\n"
        "* Operator throughput:\n"
        "\t* Total input num rows: 0 rows\n"
        "\t* Total output num rows: 1000 rows\n"
        "\t* Throughput: 2000.0 rows/s\n"
        "\t* Estimated single task throughput: 50000.0 rows/s\n\n"
        "sums: failed\n"
        "* Output: 8 blocks, 1,000 rows, 7.8KiB in 2.00s\n"
        "* Consumer: waited for blocks 500ms, other 1.5s\n"
        "* Object store: at most 4.0KiB of blocks at a time\n\n"
        "Dataset throughput:\n\t* Throughput: 500.0 rows/s\n"
    )


def test_the_time_of_a_consumer_is_told_by_what_it_did():
    stats = RunStats("sums", (), 2.0, 0.5, 4, 1000, 8000, 4096, moved=Moved(1 << 20, 0, 2048))
    times = Times()
    times.seconds, times.counts = {GET: 0.7, CREATE: 0.1, COLLATE: 0.02}, {GET: 5, CREATE: 10, COLLATE: 10}
    times.blocked_s, times.user_s = 0.6, 1.25
    assert str(with_times(stats, None)) == str(stats)
    assert "* All nodes: 1.0MiB spilled, 0.0B restored, 2.0KiB over the network\n" in str(stats)
    assert str(with_times(stats, times)).endswith(
        "Dataset iterator time breakdown:\n"
        "    * Total time user thread is blocked by iter_batches: 600ms\n"
        "    * Total execution time for user thread: 1.25s\n"
        "* Batch iteration time breakdown (summed across prefetch threads):\n"
        "    * In waiting for blocks: 125ms avg, 500ms total\n"
        "    * In get: 40ms avg, 200ms total\n"
        "    * In batch creation: 10ms avg, 100ms total\n"
        "    * In collate_fn: 2ms avg, 20ms total\n"
    )


def test_a_part_that_goes_on_inside_of_another_one_counts_once(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("hpc.data.consume.times.time.perf_counter", lambda: next(clock))
    times = Times()
    inner = times.within(GET, [1, 2])
    made = times.within(CREATE, map(times.call(FORMAT, str), inner))
    assert list(times.loop(made)) == ["1", "2"]
    assert times.counts == {GET: 3, FORMAT: 2, CREATE: 3}
    # Each look at the clock is a second: one for each get and each format, and four more around both.
    assert times.seconds[GET] == 3 and times.seconds[FORMAT] == 2
    assert times.seconds[CREATE] + times.seconds[GET] + times.seconds[FORMAT] < times.blocked_s
