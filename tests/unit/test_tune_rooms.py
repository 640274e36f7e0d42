"""Which rooms an experiment asks for, keeps and gives back."""

from __future__ import annotations

from collections import Counter

from hpc.tune.rooms import Rooms


def adjusted(rooms, soon=0, may_come=None, **wanted):
    return list(rooms.adjust(Counter(wanted), 8, may_come, soon))


def running(shape="a"):
    """One trial runs, one waits, for which a room is asked for."""
    rooms = Rooms()
    first = rooms.ask(shape)
    rooms.got(first)
    rooms.take(shape, "t0")
    assert adjusted(rooms, a=1) == [(2, True)]
    return rooms, first


def test_a_room_that_no_trial_waits_for_any_more_is_not_waited_for():
    rooms, first = running()
    rooms.leave(first)
    rooms.take("a", "t1")
    assert adjusted(rooms) == [(2, False)]


def test_a_room_comes_though_trials_are_shorter_than_it_takes():
    rooms, first = running()
    rooms.leave(first)
    rooms.take("a", "t1")  # the trial that waited is here now, and the next one is soon to come
    assert adjusted(rooms, soon=2) == []
    assert adjusted(rooms, soon=2, a=1) == []
    assert rooms.got(2) and rooms.take("a", "t2") == 2


def test_no_more_rooms_are_waited_for_than_there_were_trials_at_once():
    rooms, first = running()
    rooms.leave(first)
    rooms.take("a", "t1")
    assert adjusted(rooms, soon=1) == [(2, False)]


def test_a_room_is_not_waited_for_where_a_trial_waits_for_another_shape():
    rooms, _ = running()
    assert adjusted(rooms, soon=9, b=1) == [(2, False), (3, True)]
