"""The grammar of HTTP in services: what is a request, what is refused with which status, and chunks in any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("httptools", reason="needs pip install 'hpc[serve]'")

from hpc.serve.http.head import MAX_FIELDS, Chunks, Refused, read_head

HOST = b"Host: a\r\n"


def head(line: bytes, *fields: bytes, end: bytes = b"\r\n") -> bytes:
    return b"".join(one + end for one in (line, *fields)) + end


def status_of(data: bytes) -> int:
    with pytest.raises(Refused) as caught:
        read_head(data)
    assert caught.value.why
    return caught.value.status


def test_a_head_is_read() -> None:
    found = read_head(
        head(b"POST /a/b%20c?x=1&y HTTP/1.1", b"Host: a:80", b"X-Two:  words here \t", b"Content-Length: 12")
    )
    assert (found.method, found.path, found.query, found.host) == ("POST", b"/a/b%20c", b"x=1&y", b"a:80")
    assert found.headers == [(b"host", b"a:80"), (b"x-two", b"words here"), (b"content-length", b"12")]
    assert (found.length, found.keep_alive, found.expects_continue, found.upgrade) == (12, True, False, b"")


def test_what_a_connection_may_do_is_read() -> None:
    assert not read_head(head(b"GET / HTTP/1.1", b"Host: a", b"Connection: close")).keep_alive
    assert not read_head(head(b"GET / HTTP/1.0")).keep_alive
    assert read_head(head(b"GET / HTTP/1.0", b"Connection: Keep-Alive")).keep_alive
    assert read_head(
        head(b"PUT / HTTP/1.1", b"Host: a", b"Expect: 100-continue", b"Content-Length: 1")
    ).expects_continue
    upgrade = read_head(head(b"GET / HTTP/1.1", b"Host: a", b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket"))
    assert upgrade.upgrade == b"websocket"
    assert read_head(head(b"GET / HTTP/1.1", b"Host: a", b"Upgrade: websocket")).upgrade == b""
    assert read_head(head(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: Chunked")).length is None


def test_an_absolute_address_names_the_host() -> None:
    found = read_head(head(b"GET http://b.example:81/x?q HTTP/1.1", b"Host: a"))
    assert (found.path, found.query, found.host) == (b"/x", b"q", b"b.example:81")
    assert read_head(head(b"OPTIONS * HTTP/1.1", b"Host: a")).path == b"*"


SMUGGLED = {
    "a length and chunks": (b"Content-Length: 3", b"Transfer-Encoding: chunked"),
    "chunks and a length": (b"Transfer-Encoding: chunked", b"Content-Length: 3"),
    "two lengths": (b"Content-Length: 3", b"Content-Length: 4"),
    "the same length twice": (b"Content-Length: 3", b"Content-Length: 3"),
    "lengths in one line": (b"Content-Length: 3, 3",),
    "a length with a sign": (b"Content-Length: +3",),
    "a negative length": (b"Content-Length: -3",),
    "a length in hexadecimal": (b"Content-Length: 0x3",),
    "a length with a separator": (b"Content-Length: 1_0",),
    "no length": (b"Content-Length:",),
    "a length without an end": (b"Content-Length: 9999999999999999999999",),
    "a space before the colon": (b"Content-Length : 3",),
    "a line that goes on": (b"X: a", b" Content-Length: 3"),
    "a line that goes on by a tab": (b"X: a", b"\tb"),
    "a return in a value": (b"X: a\rContent-Length: 3",),
    "a line feed in a value": (b"X: a\nContent-Length: 3",),
    "a zero in a value": (b"X: a\0b",),
    "no name": (b": x",),
    "no colon": (b"Content-Length",),
    "a name with a space": (b"Content Length: 3",),
    "two hosts": (b"Host: b",),
}


@pytest.mark.parametrize("fields", SMUGGLED.values(), ids=SMUGGLED)
def test_what_could_be_read_in_two_ways_is_refused(fields: tuple[bytes, ...]) -> None:
    assert status_of(head(b"POST / HTTP/1.1", b"Host: a", *fields)) == 400


@pytest.mark.parametrize(
    "coding", [b"gzip, chunked", b"chunked, chunked", b"xchunked", b"chunked;q=1", b"identity", b"chunked ,"]
)
def test_other_transfer_encodings_are_refused(coding: bytes) -> None:
    assert status_of(head(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: " + coding)) in (400, 501)


def test_two_transfer_encodings_are_refused() -> None:
    twice = (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")
    assert status_of(head(b"POST / HTTP/1.1", b"Host: a", *twice)) in (400, 501)
    assert status_of(head(b"POST / HTTP/1.0", b"Host: a", twice[0])) == 400


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET / HTTP/2.0", 505), (b"PRI * HTTP/2.0", 505), (b"GET / HTTP/1.2", 505), (b"GET  / HTTP/1.1", 400),
        (b"GET / http/1.1", 400), (b"GET /", 400), (b"GET / HTTP/1.1 x", 400), (b"CONNECT a:1 HTTP/1.1", 501),
        (b"GET /\x80 HTTP/1.1", 400), (b"GET /a#b HTTP/1.1", 400), (b"GET a HTTP/1.1", 400), (b"BREW / HTTP/1.1", 501),
        (b"GET ftp://a/ HTTP/1.1", 400), (b"G\tT / HTTP/1.1", 400), (b"GET /" + b"a" * 20000 + b" HTTP/1.1", 414),
    ],
)  # fmt: skip
def test_a_first_line_that_is_none_is_refused(line: bytes, status: int) -> None:
    assert status_of(head(line, b"Host: a")) == status


def test_hosts_are_needed_and_checked() -> None:
    assert status_of(head(b"GET / HTTP/1.1")) == 400
    for host in (b"a b", b"a/b", b"a@b", b"a:b", b"a:1:2", b"[::1"):
        assert status_of(head(b"GET / HTTP/1.1", b"Host: " + host)) == 400
    for host in (b"", b"a.b-c_d:8000", b"[::1]:1", b"127.0.0.1"):
        assert read_head(head(b"GET / HTTP/1.1", b"Host: " + host)).host == host


def test_lines_that_end_in_a_line_feed_alone_are_refused() -> None:
    assert status_of(head(b"GET / HTTP/1.1", b"Host: a", end=b"\n") + b"\r\n\r\n") == 400
    assert status_of(b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n") == 400


def test_too_many_headers_and_unknown_expectations_are_refused() -> None:
    many = [b"x%d: 1" % number for number in range(MAX_FIELDS)]
    assert status_of(head(b"GET / HTTP/1.1", b"Host: a", *many)) == 431
    assert status_of(head(b"GET / HTTP/1.1", b"Host: a", b"Expect: tea")) == 417


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_no_bytes_do_anything_but_be_refused(data: bytes) -> None:
    for text in (data + b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n" + data + b"\r\n\r\n"):
        try:
            found = read_head(text)
        except Refused:
            continue
        assert found.host is not None and b"\n" not in b"".join(value for _, value in found.headers)


# ---------------------------------------------------------------- chunks


@given(st.lists(st.binary(min_size=1, max_size=40)), st.binary(max_size=20), st.lists(st.integers(1, 7), max_size=200))
@settings(max_examples=300, deadline=None)
def test_chunks_are_the_same_in_any_pieces(parts: list[bytes], rest: bytes, cuts: list[int]) -> None:
    data = (
        b"".join(b"%x;note=%d\r\n%s\r\n" % (len(part), len(part), part) for part in parts) + b"0\r\nX: y\r\n\r\n" + rest
    )
    chunks, found, left, at = Chunks(), b"", b"", 0
    for cut in [*cuts, len(data)]:
        piece, at = data[at : at + cut], at + cut
        if chunks.is_done:
            left += piece
        else:
            body, more = chunks.feed(piece)
            found, left = found + body, left + more
    assert chunks.is_done
    assert found == b"".join(parts)
    assert left == rest


@pytest.mark.parametrize(
    "data",
    [
        b"3\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n", b"3\r\nabc\n0\r\n\r\n", b"-1\r\n", b"0x3\r\nabc\r\n", b"\r\n",
        b"3 \r\nabc", b"+3\r\nabc",
        b"fffffffffffffffff\r\n", b"3\r\r\nabc", b"3;" + b"a" * 400 + b"\r\n", b"z\r\n", b"0\r\nno colon\r\n\r\n",
        b"0\r\n" + b"X: y\r\n" * 2000, b"3\r\nabc\rX", b"3;a\0b\r\nabc\r\n", b"1" * 300,
    ],
)  # fmt: skip
def test_chunks_that_are_none_are_refused_in_any_pieces(data: bytes) -> None:
    for size in (1, len(data)):
        chunks = Chunks()
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        with pytest.raises(Refused) as caught:
            list(map(chunks.feed, pieces))
        assert caught.value.status == 400
