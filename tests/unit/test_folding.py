"""Equal lines of many workers: the first at once, the others as a number, and none is lost."""

import random
import re

import pytest

from hpc.state.folding import MAX_KNOWN, MAX_LINE, Folder, Origin, Shown, kind_of

WINDOW_S = 5.0
ONE, TWO, THREE = (Origin("f", pid, 1) for pid in (1, 2, 3))


def lines(shown):
    return [(one.line, one.times) for one in shown]


def test_the_first_is_shown_at_once_and_those_of_others_as_their_number_when_the_window_is_over():
    folder = Folder(WINDOW_S)
    assert list(folder.take(ONE, ["loss of step 1"], 0.0)) == [Shown(ONE, "loss of step 1")]
    assert list(folder.take(TWO, ["loss of step 2"], 0.1)) == []
    assert list(folder.take(THREE, ["loss of step 3"], 0.2)) == []
    assert folder.wait_s(0.2) == pytest.approx(WINDOW_S - 0.2)
    assert list(folder.due(WINDOW_S - 0.1)) == []
    assert list(folder.due(WINDOW_S)) == [Shown(THREE, "loss of step 3", 2)]
    assert folder.wait_s(WINDOW_S) is None


def test_a_process_that_says_it_alone_is_not_folded_and_a_process_of_that_number_on_another_node_is_another():
    folder = Folder(WINDOW_S)
    assert lines(folder.take(ONE, ["a", "a", "a"], 0.0)) == [("a", 0)] * 3
    assert lines(folder.take(Origin("f", 1, 2), ["a"], 0.0)) == []
    assert lines(folder.take(ONE, ["a"], 0.0)) == []


def test_a_single_one_that_was_held_back_is_shown_as_it_came_and_the_next_is_a_first_again():
    folder = Folder(WINDOW_S)
    list(folder.take(ONE, ["a 1"], 0.0))
    assert lines(folder.take(TWO, ["a 2"], 0.0)) == []
    assert list(folder.due(WINDOW_S)) == [Shown(TWO, "a 2")]
    assert lines(folder.take(TWO, ["a 3"], WINDOW_S)) == [("a 3", 0)]


def test_what_was_folded_once_is_counted_on():
    folder = Folder(WINDOW_S)
    for origin in (ONE, TWO, THREE):
        list(folder.take(origin, ["a"], 0.0))
    assert lines(folder.due(5.0)) == [("a", 2)]
    assert lines(folder.take(ONE, ["a"], 6.0)) == []
    assert lines(folder.take(ONE, ["a"], 7.0)) == []
    assert lines(folder.rest()) == [("a", 2)]


def test_words_with_digits_do_not_tell_lines_apart_and_lines_of_nothing_else_are_not_folded():
    assert kind_of("step 12:  loss=0.5 at 0xffa1 now") == kind_of("step 9: loss=7 at 0x1 now") == "step at now"
    folder = Folder(WINDOW_S)
    for origin in (ONE, TWO):
        assert lines(folder.take(origin, ["1234", "", "   ", "x" * (MAX_LINE + 1)], 0.0)) == [
            ("1234", 0), ("", 0), ("   ", 0), ("x" * (MAX_LINE + 1), 0),
        ]  # fmt: skip


def test_lines_can_be_kept_from_folding_or_be_left_out():
    folder = Folder(WINDOW_S, allow=re.compile("keep"), skip=re.compile("drop|keep"))
    for origin in (ONE, TWO):
        assert lines(folder.take(origin, ["please drop", "please keep"], 0.0)) == [("please keep", 0)]
    assert lines(folder.rest()) == []


def test_a_flood_of_different_lines_takes_bounded_memory_and_what_was_counted_of_them_is_shown():
    folder = Folder(WINDOW_S)
    list(folder.take(ONE, ["first"], 0.0))
    list(folder.take(TWO, ["first", "first"], 0.0))
    flood = ["".join(random.Random(n).choices("abcdefgh", k=20)) for n in range(2 * MAX_KNOWN)]
    shown = list(folder.take(ONE, flood, 0.0))
    assert Shown(TWO, "first", 2) in shown
    assert len(folder._known) <= MAX_KNOWN and folder.pending == 0


@pytest.mark.parametrize("seed", range(50))
def test_nothing_is_lost_and_the_numbers_add_up(seed):
    rng = random.Random(seed)
    folder = Folder(rng.choice([0.0, 0.5, 5.0]))
    kinds = ["alpha", "beta", "gamma", "delta"][: rng.randint(1, 4)]
    said = dict.fromkeys(kinds, 0)
    seen = dict.fromkeys(kinds, 0)
    now = 0.0

    def see(shown):
        for one in shown:
            seen[kind_of(one.line)] += one.times or 1
            assert one.times != 1

    for number in range(200):
        now += rng.choice([0.0, 0.01, 1.0])
        batch = [f"{rng.choice(kinds)} {number}" for _ in range(rng.randint(1, 5))]
        for line in batch:
            said[kind_of(line)] += 1
        see(folder.take(Origin("f", rng.randint(1, 3), 1), batch, now))
        if rng.random() < 0.1:
            see(folder.due(now))
        assert sum(said.values()) == sum(seen.values()) + folder.pending
    see(folder.rest())
    assert said == seen and folder.pending == 0
