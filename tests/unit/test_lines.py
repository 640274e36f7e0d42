"""Names in the output of workers: written with the text, read with it, and taken out of it."""

import os
import random

import pytest

from hpc.core.node import output
from hpc.core.node.marks import MAX_NAME, Unmarked, mark, without
from hpc.core.raylet.lines import MAX_LINE, Lines

F, G, NOBODY = mark("f"), mark("g"), mark("")


@pytest.fixture
def streams(tmp_path, monkeypatch):
    """A process's streams, and what is in their files."""
    names = output._Names()
    monkeypatch.setattr(output, "_names", names)
    fds = [os.open(tmp_path / suffix, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for suffix in ("out", "err")]
    names.files = [output.LogFile(fd, "w", closefd=False) for fd in fds]
    names.streams = [output.text_stream(file) for file in names.files]
    output.begin_logs()
    yield *names.streams, lambda: (tmp_path / "out").read_bytes()
    for fd in fds:
        os.close(fd)


def test_a_name_is_written_with_the_first_text_and_not_again_and_without_text_not_at_all(streams):
    out, _, written = streams
    output.write_as("f")
    output.write_as("g")
    assert written() == b""
    print("one", file=out)
    print("two", file=out)
    assert written() == G + b"one\ntwo\n"


def test_what_is_written_past_the_streams_after_a_change_of_name_has_no_wrong_name(streams):
    out, _, written = streams
    output.write_as("f")
    out.write("no end")
    output.write_as("g")
    os.write(output._names.files[0].fileno(), b"raw\n")
    output.write_as("f")
    print("again", file=out)
    assert written() == F + b"no end" + NOBODY + b"raw\n" + F + b"again\n"
    lines = Lines()
    assert lines.take(written()) == [("f", ["no end"]), ("", ["raw"]), ("f", ["again"])]


def test_a_name_is_said_again_to_others_and_after_much_text(streams):
    out, _, written = streams
    output.write_as("f")
    print("one", file=out)
    output.name_again()
    print("x" * output.REPEAT_BYTES, file=out)
    print("two", file=out)
    assert written().count(F) == 3


def test_a_file_that_the_program_puts_behind_the_descriptor_gets_no_name(streams, tmp_path):
    out, _, written = streams
    fd = output._names.files[0].fileno()
    log, other = os.dup(fd), os.open(tmp_path / "own", os.O_WRONLY | os.O_CREAT)
    output.write_as("f")
    os.dup2(other, fd)
    print("x" * 2 * output.REPEAT_BYTES, file=out)
    print("captured", file=out)
    output.write_as("g")
    os.dup2(log, fd)
    print("logged", file=out)
    os.close(log)
    os.close(other)
    assert (tmp_path / "own").read_bytes() == b"x" * 2 * output.REPEAT_BYTES + b"\ncaptured\n"
    assert written() == G + b"logged\n"


def test_a_disk_that_is_full_loses_the_name_with_the_text_and_says_so():
    fd = os.open("/dev/full", os.O_WRONLY)
    file = output.LogFile(fd, "w", closefd=False)
    file.come_home()
    old, output._names.mark = output._names.mark, F
    try:
        assert file.write(b"lost") == 4
        assert file.dropped == 4 and file.marked == b""
    finally:
        output._names.mark = old
        os.close(fd)


def test_names_are_short_and_of_one_line_and_stay_text():
    assert mark("a\x1b\nb") == mark("a b")
    long = mark("é" * MAX_NAME)
    assert without(long + b"text") == b"text"
    assert Lines().take(long + b"text\n")[0][0] == "é" * (MAX_NAME // 2)


@pytest.mark.parametrize("seed", range(100))
def test_however_a_file_is_cut_into_pieces_the_lines_and_their_names_are_the_same(seed):
    rng = random.Random(seed)
    parts = [F, G, NOBODY, b"text", b"\n", b"two\nlines\n", "ünï".encode(), b"\x1b[31mred\x1b[0m", b"\x1b"]
    data = b"".join(rng.choices(parts, k=60)) + b"\n"
    whole = [(name, line) for name, lines in Lines().take(data) for line in lines]
    lines, unmarked, found, text, at = Lines(), Unmarked(), [], b"", 0
    while at < len(data):
        piece = data[at : at + rng.randint(1, 9)]
        at += len(piece)
        found += [(name, line) for name, run in lines.take(piece) for line in run]
        text += unmarked.take(piece)
    assert found == whole
    assert text + unmarked.rest() == without(data)
    assert "".join(line for _, line in whole).encode() == without(data).replace(b"\n", b"")


def test_of_a_line_with_several_states_the_last_is_shown_and_one_that_was_wiped_out_is_not():
    lines = Lines()
    assert lines.take(b"0%\r50%\r100%\nnext\r\n\rdone\n") == [("", ["100%", "next", "done"])]
    assert lines.take(b"\r50%\r      \r\n") == []
    assert lines.take(b"\r50%\r      \rafter\n") == [("", ["after"])]


def test_text_without_an_end_of_line_can_be_shown_and_its_end_is_no_line_of_its_own():
    lines = Lines()
    assert lines.take(F + b"\r10%\r20%") == []
    assert lines.rest() == [("f", ["20%"])]
    assert lines.take(b"\r30%\n\n") == [("f", ["30%", ""])]
    assert lines.take(b"dots") == [] and lines.rest() == [("f", ["dots"])]
    assert lines.take(b"\nnext\n") == [("f", ["next"])]
    assert lines.take(NOBODY) == [] and lines.rest() == []


def test_a_line_without_an_end_is_cut_where_no_mark_is():
    lines = Lines()
    data = b"x" * (MAX_LINE - 3) + F + b"y\n"
    cut = MAX_LINE + 2
    shown = lines.take(data[:cut]) + lines.take(data[cut:])
    assert shown == [("", ["x" * (MAX_LINE - 3)]), ("f", ["y"])]


def test_after_output_that_was_not_seen_nobody_is_named():
    lines = Lines()
    lines.take(F + b"one\n")
    lines.skip(b"missing\n")
    assert lines.take(b"two\n") == [("", ["missing", "two"])]
