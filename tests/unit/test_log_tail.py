"""The raylet's side of what workers print: a driver has a bounded amount on its way, and no worker's end loses any."""

import os
import time
from types import SimpleNamespace

import pytest

from hpc.core.ids import Address
from hpc.core.node.marks import mark
from hpc.core.node.output import LogFile, text_stream
from hpc.core.raylet import logs
from hpc.core.raylet.borrowing import Borrowing
from hpc.core.raylet.tables import Proc
from hpc.core.raylet.writers import Writers
from hpc.core.store.arena import NAME_BYTES, Arena, create_arena
from hpc.core.wire import Answer, FlushLogs, LogLines, LogsSeen

NODE = 1
DRIVER = Address(NODE, 1)
AFAR = Address(2, 1)
LINE = b"." * 99 + b"\n"


class Node:
    """A tail over real files, and a machine that does nothing."""

    def __init__(self, folder) -> None:
        self.asked = []
        self.folder = folder
        spec = SimpleNamespace(node=NODE, log_dir=str(folder), log_path=lambda name: str(folder / name), config={})
        self.procs = {1: Proc(1, "driver", "driver")}
        self.machine = SimpleNamespace(
            outbox=[], handlers={}, reports={}, borrowing=Borrowing(NODE), leasing=SimpleNamespace(procs=self.procs)
        )
        self.tail = logs.LogTail(spec, self.machine, self.writer)
        self.shown = b""

    def worker(self, number, driver=DRIVER):
        self.procs[number] = Proc(number, "worker", "leased", pid=number, driver=driver)
        for suffix in ("out", "err"):
            (self.folder / f"worker-{number}.{suffix}").touch()
        self.tail.open(number)

    def writer(self, number, moment):
        self.asked.append(moment)
        return "it"

    def write(self, number, data):
        with open(self.folder / f"worker-{number}.out", "ab") as file:
            file.write(data)

    def end(self, number):
        self.tail.close(number, self.procs.pop(number), "it ended", "", clean=True, task=b"", attempt=0)

    def take(self):
        """What is on its way to drivers: sizes that they will acknowledge, by driver."""
        sizes = []
        for dst, msg in self.machine.outbox:
            if isinstance(msg, LogLines):
                self.shown += "".join(f"{line}\n" for line in msg.lines).encode()
                sizes.append((dst, msg.size))
        self.machine.outbox[:] = [pair for pair in self.machine.outbox if not isinstance(pair[1], LogLines)]
        return sizes

    def acknowledge(self, sizes):
        for driver, size in sizes:
            self.machine.handlers[LogsSeen](driver, LogsSeen(size))

    def show_all(self):
        while sizes := self.take():
            self.acknowledge(sizes)


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def test_a_driver_has_no_more_than_the_window_on_its_way_and_gets_the_rest_as_it_takes_it(node):
    node.worker(2)
    node.write(2, LINE * 20_000)
    node.tail.poll()
    sizes = node.take()
    assert sum(size for _, size in sizes) <= logs.WINDOW_BYTES + logs.PIECE_BYTES
    node.tail.poll()
    assert node.take() == []
    node.acknowledge(sizes)
    node.show_all()
    assert node.shown == LINE * 20_000


def test_output_of_a_worker_that_has_ended_waits_for_its_driver_and_ends_with_the_line_without_an_end(node):
    node.worker(2)
    node.write(2, LINE * 20_000 + b"the end")
    node.end(2)
    node.show_all()
    assert node.shown == LINE * 20_000 + b"the end\n"
    assert not node.tail._closing


def test_one_driver_that_takes_nothing_holds_up_no_other(node):
    node.worker(2, AFAR)
    node.worker(3, DRIVER)
    node.write(2, LINE * 20_000)
    node.tail.poll()
    node.take()
    node.write(3, LINE)
    node.tail.poll()
    assert node.take() == [(DRIVER, len(LINE))]


def test_what_waits_for_a_driver_that_has_gone_is_let_go(node):
    node.worker(2, AFAR)
    node.write(2, LINE * 20_000)
    node.end(2)
    assert node.tail._closing
    node.machine.borrowing.dead_owners.add(AFAR)
    node.tail.poll()
    assert not node.tail._closing


def test_of_many_ended_workers_whose_driver_takes_nothing_the_oldest_are_let_go(node):
    for number in range(10, 12 + logs.MAX_CLOSING):
        node.worker(number, AFAR)
        node.write(number, LINE * 20_000)
        node.end(number)
    assert len(node.tail._closing) == logs.MAX_CLOSING


def test_a_line_without_an_end_is_sent_in_pieces_and_takes_no_memory(node):
    node.worker(2)
    node.write(2, b"x" * (10 * logs.PIECE_BYTES))
    node.tail.poll()
    node.show_all()
    assert len(node.shown.replace(b"\n", b"")) == 10 * logs.PIECE_BYTES
    assert len(node.tail._living[2].files[0].lines.partial) < logs.PIECE_BYTES


def test_each_line_comes_with_its_name_and_no_byte_is_counted_twice(node):
    node.worker(2)
    text = mark("f") + b"one\ntwo\n" + mark("g") + b"three\n"
    node.write(2, text)
    node.tail.poll()
    found = [(msg.name, msg.lines, msg.size) for _, msg in node.machine.outbox if isinstance(msg, LogLines)]
    assert found == [("f", ["one", "two"], len(text)), ("g", ["three"], 0)]


