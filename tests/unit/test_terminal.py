"""Lines of workers on a terminal and elsewhere: colours, prefixes, the driver's own node."""

import io
import sys

import pytest

from hpc.core.wire import LogLines
from hpc.state.terminal import COLORS, CYAN, GREEN, RESET, Looks, Terminal, wanted_looks


class Tty(io.StringIO):
    def isatty(self):
        return True


class Closed(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


@pytest.fixture
def seen(monkeypatch):
    """What is shown of lines, on a terminal or in a file."""

    def run(*messages, how=None, stream=None):
        stream = stream if stream is not None else Tty()
        monkeypatch.setattr(sys, "stdout", stream)
        terminal = Terminal(1, how or Looks())
        for pid, node, line in messages:
            terminal.show(LogLines(node, pid, "f", [line], False))
        terminal.finish()
        return stream.getvalue().splitlines()

    return run


def test_a_prefix_has_a_color_on_a_terminal_alone(seen):
    assert seen((7, 1, "a")) == [f"{CYAN}(f pid=7){RESET} a"]
    assert seen((7, 1, "a"), stream=io.StringIO()) == ["(f pid=7) a"]
    assert seen((7, 2, "a"), how=Looks(color="0")) == ["(f pid=7, node=2) a"]


def test_processes_can_have_colors_of_their_own(seen):
    shown = seen((6, 1, "a"), (7, 1, "b"), how=Looks(color="1"))
    assert shown == [f"{COLORS[0]}(f pid=6){RESET} a", f"{COLORS[1]}(f pid=7){RESET} b"]


def test_a_number_of_equal_lines_is_told_apart_from_their_text(seen):
    shown = seen((1, 1, "a"), (2, 1, "a"), (3, 1, "a"))
    assert shown[1].startswith(f"{CYAN}(f pid=3){RESET} a{GREEN} [repeated 2x across cluster]")
    assert shown[1].endswith(RESET)


def test_a_color_ends_with_its_line_and_other_sequences_stay_as_they_are(seen):
    lines = ["\x1b[1;31mred", "\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[m", "\x1b[2Kwiped", "\x1b[31ma\x1b[0mb\x1b[32mc"]
    shown = seen(*((7, 1, line) for line in lines), how=Looks(prefix=False, fold=False))
    assert shown == [lines[0] + RESET, *lines[1:4], lines[4] + RESET]


def test_a_driver_whose_output_nobody_reads_goes_on(seen):
    assert seen((7, 1, "a"), stream=Closed()) == []


def test_the_thread_that_shows_what_was_held_back_ends_with_the_session(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    terminal = Terminal(1, Looks(window_s=1000.0))
    for pid in (1, 2):
        terminal.show(LogLines(1, pid, "f", ["a"], False))
    thread = terminal._timer
    assert thread is not None and thread.daemon
    terminal.finish()
    thread.join(10.0)
    assert not thread.is_alive() and sys.stdout.getvalue() == "(f pid=1) a\n(f pid=2) a\n"


def test_records_of_json_are_neither_folded_nor_named_and_text_is_folded():
    assert wanted_looks(None, {"encoding": "JSON"}) == Looks(fold=False, prefix=False)
    assert wanted_looks(None, {"encoding": "TEXT"}) == Looks(prefix=False)
    assert wanted_looks(False) is None
