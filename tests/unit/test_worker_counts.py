"""Which name a worker counts a task under, whatever another thread shows meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hpc.core.metrics.tally import Tally
from hpc.core.process.context import process
from hpc.core.wire import Task
from hpc.core.worker.main import Worker


class Title:
    """The names of a process, which another thread has just set to that of the task that begins."""

    def __init__(self) -> None:
        self.now = ""

    def show(self, name: str) -> None:
        self.now = name


def a_worker() -> Any:
    worker: Any = object.__new__(Worker)

    def nothing(*args: Any) -> None:
        return None

    worker.title, worker.tally, worker._counted, worker._entitled = Title(), Tally(), None, ""
    worker.loop = SimpleNamespace(began=0.0, task=b"", is_last=lambda *args: False)
    worker.client = SimpleNamespace(arena=SimpleNamespace(publish=nothing))
    worker.threads = SimpleNamespace(value=None, again=nothing)
    worker.packing = SimpleNamespace(arguments=lambda msg, met: ((), {}), results=lambda *args: [])
    worker.hook = SimpleNamespace(failed=False)
    worker.record, worker.running, worker._published = [], {}, False
    worker.function = lambda fn: (lambda: None, None, 0)
    worker.write_as = worker.reply = nothing
    return worker


def test_a_task_is_counted_under_its_own_name_though_its_title_was_shown_before() -> None:
    worker = a_worker()

    def run(name: str) -> None:
        worker._run_task(None, Task(b"t", 0, b"fn", name, b"", 1, lease=process.lease))

    run("one")
    shown = worker._counted
    assert shown is worker.tally.named("one")
    worker.title.now = "".join(["t", "wo"])  # as `Title.rest` does where the task has begun just now
    run("two")
    assert worker._counted is worker.tally.named("two") is not shown
    run("two")
    assert worker._counted is worker.tally.named("two") and worker.title.now == "two"
