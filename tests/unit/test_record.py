"""Which part of a worker's log belongs to which task, from the marks that its record has."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.events.rows import Event, rows_of, unpack
from hpc.core.ids import Address
from hpc.core.node.spec import NodeSpec
from hpc.core.raylet import logfiles
from hpc.core.wire import LogQuery
from hpc.core.worker import record


def event(number: int, end: tuple[int, int] | None, name: str = "f") -> Event:
    return (number.to_bytes(16, "big"), 0, name, float(number), 1, 0, end, b"")


@given(st.lists(st.booleans(), max_size=40), st.lists(st.integers(0, 40), max_size=5), st.integers(1, 50))
def test_parts_follow_one_another_without_gaps_however_events_are_handed_over(marked, cuts, most):
    ring, ends, at, batches = record.Record(), [], 0, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "MAX_EVENTS", most)
        for number, has_mark in enumerate(marked):
            at += 10
            ring.append(event(number, (at, 2 * at) if has_mark else None))
            ends.append(at)
            if number in cuts:
                data, count, lost = ring.hand_over(0.0)
                batches.append(unpack(data))
                assert len(batches[-1].events) == count and count <= most and (lost == 0 or count == most)
        ring.trim()
        rows = rows_of([*batches, ring.batch()], "1.2")
    numbers = [int(row.task_id, 16) for row in rows]
    assert numbers == sorted(set(numbers)) and numbers[-most:] == [*range(len(marked))][-most:][-len(numbers) :]
    assert ring.first + len(ring.events) == len(marked)
    for row, number in zip(rows, numbers):
        begin, end = row.log_from[0], row.log_to[0]
        assert begin <= ends[number] - 10  # what it wrote lies in its part
        assert end == -1 or end >= ends[number]
        before = [ends[i] for i in range(number) if marked[i]]
        if begin >= 0:
            assert begin == (before[-1] if before else 0)
        assert (row.worker_id, row.node_id, row.type, row.state) == ("1.2", "1", "NORMAL_TASK", "FINISHED")
    if rows:
        known = rows[-1].log_to if marked[-1] else rows[-1].log_from
        assert record.last_mark(ring.events, ring.begin) in (tuple(known), None)


def test_events_with_very_long_names_are_handed_over_as_far_as_they_fit(monkeypatch):
    monkeypatch.setattr(record, "MAX_BYTES", 10_000)
    ring = record.Record()
    for number in range(20):
        ring.append(event(number, None, "n" * 1000))
    data, count, lost = ring.hand_over(5.0)
    batch = unpack(data)
    assert len(data) <= 10_000 and count + lost == 20 and batch.first == lost and len(batch.events) == count > 4
    assert not ring.is_due(6.0)  # there is nothing
    ring.append(event(20, None))
    assert not ring.is_due(5.1) and ring.is_due(5.0 + record.FEW_S)
    assert [int(row["task_id"], 16) for row in ring.rows(10)] == [20]
    for number in range(record.FEW):
        ring.append(event(21 + number, None))
    assert not ring.is_due(5.0 + record.FEW_S) and ring.is_due(5.0 + record.HAND_OVER_S)


def test_a_record_that_is_off_keeps_nothing():
    ring = record.Record(on=False)
    ring.append(event(1, None))
    assert ring.rows(10) == [] and not ring.is_due(1e9)


def test_what_is_no_batch_gives_no_rows():
    assert unpack(b"") is None and unpack(b"\xc1") is None and unpack(b"\x93\x01\x02\x03") is None


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
