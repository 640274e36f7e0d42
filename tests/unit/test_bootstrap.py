"""Messages survive what schedulers do to a stream of lines, and what does not survive is dropped, not believed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.node.bootstrap import (
    CHUNK_BYTES,
    MAX_CHUNKS,
    MAX_LINE_BYTES,
    CommandDecoder,
    Noise,
    Report,
    ReportDecoder,
    encode_command,
    encode_report,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
messages = st.builds(
    lambda fields: {**fields, "op": "out"}, st.dictionaries(st.text(max_size=12), json_values, max_size=5)
)


def decode(data: bytes, step: int = 1 << 20) -> list[Report | Noise]:
    decoder = ReportDecoder()
    found = [item for i in range(0, len(data), step) for item in decoder.feed(data[i : i + step])]
    return found + decoder.finish()


@given(message=messages, rank=st.integers(0, 99_999), number=st.integers(1, 10**9), step=st.integers(1, 2000))
def test_a_report_survives_any_cutting_of_the_stream(message, rank, number, step):
    assert decode(encode_report(rank, number, message), step) == [Report(rank, message)]


@given(message=messages, step=st.integers(1, 2000))
def test_a_command_survives_any_cutting_of_the_stream(message, step):
    data = encode_command(message)
    decoder = CommandDecoder()
    assert [m for i in range(0, len(data), step) for m in decoder.feed(data[i : i + step])] == [message]
    assert data.count(b"\n") == 1


def test_lines_are_ascii_and_stay_under_the_length_at_which_srun_cuts():
    data = encode_report(99_999, 10**9, {"op": "out", "text": "ü@hpc \n\r " * 1000})
    assert data.isascii()
    lines = data.splitlines()
    assert len(lines) > 10
    assert max(map(len, lines)) < 1000


def long(text: str, size: int) -> str:
    """The text again and again, so many characters in all."""
    return (text * size)[:size]


@given(
    texts=st.lists(st.builds(long, st.text(min_size=1, max_size=50), st.integers(900, 2500)), min_size=2, max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_ranks_may_alternate_line_by_line(texts, order):
    sent = [{"op": "out", "text": text} for text in texts]
    queues = [encode_report(rank, 1, message).splitlines(keepends=True) for rank, message in enumerate(sent)]
    mixed = b""
    while any(queues):
        mixed += order.choice([queue for queue in queues if queue]).pop(0)
    found = decode(mixed)
    assert sorted(r.rank for r in found) == list(range(len(texts)))
    assert all(report.message == sent[report.rank] for report in found)


def test_noise_is_handed_on_and_hides_nothing():
    one = encode_report(0, 1, {"op": "hello"})
    data = b"Welcome to the machine\n\n  \nno newline here: " + one + b"\xff\xfe\n" + one.rstrip(b"\n")
    assert decode(data) == [
        Noise("Welcome to the machine"),
        Noise("no newline here: "),
        Report(0, {"op": "hello"}),
        Noise("��"),
        Report(0, {"op": "hello"}),
    ]


def test_text_that_looks_like_a_report_inside_a_report_is_only_text():
    message = {"op": "out", "text": '@hpc 0 1 1/1 {"op":"bye"}\n'}
    assert decode(encode_report(3, 9, message)) == [Report(3, message)]


@pytest.mark.parametrize(
    "line",
    [
        b"@hpc 0 1 1/1 [1]\n",
        b"@hpc 0 1 1/1 {}\n",
        b'@hpc 0 1 1/1 {"op":5}\n',
        b'@hpc 0 1 0/0 {"op":"a"}\n',
        b'@hpc 0 1 2/1 {"op":"a"}\n',
        b'@hpc 0 1 2/2 {"op":"a"}\n',
        b"@hpc 0 1 1/99999 x\n",
        b"@hpc 0 1 1/1 " + b"[" * 30_000 + b"\n",
    ],
)
def test_wrong_reports_are_counted_and_dropped(line):
    decoder = ReportDecoder()
    assert decoder.feed(line) == []
    assert decoder.broken == 1
    assert decoder.feed(encode_report(0, 2, {"op": "bye"})) == [Report(0, {"op": "bye"})]


def test_a_report_with_a_lost_line_is_dropped_and_the_next_is_read():
    lines = encode_report(0, 1, {"op": "out", "text": "x" * 3000}).splitlines(keepends=True)
    decoder = ReportDecoder()
    assert decoder.feed(lines[0] + lines[2]) == []
    assert decoder.feed(encode_report(0, 2, {"op": "bye"})) == [Report(0, {"op": "bye"})]
    assert decoder.broken >= 1


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_garbage_never_raises(pieces):
    decoder, commands = ReportDecoder(), CommandDecoder()
    for piece in pieces:
        decoder.feed(piece)
        decoder.feed(b"@hpc " + piece)
        commands.feed(piece)
    decoder.finish()


def test_memory_stays_bounded_without_a_line_end():
    decoder = ReportDecoder()
    found = [item for _ in range(100) for item in decoder.feed(b"x" * 10_000)]
    assert sum(len(item.text) for item in found if isinstance(item, Noise)) >= 100 * 10_000 - 2 * MAX_LINE_BYTES


def test_a_report_that_is_too_long_is_refused_where_it_is_made():
    with pytest.raises(ValueError, match="longer"):
        encode_report(0, 1, {"op": "out", "text": "x" * (CHUNK_BYTES * MAX_CHUNKS)})


def test_wrong_commands_are_counted_and_dropped():
    decoder = CommandDecoder()
    good = {"op": "stop"}
    assert decoder.feed(b"what\n[]\n\n" + json.dumps(good).encode() + b"\n") == [good]
    assert decoder.broken == 2
