"""What happens in a session as the head keeps it: folded, numbered, bounded, and known to the head that comes after."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.events.kinds import KINDS, EventKind, Severity
from hpc.core.events.notes import BURST, MAX_TEXT, WINDOW_S, Folding, Note
from hpc.core.events.rows import EventRow, unpack_events
from hpc.core.head import events as head_events
from hpc.core.head.endings import Endings
from hpc.core.head.events import KIND_BURST, MAX_NOTES, Events
from hpc.core.head.journal import MAGIC, PartSet, decode, encode
from hpc.core.head.machine import HeadMachine
from hpc.core.ids import HEAD, Address
from hpc.core.raylet.bulletins import BulletinBoard
from hpc.core.raylet.events import MAX_WAITING, QUIET_S, NodeEvents
from hpc.core.raylet.history import History
from hpc.core.raylet.spill import Spiller
from hpc.core.raylet.tables import Lease, Proc
from hpc.core.resources import UNIT, NodeResources
from hpc.core.wire import (
    WIRE_VERSION,
    ActorsEnded,
    Bulletin,
    Bulletins,
    EventQuery,
    Happened,
    HistoryQuery,
    NodeInfo,
    NodeRegister,
    PgCreate,
    Ran,
)

RAYLET = Address(3, 0)


def ring(now: float = 100.0) -> tuple[Events, list[bytes]]:
    answers: list[bytes] = []
    made = Events(lambda src, req, data: answers.append(data), now)
    made.wall_ahead_s = 1000.0
    return made, answers


def test_each_kind_has_a_severity_and_those_that_are_bad_say_what_to_do():
    assert set(KINDS) == set(get_args(EventKind)) and {one.severity for one in KINDS.values()} == set(
        get_args(Severity)
    )
    quiet = {"VALUE_LOST"}  # its text says why, and what to do
    bad = {kind for kind, about in KINDS.items() if about.severity == "ERROR"}
    assert not {kind for kind in bad - quiet if not KINDS[kind].advice}


# ---------------------------------------------------------------- folding


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 3), st.integers(1, 5)), max_size=80), st.integers(1, 4))
def test_folding_tells_of_everything_once_and_of_storms_shortly(steps, burst):
    folding, now, told, given_in = Folding(burst), 0.0, [], 0
    for key, pause_s, count in steps:
        now += pause_s
        told += [(now, note) for note in folding.due(now)]
        given_in += count
        note = folding.take(key, Note("WORKER_DIED", key, count=count), now)
        told += [(now, note)] if note is not None else []
    told += [(now, note) for note in folding.rest(now)]
    assert sum(note.count for _, note in told) == given_in
    for key in "ab":  # of one key there are so many in each stretch of time, and one that was folded
        times = [at for at, note in told if note.text == key]
        assert all(sum(0 <= at - first < WINDOW_S for at in times) <= 2 * burst + 2 for first in times)


def test_ten_thousand_at_once_are_eleven_notes():
    folding = Folding()
    told = [note for at in range(10_000) if (note := folding.take("k", Note("WORKER_DIED", str(at)), 5.0)) is not None]
    assert len(told) == BURST and folding.due(5.0 + WINDOW_S / 2) == []
    (rest,) = folding.due(5.0 + WINDOW_S)
    assert (rest.text, rest.count, rest.ago_s) == ("9999", 10_000 - BURST, WINDOW_S)
    assert folding.due(5.0 + 2 * WINDOW_S) == [] and not folding.waits


def test_thousands_of_keys_are_looked_at_once_a_window_is_over():
    class Looked(dict):
        times = 0

        def items(self):
            self.times += 1
            return super().items()

    folding = Folding(burst=1)
    windows = folding._windows = Looked()
    for key in range(3000):
        for _ in range(2):
            folding.take(key, Note("NODE_JOINED", str(key)), key / 1000)
    for step in range(100):
        assert folding.due(3.0 + step * (WINDOW_S - 3.0) / 100) == []
    assert windows.times == 0
    assert len(folding.due(WINDOW_S + 1)) == 1001 and windows.times == 1
    assert len(folding.due(WINDOW_S + 3)) == 1999 and folding.due(WINDOW_S + 4) == [] and windows.times == 2


# ---------------------------------------------------------------- the ring


def test_numbers_rise_the_oldest_go_and_what_goes_is_counted(monkeypatch):
    monkeypatch.setattr(head_events, "MAX_EVENTS", 50)
    events, answers = ring()
    for step in range(130):
        events.now = 100.0 + 10 * step
        events.note("NODE_JOINED", f"node {step}", step + 1)
    events.on_query(RAYLET, EventQuery(1, limit=1000))
    page = unpack_events(answers[0])
    assert [row.number for row in page.rows] == list(range(81, 131)) and (page.last, page.dropped) == (130, 80)
    assert page.rows[0].time_s == 1100.0 + 800 and page.rows[0].severity == "INFO" and page.rows[0].node_id == "81"
    assert events.page(-1, 3).rows == page.rows[-3:]


@given(st.integers(0, 40), st.integers(1, 9), st.integers(0, 45))
def test_a_cursor_brings_each_event_once(many, limit, since):
    events, _ = ring()
    for step in range(many):
        events.now += 11
        events.note("DRIVER_LEFT", str(step))
    found: list[EventRow] = []
    at = since
    for _ in range(60):
        page = events.page(at, limit)
        assert len(page.rows) <= limit
        found += page.rows
        if not page.more:
            break
        at = page.rows[-1].number
    assert [row.number for row in found] == list(range(since + 1, many + 1))


def test_a_storm_on_many_nodes_is_few_rows_and_all_of_it_is_counted():
    events, _ = ring()
    for node in range(1, 1001):
        notes = [Note("WORKER_DIED", f"{node}.{at}", node) for at in range(BURST)] + [
            Note("WORKER_DIED", "x", node, count=90)
        ]
        events.on_happened(Address(node, 0), Happened(notes))
    for _ in range(5):
        events.now += WINDOW_S
        events.tick()
    rows = events.page(0, 10_000).rows
    assert len(rows) <= KIND_BURST + 6 and sum(row.count for row in rows) == 1000 * (BURST + 90)
    assert rows[-1].count > 1 and f"{rows[-1].count} of these, the last: " in rows[-1].text


def test_what_nobody_could_have_said_is_counted_and_not_kept():
    events, _ = ring()
    events.on_happened(RAYLET, Happened([Note("NO_SUCH_KIND", "x")], lost=2))
    long = Note("DISK_FAILED", "x" * 5000, 3, "e" * 500, ago_s=7.0)
    events.on_happened(RAYLET, Happened([long] * (MAX_NOTES + 5)))
    rows = events.page(0, 100).rows
    assert events.lost == 1 + 2 + 5 and events.dropped == events.lost and len(rows) == BURST
    assert len(rows[0].text) == MAX_TEXT and len(rows[0].entity_id) == 100 and rows[0].time_s == 1093.0


def test_numbers_that_cannot_be_do_no_harm():
    events, answers = ring()
    most, least = (1 << 64) - 1, -(1 << 63)
    for count, ago_s in ((most, float("nan")), (least, -1e300), (0, float("inf"))):
        events.on_happened(RAYLET, Happened([Note("WORKER_DIED", "x", least, "", ago_s, count)] * 20, most))
        events.on_happened(RAYLET, Happened([], least))
    events.now += WINDOW_S
    events.tick()
    events.now += WINDOW_S
    events.tick()
    assert decode(MAGIC + b"".join(encode(PartSet("events", key, row)) for key, row in events.changes()))[0]
    events.on_query(RAYLET, EventQuery(1))
    page = unpack_events(answers[0])
    assert page.dropped > 0 and all(row.count >= 1 and 0 <= row.time_s < 1e9 for row in page.rows)
    found = History(3, [])
    for count in (most, least):
        found.on_ran(Address(3, 1), Ran(b"x", count, count))
        found.on_actors_ended(Address(3, 1), ActorsEnded([], count))
    assert found.events >= 0 and msgspec.msgpack.encode([found.page(HistoryQuery(1)), found.actor_rows(9)])
    board = BulletinBoard(3, [], lambda: 0.0)
    for _ in range(2):
        board.on_told(Address(3, 1), Bulletins([Bulletin(1, b"a")], most))
    assert msgspec.msgpack.encode(board.rows(9))


def test_the_next_head_goes_on_with_the_numbers():
    events, _ = ring()
    for step in range(30):
        events.now += 11
        events.note("NODE_LOST", f"node {step}", step)
    records = MAGIC + b"".join(encode(PartSet("events", key, row)) for key, row in events.changes())
    ops, _ = decode(records)
    again, _ = ring()
    for op in ops:
        assert isinstance(op, PartSet)
        again.load(op.key, op.data)
    assert list(again.rows()) == list(events.rows()) and not list(events.changes())
    again.note("HEAD_RESTARTED", "another")
    assert again.page(-1, 1).rows[0].number == 31


# ---------------------------------------------------------------- the head


def node(number: int, *, gateway: bool = False) -> NodeInfo:
    return NodeInfo(number, f"host{number}", "", "", {"CPU": UNIT}, {}, gateway, 1, "")


def kinds(head: HeadMachine) -> list[str]:
    return [row.kind for row in head.events.page(0, 1000).rows]


def test_the_head_tells_of_nodes_groups_and_time():
    head = HeadMachine(suspect_s=2.0, dead_s=5.0, now=0.0)
    for number in (1, 2):
        head.handle(Address(number, 0), [NodeRegister(node(number), WIRE_VERSION)], 0.0)
        head.handle(Address(number, 0), [NodeRegister(node(number), WIRE_VERSION)], 0.0)  # said again
    head.handle(Address(3, 0), [NodeRegister(node(3, gateway=True), WIRE_VERSION)], 0.0)
    assert kinds(head) == ["NODE_JOINED"] * 2
    impossible = PgCreate(1, b"g" * 20, "mine", "", "PACK", [{"CPU": 5 * UNIT}], [], False, Address(1, 1), [])
    head.handle(Address(1, 1), [impossible], 0.1)
    head.tick(0.5)
    head.learn_end(3600.5, now=1.0)
    head.tick(1.0)
    head.learn_end(3600.4, now=1.1)  # the same limit
    head.learn_end(3600.4, [2], "it is taken away", now=1.2)
    head.tick(1.2)
    head.lose_node(2, "its supervisor has ended")
    head.learn_end(60.0, None, "the nodes are taken for another job", now=2.0, taken=True)
    head.tick(2.0)
    found = kinds(head)[2:]
    assert found == ["GROUP_UNPLACED", "TIME_SET", "NODE_DRAINS", "NODE_LEFT", "TIME_SET", "NODES_TAKEN"]
    rows = head.events.page(0, 100).rows
    assert rows[2].entity_id == (b"g" * 20).hex() and "'mine'" in rows[2].text and rows[5].node_id == "2"


def test_a_head_that_is_told_the_old_news_tells_it_once():
    head = HeadMachine(now=0.0)
    head.learn_end(3000.0, now=1.0)
    head.learn_end(3000.0, None, "the time limit comes near", now=1.0)
    head.tick(1.0)
    rows = list(head.events.rows())
    other = HeadMachine(now=5.0)
    for key, row in rows:
        other.events.load(key, row)
    other.begin(2)
    other.learn_end(3000.0, None, "the time limit comes near", now=5.0)
    other.tick(5.0)
    assert kinds(other) == ["TIME_SET", "SESSION_DRAINS", "HEAD_RESTARTED"]


def test_a_limit_that_is_moved_is_told_although_the_words_are_the_same():
    head = HeadMachine(now=0.0)
    for now in (0.0, 3600.0, 7200.0):
        head.learn_end(now + 7200.0, now=now)
        head.tick(now)
    texts = [row.text for row in head.events.page(0, 10).rows if row.kind == "TIME_SET"]
    assert texts == ["the scheduler ends the session in 2.0 h"] * 3
    other = HeadMachine(now=8000.0)
    other.begin(2)
    other.learn_end(9000.0, now=8000.0)  # the first one that anybody hears of
    other.tick(8000.0)
    assert kinds(other) == ["HEAD_RESTARTED", "TIME_SET"]


def test_warnings_before_the_end_come_once_and_not_too_late():
    endings = Endings()
    endings.learn(5000.0)
    told = [(at, kind) for at in range(0, 5000, 10) for kind, _, _ in endings.news(float(at))]
    assert told == [(0, "TIME_SET"), (1400, "TIME_SHORT"), (4400, "TIME_SHORT"), (4940, "TIME_SHORT")]
    late = Endings()
    late.learn(5000.0)
    late.news(0.0)
    assert [kind for kind, _, _ in late.news(4999.0)] == [], "what was slept through is not said"
    late.learn(None)
    assert [words for _, words, _ in late.news(4999.0)] == ["nothing limits the session's time any more"]


# ---------------------------------------------------------------- a raylet


def raylet() -> tuple[NodeEvents, list]:
    outbox: list = []
    return NodeEvents(3, outbox, Spiller(1 << 30), 10.0), outbox


def worker(**more) -> Proc:
    return Proc(7, "worker", "leased", pid=4711, **more)


@pytest.mark.parametrize(
    ("proc", "cause", "kind"),
    [
        (worker(), "crash", "WORKER_DIED"),
        (worker(), "oom", "WORKER_OUT_OF_MEMORY"),
        (worker(exit_why="its raylet cut the connection"), "crash", "WORKER_DIED"),
        (worker(retired=True), "crash", ""),
        (worker(doomed=True, exit_cause="killed"), "crash", ""),
        (worker(exit_cause="exit"), "crash", ""),
        (worker(exit_cause="group_removed"), "crash", ""),
        (worker(doomed=True), "oom", "WORKER_OUT_OF_MEMORY"),
    ],
)
def test_only_ends_that_nobody_wanted_are_told(proc, cause, kind):
    events, outbox = raylet()
    events.worker_gone(proc, "its process (pid 4711) was killed by SIGKILL", cause)
    events.tick(10.0, True)
    told = [note for _, msg in outbox for note in msg.notes]
    assert [note.name for note in told] == ([kind] if kind else [])
    if kind:
        assert told[0].entity == "3.7" and told[0].node == 3 and (proc.exit_why or "SIGKILL") in told[0].text


def test_a_node_waits_until_it_is_known_and_a_storm_is_folded():
    events, outbox = raylet()
    for _ in range(500):
        events.worker_gone(worker(), "killed", "crash")
    events.tick(10.0, False)
    assert not outbox
    events.tick(10.5, True)
    events.tick(10.0 + WINDOW_S, True)
    assert [(dst, len(msg.notes)) for dst, msg in outbox] == [(HEAD, BURST), (HEAD, 1)]
    assert outbox[1][1].notes[0].count == 500 - BURST
    for at in range(3 * MAX_WAITING):
        events.note("DISK_FAILED" if at % 2 else "ENVIRONMENT_FAILED", str(at))
        events.now += WINDOW_S
        events.tick(events.now, False)
    events.tick(events.now, True)
    msg = outbox[-1][1]
    assert len(msg.notes) == MAX_WAITING and msg.lost == 2 * MAX_WAITING


def test_spilling_and_a_disk_that_fails_are_told_now_and_then():
    events, outbox = raylet()
    spiller = events._spiller
    for step in range(5):
        spiller.written_files += 1
        events.tick(10.0 + step, True)
    spiller.errors, spiller.problem = 1, "no space left"
    events.tick(20.0, True)
    events.tick(30.0 + QUIET_S, True)
    spiller.written_files += 1
    events.tick(31.0 + QUIET_S, True)
    assert [note.name for _, msg in outbox for note in msg.notes] == ["SPILL_BEGAN", "DISK_FAILED", "SPILL_BEGAN"]


def test_an_owner_is_lost_to_those_who_go_on():
    from unit.test_object_store import NoBytes

    from hpc.core.raylet.machine import RayletMachine
    from hpc.core.store.layout import Layout
    from hpc.core.wire import BorrowAdd, ProcessGone

    totals = {"CPU": 4 * UNIT}
    machine = RayletMachine(node(2), NodeResources(totals), Layout(1 << 20), NoBytes())
    owner, driver = Address(5, 9), machine.driver_joined(1, b"job")
    mine, other = (machine.leasing.new_proc("worker") for _ in range(2))
    pool = machine.leasing.resources
    grant = pool.acquire({})
    assert grant is not None
    mine.lease = Lease(1, owner, 1, grant, False, (), owner, pool)
    mine.driver, other.driver = owner, Address(2, driver.proc)
    ident = bytes(4) + (5).to_bytes(4, "big") + (9).to_bytes(4, "big")
    machine.handle(Address(2, mine.proc), [BorrowAdd([ident + bytes(8)], 1)])
    machine.handle(Address(2, other.proc), [BorrowAdd([ident + (n).to_bytes(8, "big") for n in (1, 2)], 1)])
    machine.handle(HEAD, [ProcessGone(owner, "it was killed")])
    machine.registered = True
    machine.tick(1.0)
    told = [note for _, msg in machine.outbox if isinstance(msg, Happened) for note in msg.notes]
    assert [note.name for note in told] == ["DRIVER_JOINED", "OWNER_LOST"]
    assert "2 objects" in told[1].text and told[1].entity == "5.9", "what its own worker held does not count"


def test_rows_go_through_msgpack():
    row = EventRow(1, 2.0, "INFO", "NODE_JOINED", "GCS", "x")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=EventRow) == row
