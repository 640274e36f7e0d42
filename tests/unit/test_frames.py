"""Frames of at most the wire's limit, whatever is sent."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.exceptions import TaskError
from hpc.core.failures import error_of, pack_error
from hpc.core.ids import Address
from hpc.core.net import session
from hpc.core.net.frames import answer_rows, encode_bodies, encode_frames, say_instead
from hpc.core.net.stream import Stream, StreamError
from hpc.core.serialization import dumps
from hpc.core.shorten import MAX_ERROR_BYTES, MAX_TEXT, short_text
from hpc.core.wire import (
    ERROR,
    HEADER,
    MAX_FRAME_BYTES,
    NO_ARGUMENTS,
    NONE,
    Answer,
    Done,
    KvPut,
    Message,
    ObjectMissing,
    ObjectValue,
    Result,
    Yielded,
    decode_body,
)

LIMIT = 1000


def nothing(msg: Message, size: int) -> None:
    raise AssertionError(f"{size} bytes")


@given(st.lists(st.integers(0, 700), max_size=40))
def test_messages_are_split_by_their_bytes_and_stay_in_order(sizes):
    messages = [Answer(number, True, bytes(size)) for number, size in enumerate(sizes)]
    bodies = encode_bodies(messages, nothing, LIMIT)
    assert all(len(body) <= LIMIT for body in bodies)
    assert [m.req for body in bodies for m in decode_body(body)] == list(range(len(sizes)))
    if sum(sizes) + 20 * len(sizes) < LIMIT:
        assert len(bodies) == 1


@pytest.mark.parametrize(
    ("msg", "kind"),
    [
        (Answer(7, True, bytes(2000)), Answer),
        (Done(b"t", 3, [Result(0, bytes(2000))]), Done),
        (Yielded(b"t", 3, 1, Result(0, bytes(2000))), Yielded),
        (ObjectValue(b"i", Result(0, bytes(2000))), ObjectMissing),
        (KvPut(1, "", b"", bytes(2000)), None),
    ],
)
def test_an_answer_that_no_frame_can_hold_says_so_instead(msg, kind):
    others = [m for body in encode_bodies([msg, Answer(1, True)], say_instead, LIMIT) for m in decode_body(body)]
    assert [type(m) for m in others] == ([kind, Answer] if kind else [Answer])
    if kind is Answer:
        assert others[0].req == 7 and not others[0].ok and "hpc.put()" in others[0].why


def test_what_a_stream_takes_a_link_takes():
    body = bytes(MAX_FRAME_BYTES - 100)
    (frame,) = encode_frames(Address(1, 2), Address(2, 3), [Answer(1, True, body)], nothing)
    assert MAX_FRAME_BYTES - 100 < len(frame) <= session.MAX_BODY_BYTES


def test_a_receiver_that_cuts_a_connection_says_what_came():
    import socket

    one, other = socket.socketpair()
    stream = Stream(one)
    other.sendall(HEADER.pack(MAX_FRAME_BYTES + 1, 1, 0, 1, 1))
    with pytest.raises(StreamError, match=f"{MAX_FRAME_BYTES + 1} bytes.*{MAX_FRAME_BYTES}"):
        stream.receive()
    one.close(), other.close()


def test_rows_that_do_not_fit_are_counted():
    answer = answer_rows(3, [{"name": "x" * 100} for _ in range(64)], LIMIT)
    assert answer.left_out == 56 and len(answer.data) < LIMIT
    assert answer_rows(3, [{}]).left_out == 0


class Loaded(ValueError):
    def __init__(self, text, load):
        super().__init__(text, load)
        self.load = load


def test_a_huge_exception_keeps_its_class_and_says_what_was_left_out():
    data = pack_error("f", Loaded("why it failed", bytes(2 * MAX_ERROR_BYTES)), "here")
    assert len(data) < 2 * MAX_TEXT
    error = error_of(Result(ERROR, data))
    assert isinstance(error, Loaded) and isinstance(error, TaskError)
    assert error.args[0] == "why it failed"
    assert error.load == error.args[1] and error.load.startswith("<bytes of ") and "left out" in error.load


def test_a_huge_text_keeps_its_beginning_and_its_end():
    text = "begin" + "x" * (2 * MAX_ERROR_BYTES) + "end"
    error = error_of(Result(ERROR, pack_error("f", RuntimeError(text), "here")))
    assert isinstance(error, RuntimeError) and len(str(error)) < MAX_ERROR_BYTES
    assert error.args[0].startswith("begin") and error.args[0].endswith("end") and "left out" in error.args[0]
    assert short_text("short") == "short"


def test_an_exception_below_the_limit_is_left_alone():
    error = error_of(Result(ERROR, pack_error("f", Loaded("why", bytes(MAX_ERROR_BYTES // 2)), "here")))
    assert error.load == bytes(MAX_ERROR_BYTES // 2)
    assert pickle.dumps(error)


def test_values_that_the_wire_knows_by_heart_are_what_the_serializer_gives():
    assert dumps(None).to_bytes() == NONE
    assert dumps(((), {})).to_bytes() == NO_ARGUMENTS