def test_text_without_an_end_is_shown_after_a_while(node, monkeypatch):
    node.worker(2)
    node.write(2, b"10%\r20%")
    node.tail.poll()
    assert node.take() == []
    monkeypatch.setattr(logs, "OPEN_LINE_S", 0.0)
    node.tail.poll()
    node.show_all()
    assert node.shown == b"20%\n"
    node.write(2, b"\r30%\n")
    node.tail.poll()
    node.show_all()
    assert node.shown == b"20%\n30%\n"
    assert node.tail._open == {}


def test_what_has_no_mark_is_by_whoever_has_run_since_the_last_look_unless_more_has_waited_since_long(node):
    node.worker(2)
    before = time.monotonic()
    node.tail.poll()
    between = time.monotonic()
    node.write(2, mark("f") + b"one\n" + mark("") + b"two\n")
    node.tail.poll()
    found = [(msg.name, msg.lines) for _, msg in node.machine.outbox if isinstance(msg, LogLines)]
    assert found == [("f", ["one"]), ("it", ["two"])]
    assert len(node.asked) == 1 and before <= node.asked[0] <= between
    node.write(2, LINE * 20_000)
    node.tail.poll()
    node.tail.poll()
    node.machine.outbox.clear()
    node.acknowledge([(DRIVER, 1 << 30)])
    assert {msg.name for _, msg in node.machine.outbox if isinstance(msg, LogLines)} == {""}


def test_a_task_is_the_writer_if_it_has_run_since_before_and_an_actor_always_and_nobody_where_slots_are_shared():
    arena = Arena(create_arena(1 << 20), 1 << 20)
    worker = Arena(os.dup(arena.fd), 1 << 20, slot=3)
    procs = {7: Proc(7, "worker", "leased")}
    free = [9]
    writers = Writers(arena, {7: 3}, free, procs)
    assert writers.name(7, 10.0) == writers.name(8, 10.0) == ""
    worker.publish_name(b"f")
    worker.publish(b"t" * 20, 0, True, 5.0)
    assert writers.name(7, 10.0) == "f" and writers.name(7, 5.0) == writers.name(7, 4.0) == ""
    worker.publish(b"", 0, False)
    assert writers.name(7, 10.0) == ""
    procs[7].lease = SimpleNamespace(actor=True)
    assert writers.name(7, 0.0) == "f"
    free.clear()
    assert writers.name(7, 0.0) == ""
    arena.clear_slot(3)
    assert arena.published_name(3) == b""
    worker.publish_name(b"x" * NAME_BYTES)
    assert arena.published_name(3) == b"x" * NAME_BYTES and arena.published_name(4) == b""
    for one in (arena, worker):
        one.close()


def test_the_last_lines_of_a_worker_have_no_marks(node):
    node.worker(2)
    with open(node.folder / "worker-2.err", "ab") as file:
        file.write(mark("f") + b"why\n")
    assert node.tail.last_lines(2) == ["why"]


def test_a_driver_that_leaves_is_answered_when_its_workers_have_written_out_and_it_has_all(node):
    node.worker(2)
    node.worker(3, AFAR)
    node.machine.handlers[FlushLogs](DRIVER, FlushLogs(7))
    [(asked, question)] = node.machine.outbox
    assert asked == Address(NODE, 2) and isinstance(question, FlushLogs)
    node.machine.outbox.clear()
    node.write(2, LINE * 20_000 + b"no end")
    node.machine.handlers[Answer](asked, Answer(question.req, True, b"\x91\x05"))
    while not node.machine.outbox or node.take():
        node.acknowledge([(DRIVER, logs.WINDOW_BYTES)])
    node.take()
    assert node.machine.outbox == [(DRIVER, Answer(7, True, b"\x91\x05"))]
    assert node.shown == LINE * 20_000 + b"no end\n"


def test_a_driver_that_leaves_does_not_wait_for_a_worker_that_ended_or_does_not_answer(node, monkeypatch):
    node.worker(2)
    node.worker(3)
    monkeypatch.setattr("hpc.core.raylet.flushes.ANSWER_S", 0.0)
    node.machine.handlers[FlushLogs](DRIVER, FlushLogs(7))
    assert (DRIVER, Answer(7, True, b"\x90")) in node.machine.outbox
    monkeypatch.setattr("hpc.core.raylet.flushes.ANSWER_S", 1e9)
    node.machine.outbox.clear()
    node.machine.handlers[FlushLogs](DRIVER, FlushLogs(8))
    node.end(2)
    node.end(3)
    node.tail.poll()
    assert (DRIVER, Answer(8, True, b"\x90")) in node.machine.outbox


def test_a_stream_over_a_full_disk_drops_what_it_cannot_keep_and_says_so_later(tmp_path):
    fd = os.open("/dev/full", os.O_WRONLY)
    stream = text_stream(LogFile(fd, "w", closefd=False))
    print("nobody will read this", file=stream)
    path = tmp_path / "log"
    other = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(other, fd)
    print("there is room", file=stream)
    os.close(other)
    os.close(fd)
    assert "hpc: 22 bytes of output could not be kept here and were dropped" in path.read_text()
    assert path.read_text().endswith("there is room\n")


def test_a_stream_over_something_broken_still_says_so():
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(BrokenPipeError):
        print("lost", file=text_stream(LogFile(write, "w", closefd=False)))
    os.close(write)
