"""Which part of a worker's log belongs to which task, from the marks that its record has."""

from __future__ import annotations

from collections import deque

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.ids import Address
from hpc.core.node.spec import NodeSpec
from hpc.core.raylet import logfiles
from hpc.core.wire import LogQuery
from hpc.core.worker import record


def event(number: int, end: tuple[int, int] | None) -> record.Event:
    return (number.to_bytes(16, "big"), 0, "f", float(number), 1, 0, end, b"")


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 50), st.integers(1, 50))
def test_parts_follow_one_another_without_gaps(marked, size, limit):
    ring: deque[record.Event] = deque(maxlen=size)
    ends, at = [], 0
    for number, has_mark in enumerate(marked):
        at += 10
        ring.append(event(number, (at, 2 * at) if has_mark else None))
        ends.append(at)
    rows = record.rows(ring, limit)
    assert [int(row["task_id"], 16) for row in rows] == [*range(len(marked))][-min(size, limit) :][: len(rows)]
    for row in rows:
        number = int(row["task_id"], 16)
        begin, end = row["log_from"][0], row["log_to"][0]
        assert begin <= ends[number] - 10  # what it wrote lies in its part
        assert end == -1 or end >= ends[number]
        before = [ends[i] for i in range(number) if marked[i]]
        if begin >= 0:
            assert begin == (before[-1] if before else 0)
    if rows:
        known = rows[-1]["log_to"] if marked[-1] else rows[-1]["log_from"]
        assert record.last_mark(ring) in (tuple(known), None)


def test_a_query_gets_no_more_than_it_may(tmp_path):
    (tmp_path / "logs").mkdir()
    spec = NodeSpec(
        session="s", node=3, rank=0, world=1, dir=str(tmp_path), interface="lo", interface_addr="127.0.0.1", cpus=1,
        granted_cpus=1, mem_bytes=1,
    )  # fmt: skip
    files = logfiles.LogFiles(spec)
    (tmp_path / "logs" / "worker-1.out").write_bytes(bytes(range(256)) * 4096)
    (tmp_path / "logs" / "link.out").symlink_to("/etc/passwd")

    def ask(name: str, at: int, size: int):
        answer = files.on_query(Address(1, 2), LogQuery(7, name, at, size))
        return msgspec.msgpack.decode(answer.data) if answer.ok else answer.why

    begin, at, end, moved, writing, data = ask("worker-1.out", 0, 1 << 40)
    assert (begin, at, end, moved, writing, len(data)) == (0, 0, 1 << 20, False, True, logfiles.LOG_PIECE_BYTES)
    assert ask("worker-1.out", -3, 100)[5] == bytes([253, 254, 255])
    assert ask("worker-1.out", 1 << 62, 5)[1:3] == [1 << 20, 1 << 20]
    assert ask("worker-1.out", -(1 << 62), 2)[5] == b"\0\1" and ask("worker-1.out", 5, -5)[5] == b""
    for name in ("link.out", "../session.json", "/etc/passwd", "a\0b", "", ".", "worker-2.out"):
        assert "has no log file" in ask(name, 0, 10)
