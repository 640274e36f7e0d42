"""Runs of plans on real processes: rows in order, actors, errors, and what is cancelled."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

import hpc
from hpc import data
from hpc.data.context import DataContext
from hpc.data.exec.execution import Execution, execute
from hpc.data.io.source import Estimate, Source, SourceTask
from hpc.data.plan import nodes as plan
from hpc.exceptions import ActorDiedError, GetTimeoutError, UserCodeException
from hpc.util.state import list_actors
from runtime.running import eventually, one_node, settle


class NumbersTask(SourceTask):
    def __init__(self, first: int, until: int) -> None:
        self.first, self.until = first, until
        self.rows, self.nbytes = until - first, 8 * (until - first)

    def read(self, task):
        task.source = f"numbers from {self.first}"
        yield pa.table({"id": np.arange(self.first, self.until)})


class Numbers(Source):
    name = "Numbers"

    def __init__(self, rows: int, parts: int) -> None:
        self.rows, self.parts = rows, parts

    def estimate(self) -> Estimate:
        return Estimate(self.rows, 8 * self.rows, 0)

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        for part in range(self.parts):
            yield NumbersTask(part * self.rows // self.parts, (part + 1) * self.rows // self.parts)


class Each:
    """A transform made of a function of a table."""

    keeps_rows = True

    def __init__(self, function) -> None:
        self.function = function
        self.name = function.__name__

    def __call__(self, tables, task):
        for table in tables:
            yield self.function(table)


def doubled(table):
    return table.set_column(0, "id", pa.array(2 * table["id"].to_numpy()))


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node():
        yield


def numbers(rows: int, parts: int) -> plan.Read:
    return plan.Read(Numbers(rows, parts))


def run(of: plan.Node, **fields) -> Execution:
    context = DataContext.get_current().copy()
    for name, value in fields.items():
        setattr(context, name, value)
    return execute(of, context)


def ids(execution: Execution) -> list[int]:
    return [row for block in execution for row in hpc.get(block.ref)["id"].to_pylist()]


def test_rows_come_once_and_in_order():
    execution = run(plan.Apply(plan.Apply(numbers(1000, 7), Each(doubled)), Each(doubled)))
    blocks = list(execution)
    assert [row for block in blocks for row in hpc.get(block.ref)["id"].to_pylist()] == [4 * i for i in range(1000)]
    assert sum(block.meta.rows for block in blocks) == 1000
    assert all(pa.ipc.read_schema(pa.py_buffer(block.meta.schema)).names == ["id"] for block in blocks)
    (fused,) = execution.stats().operators
    assert fused.name == "ReadNumbers->doubled->doubled" and fused.rows == 1000 and fused.blocks == len(blocks)
    assert "1000 total" in str(execution.stats())


def test_parts_that_take_no_time_share_tasks():
    execution = run(numbers(3000, 3000))
    assert ids(execution) == list(range(3000))
    (read,) = execution.stats().operators
    assert read.blocks == 3000 and read.tasks < 1000


def test_actors_keep_what_they_have_made_and_the_order():
    class Counts:
        name, keeps_rows = "counts", True

        def begin(self):
            self.calls = 0

        def __call__(self, tables, task):
            for table in tables:
                self.calls += 1
                yield table.append_column("calls", pa.array([self.calls] * table.num_rows))

    execution = run(plan.Apply(numbers(400, 40), Counts(), pool=plan.Pool(1, 1)))
    tables = [hpc.get(block.ref) for block in execution]
    assert [row for table in tables for row in table["id"].to_pylist()] == list(range(400))
    assert max(call for table in tables for call in table["calls"].to_pylist()) == 40


def test_an_error_of_a_function_reaches_the_consumer():
    def fails(table):
        if table["id"][0].as_py() == 50:
            raise ValueError("no fifty")
        return table

    with pytest.raises(ValueError, match="no fifty"):
        ids(run(plan.Apply(numbers(100, 10), Each(fails))))
    execution = run(plan.Apply(numbers(100, 10), Each(fails)), max_errored_blocks=1)
    assert ids(execution) == [i for i in range(100) if not 50 <= i < 60]
    assert execution.stats().operators[0].errored == 1


def test_a_part_that_may_run_once_only_is_not_done_again_when_its_actor_dies(tmp_path):
    class Once:
        def __call__(self, batch):
            with open(tmp_path / "ran", "a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)

    dataset = hpc.data.range(4, override_num_blocks=1)
    with pytest.raises(hpc.exceptions.HpcError):
        dataset.map_batches(Once, concurrency=1, max_retries=0, max_restarts=-1).take_all()
    assert (tmp_path / "ran").read_text() == "x"


def test_a_run_whose_function_cannot_be_sent_leaves_no_actor():
    class Unsendable:
        def __init__(self, lock):
            self.lock = lock

        def __call__(self, batch):
            return batch

    class Sendable:
        def __call__(self, batch):
            return batch

    broken = hpc.data.range(4).map_batches(Unsendable, fn_constructor_args=(threading.Lock(),), concurrency=1)
    with pytest.raises(TypeError):
        broken.map_batches(Sendable, concurrency=1).take_all()
    eventually(lambda: not [row for row in list_actors() if row["state"] != "DEAD"])


def test_what_is_left_of_a_closed_run_is_cancelled_at_once():
    def slow(table):
        if table["id"][0].as_py() >= 20:
            time.sleep(60)
        return table

    execution = run(plan.Apply(numbers(1000, 100), Each(slow)))
    next(execution)
    began = time.monotonic()
    execution.close()
    assert hpc.get(hpc.remote(lambda: 1).remote(), timeout=30) == 1  # a worker is free for it
    assert time.monotonic() - began < 10
    settle()


def test_a_stopped_consumer_stops_the_run():
    def large(table):
        return pa.table({"id": np.zeros(1 << 17, np.int64)})

    execution = run(plan.Apply(numbers(400, 400), Each(large)))
    next(execution)
    deadline = time.monotonic() + 30
    held = -1
    while held != (held := execution._machine.budget.held) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert held < 70 << 20  # half of the store; all of it would be 400 MiB
    assert sum(block.meta.rows for block in execution) == 399 << 17


def test_a_function_that_gives_other_rows_when_tried_again_is_an_error_that_names_it(tmp_path):
    class Moody:
        name, keeps_rows = "moody", False

        def __call__(self, tables, task):
            first = not (tmp_path / "tried").exists()
            (tmp_path / "tried").touch()
            for _ in tables:
                for size in (500, 500) if first else (60,):
                    yield pa.table({"id": np.zeros(size, np.int64)})
            if first:
                time.sleep(0.1)
                os._exit(1)

    with pytest.raises(Exception, match=r"moody.*ran again|moody.*changed") as failed:
        ids(run(plan.Apply(numbers(10, 1), Moody()), target_max_block_size=1000))
    assert type(failed.value).__name__ in ("GeneratorChangedError", "CutsChangedError")


def test_a_limit_ends_what_it_does_not_want():
    def late(table):
        if table["id"][0].as_py() >= 1000:
            time.sleep(60)
        return table

    execution = run(plan.Limit(plan.Apply(numbers(100_000, 10_000), Each(late)), 15))
    assert ids(execution) == list(range(15))
    assert hpc.get(hpc.remote(lambda: 1).remote(), timeout=30) == 1  # a worker is free for it
    assert execution.stats().operators[0].rows <= 1000
    assert ids(run(plan.Limit(numbers(100, 10), 0))) == []


def test_rows_of_two_sources_go_together_by_their_places():
    left, right = numbers(100, 7), numbers(100, 3)
    both = run(plan.Zip((left, right)))
    tables = [hpc.get(block.ref) for block in both]
    assert [row for table in tables for row in table.to_pylist()] == [{"id": i, "id_1": i} for i in range(100)]
    assert ids(run(plan.Union((left, right)))) == [*range(100), *range(100)]
    assert ids(run(plan.Resize(left, 30, strict=True))) == list(range(100))
    with pytest.raises(ValueError, match="same number of rows"):
        list(run(plan.Zip((left, numbers(99, 2)))))


def test_a_task_that_has_all_cpus_runs_a_dataset():
    def count():
        return sum(block.meta.rows for block in run(numbers(100, 10)))

    assert hpc.get(hpc.remote(num_cpus=2)(count).remote(), timeout=60) == 100


def test_a_pool_whose_actors_do_not_begin_is_named_with_the_reason():
    class Broken:
        def __init__(self):
            raise ValueError("no model there")

        def __call__(self, batch):
            return batch

    class Model:
        def __call__(self, batch):
            return batch

    with pytest.raises(ActorDiedError, match=r"(?s)MapBatches\(Broken\).*: an actor did not begin.*no model there"):
        data.range(10).map_batches(Broken, concurrency=1).materialize()
    many = data.range(10).map_batches(Model, concurrency=50)
    many.context.wait_for_min_actors_s = 0.5
    with pytest.raises(GetTimeoutError, match=r"MapBatches\(Model\): . of 50 actors are up after 0.5 s .*1 CPU each"):
        many.materialize()


def test_a_call_that_has_raised_is_tried_again_where_that_is_wanted():
    class Flaky:
        def __init__(self):
            self.calls = 0

        def __call__(self, batch):
            self.calls += 1
            if self.calls % 2:
                raise KeyError("now and then")
            return batch

    flaky = data.range(10, override_num_blocks=2).map_batches(Flaky, concurrency=1)
    for wanted in ([KeyError], True):
        flaky.context.actor_task_retry_on_errors = wanted
        assert flaky.materialize().count() == 10
    flaky.context.actor_task_retry_on_errors = [ValueError]
    with pytest.raises(UserCodeException, match="now and then"):
        flaky.materialize()


def test_an_interrupt_while_blocks_are_waited_for_ends_the_run_and_leaves_the_session(tmp_path):
    def waits(table):
        (tmp_path / "begun").touch()
        time.sleep(60)
        return table

    def interrupt():
        eventually((tmp_path / "begun").exists)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    execution = execute(plan.Apply(numbers(10, 1), Each(waits)), DataContext())
    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        next(execution)
    other.join()
    eventually(lambda: execution._channel.over_at)
    assert execution._shell._progress.interrupted and not execution._channel.failed
    assert hpc.get(hpc.remote(lambda: 5).remote()) == 5


def test_blocks_of_a_row_keep_their_number_their_order_and_their_size():
    found = data.range(200, override_num_blocks=200).map(lambda row: {"id": row["id"], "x": row["id"] % 3 or None})
    kept = found.materialize()
    assert kept.num_blocks() == 200
    assert [row["id"] for row in kept.iter_rows()] == [*range(200)]
    again = kept.map(lambda row: {"id": row["id"] + 1}).materialize()
    assert again.num_blocks() == 200 and again.size_bytes() == 1600
    assert [row["id"] for row in again.iter_rows()] == [*range(1, 201)]


def test_of_several_tasks_that_fail_the_error_of_one_is_raised_and_no_other_is_printed(capfd):
    class Worse:
        def __call__(self, row):
            raise KeyError(f"worse {row['id']}")

    def bad(row):
        raise ValueError(f"bad {row['id']}")

    for failing in (
        data.range(16, override_num_blocks=16).map(bad),
        data.range(8, override_num_blocks=8).map(Worse, concurrency=2, num_cpus=0.25),
    ):
        run = failing.begin()
        with pytest.raises(UserCodeException):
            list(run)
        eventually(lambda run=run: not run._shell._thread.is_alive())
        del run
    hpc.get(hpc.remote(lambda: 5).remote())
    assert "nobody got" not in capfd.readouterr().err


def test_the_parts_of_a_consumer_are_in_its_stats():
    rows = data.range(1000, override_num_blocks=4)
    for batch in rows.iter_batches(batch_size=100, batch_format="pandas"):
        assert len(batch) == 100
    summary = rows.get_stats_summary()
    assert list(summary.consumer) == ["get", "batch creation", "batch formatting"]
    assert summary.consumer["batch formatting"][1] == 10 and summary.blocked_s > 0 and summary.user_s > 0
    assert "* In batch formatting: " in rows.stats() and "In collate_fn" not in rows.stats()
