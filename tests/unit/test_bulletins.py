"""What libraries tell of their runs: what a process sends and when, what its raylet keeps, and what has no room."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.ids import Address
from hpc.core.owner.shell import bulletins as telling
from hpc.core.raylet import bulletins as board
from hpc.core.wire import MAX_BRIEF_BYTES, MAX_DETAIL_BYTES, Answer, Bulletin, BulletinQuery, Bulletins
from hpc.state import bulletins as bulletins_of_runs
from hpc.state.bulletins import (
    Brief,
    Curve,
    DataDetail,
    RankRow,
    ToldRun,
    TrainDetail,
    TuneDetail,
    brief_of,
    detail_of,
    fitted,
)

PROCESS = Address(1, 3)
HOSTILE = "<script>\ud800" + "x" * 10_000


class Source:
    """A run as its library tells of it."""

    def __init__(self) -> None:
        self.says: bytes | None = b"a"
        self.asked: list[tuple[str, Mapping[str, str]]] = []

    def brief(self) -> bytes | None:
        return self.says

    def detail(self) -> bytes | None:
        return self.says and b"detail of " + self.says

    def more(self, what: str, params: Mapping[str, str]) -> bytes | None:
        self.asked.append((what, params))
        return self.says


def process() -> tuple[telling.BulletinTelling, list[Bulletins]]:
    """What tells of a process's runs, and what was sent."""
    sent: list[Any] = []
    machine = SimpleNamespace(handlers={}, raylet=Address(1, 0), send=lambda dst, msg: sent.append(msg))
    return telling.BulletinTelling(machine), sent  # type: ignore[arg-type]


def test_a_run_is_told_when_it_has_changed_and_every_two_seconds_at_most():
    one, sent = process()
    source = Source()
    one.tick(0.0)
    number = one.begin(source)
    one.tick(0.1)
    assert sent.pop().told == [Bulletin(number, b"a", b"detail of a")] and not sent
    source.says = b"b"
    one.tick(1.0)
    assert not sent, "not two seconds later yet"
    one.tick(2.2)
    one.tick(4.5)
    assert sent.pop().told == [Bulletin(number, b"b")] and not sent, "and nothing where nothing has changed"
    one.tick(40.0)
    assert sent.pop().told == [Bulletin(number, b"b", b"detail of b")], "all of it now and then"
    source.says = b"c"
    one.end(number)
    one.tick(41.0)
    assert not sent
    one.tick(43.0)
    assert sent.pop().told == [Bulletin(number, b"c", b"detail of c", over=True)]
    one.tick(80.0)
    assert not sent and not one.answer(BulletinQuery(1, 3, number)).ok, "its source is forgotten"


def test_what_changes_just_now_is_told_later_and_a_process_that_leaves_tells_all():
    one, sent = process()
    first, second = Source(), Source()
    one.begin(first)
    one.begin(second)
    first.says = None
    assert not one.tell(0.0) and [told.number for told in sent.pop().told] == [2]
    one.last()
    assert all(told.number == 2 for message in sent for told in message.told)
    sent.clear()
    first.says = b"x"
    one.end(1)
    one.last()
    assert [told for message in sent for told in message.told if told.over] == [
        Bulletin(1, b"x", b"detail of x", over=True)
    ]


def test_runs_without_room_are_counted():
    one, sent = process()
    numbers = [one.begin(Source()) for _ in range(telling.MAX_OPEN + 3)]
    assert numbers[-3:] == [0, 0, 0]
    one.tick(0.0)
    assert sent[0].dropped == 3 and len(sent[0].told) == telling.MAX_OPEN
    for number in numbers[: telling.MAX_OVER + 5]:
        one.end(number)
    one.tick(10.0)
    assert not sent[1].dropped and sum(told.over for told in sent[1].told) == telling.MAX_OVER + 5
    for number in [one.begin(Source()) for _ in range(telling.MAX_OVER + 5)]:
        one.end(number)
    one.tick(20.0)
    assert sent[2].dropped == 5 and sum(told.over for told in sent[2].told) == telling.MAX_OVER


def test_who_looks_is_answered_by_the_run():
    one, _ = process()
    source = Source()
    number = one.begin(source)
    assert one.answer(BulletinQuery(7, 3, number, "trials", {"q": "x"})) == Answer(7, True, b"a")
    assert source.asked == [("trials", {"q": "x"})]
    source.says = None
    assert not one.answer(BulletinQuery(8, 3, number)).ok


def kept(most_over: int = board.MAX_OVER, most_bytes: int = board.MAX_OVER_BYTES) -> board.BulletinBoard:
    return board.BulletinBoard(1, [], lambda: 5.0)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6), st.booleans()), max_size=60))
def test_a_board_keeps_the_last_word_of_each_run_within_bounds(words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(board, "MAX_OVER", 5)
        patch.setattr(board, "MAX_OPEN", 3)
        found = kept()
        for at, (proc, number, over) in enumerate(words):
            found.on_told(Address(1, proc), Bulletins([Bulletin(number, b"%d" % at, b"", over)]))
        rows = found.rows(100)
    assert len([row for row in rows if row["over"]]) <= 5
    assert all(len(runs) <= 3 for runs in found.open.values())
    keys = [(row["process"], row["number"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert [row["over"] for row in rows] == sorted(row["over"] for row in rows), "those that go on stand first"


def test_a_process_that_is_gone_leaves_its_last_words():
    found = kept()
    found.on_told(PROCESS, Bulletins([Bulletin(1, b"a", b"all of a"), Bulletin(2, b"b", b"", True)], dropped=2))
    found.on_told(PROCESS, Bulletins([Bulletin(1, b"newer")]))
    found.process_gone(3, "killed by SIGKILL")
    first, second = found.rows(10)
    assert (first["brief"], first["over"], first["gone"]) == (b"newer", True, "killed by SIGKILL")
    assert (second["brief"], second["gone"], second["dropped"]) == (b"b", "", 2) and len(found.rows(1)) == 1
    found.on_query(Address(4, 2), BulletinQuery(9, 3, 1))
    found.on_query(Address(4, 2), BulletinQuery(10, 3, 7))
    (_, answer), (_, none) = found._outbox
    assert answer == Answer(9, True, b"all of a") and not none.ok and "no run 3/7" in none.why


def test_a_board_believes_no_strangers_and_takes_nothing_too_large():
    found = kept()
    found.on_told(Address(2, 3), Bulletins([Bulletin(1, b"a")]))
    found.on_told(PROCESS, Bulletins([Bulletin(1, b"a" * (MAX_BRIEF_BYTES + 1))]))
    found.on_told(PROCESS, Bulletins([Bulletin(2, b"a", b"a" * (MAX_DETAIL_BYTES + 1))]))
    assert not found.rows(10) and found.dropped == 2
    for number in range(200):
        found.on_told(PROCESS, Bulletins([Bulletin(number, b"a", b"x" * MAX_DETAIL_BYTES, True)]))
    assert sum(len(word.detail) for word in found.over.values()) <= board.MAX_OVER_BYTES and found.dropped > 100


class Client:
    """A client that has nothing but what tells of runs."""

    lost = ""

    def __init__(self) -> None:
        self.bulletins, self.sent = process()
        self.telling = SimpleNamespace(bulletins=self.bulletins)

    def step(self, do: Any) -> Any:
        return do()


def told(detail: Any = TrainDetail, why: str = "") -> tuple[ToldRun, Client]:
    client = Client()
    run = ToldRun(client, lambda: Brief("train", HOSTILE, "RUNNING", why), detail)  # type: ignore[arg-type]
    return run, client


def test_texts_of_users_are_cut_and_made_sendable():
    run, client = told(lambda: TrainDetail(path=HOSTILE, curves=[Curve(HOSTILE, [1e400], [float("nan")])]))
    client.bulletins.tick(0.0)
    (bulletin,) = client.sent[0].told
    brief, detail = brief_of(bulletin.brief), detail_of(bulletin.detail)
    assert brief is not None and brief.name.startswith("<script>?xxx") and len(bulletin.brief) < MAX_BRIEF_BYTES
    assert isinstance(detail, TrainDetail) and detail.curves[0].xs == [float("inf")] and len(detail.path) == 4000
    run.end()
    run.end()


def test_a_library_that_breaks_off_says_so_and_ends_nothing():
    def broken() -> Any:
        raise ZeroDivisionError("no numbers")

    run, client = told(broken)
    client.bulletins.tick(0.0)
    assert client.sent[0].told[0].detail == b""
    run._brief = broken
    client.bulletins.tick(3.0)
    brief = brief_of(client.sent[1].told[0].brief)
    assert brief is not None and "ZeroDivisionError('no numbers')" in brief.why

    def changing() -> Any:
        raise RuntimeError("dictionary changed size during iteration")

    run._brief = changing
    client.bulletins.tick(6.0)
    assert len(client.sent) == 2, "it is asked again"


def test_a_detail_has_room_and_keeps_what_stands_first():
    ranks = [RankRow(rank, "1", "h" * 30, "", "RUNNING", doing="x" * 100) for rank in range(1000)]
    data = fitted(TrainDetail(ranks=ranks, all_ranks=1000, curves=[Curve("loss", [1.0], [2.0])]))
    found = detail_of(data)
    assert isinstance(found, TrainDetail) and len(data) <= MAX_DETAIL_BYTES
    assert 100 < len(found.ranks) < 1000 and found.ranks[0].rank == 0 and found.all_ranks == 1000 and found.curves


def test_a_brief_of_large_letters_is_cut_until_a_raylet_takes_it():
    client = Client()
    why, numbers = "\N{SNOWMAN}" * 600, {f"{number}" + "\N{OLD ITALIC LETTER A}" * 79: 1.0 for number in range(6)}
    ToldRun(client, lambda: Brief("train", "t", "FAILED", why, numbers=numbers), TrainDetail)  # type: ignore[arg-type]
    client.bulletins.tick(0.0)
    (bulletin,) = client.sent[0].told
    brief = brief_of(bulletin.brief)
    assert len(bulletin.brief) <= MAX_BRIEF_BYTES and brief is not None
    assert brief.state == "FAILED" and set(brief.why) == {"\N{SNOWMAN}"} and len(brief.numbers) == 6


def test_a_brief_of_a_later_version_and_what_is_none_are_told_apart():
    later = msgspec.msgpack.encode(
        {**msgspec.to_builtins(Brief("data", "d", "RUNNING")), "colour": "red", "version": 9}
    )
    found = brief_of(later)
    assert found is not None and found.version == 9
    assert brief_of(b"no msgpack") is None and brief_of(msgspec.msgpack.encode({"kind": "x"})) is None
    assert detail_of(b"\xc1") is None and isinstance(detail_of(fitted(DataDetail(rows=1 << 80))), DataDetail | None)


def test_a_table_of_a_run_is_sent_in_parts():
    client = Client()
    rows = [{"rank": number, "host": "a" if number % 2 else "b"} for number in range(1000)]
    run = ToldRun(
        client, lambda: Brief("train", "t", "RUNNING"), TrainDetail, {"ranks": (("rank", "host"), lambda: rows)}
    )  # type: ignore[arg-type]
    found = msgspec.msgpack.decode(run.more("ranks", {"q": "host=a", "from": "10", "limit": "5"}) or b"")
    assert [row["rank"] for row in found["rows"]] == [21, 23, 25, 27, 29] and found["matching"] == 500
    assert msgspec.msgpack.decode(run.more("nothing", {}) or b"")["total"] == 0
    assert detail_of(run.more("", {}) or b"") == TrainDetail()


def test_numbers_of_users_that_are_none_of_pythons_end_no_session():
    client = Client()
    rows = [{"trial": 1, "iteration": np.int64(3), "loss": np.float64(0.5)}, {"trial": 2, "iteration": object()}]
    run = ToldRun(
        client, lambda: Brief("tune", "t", "RUNNING", numbers={"rows": np.int64(7), "best": np.float32(0.5)}),
        lambda: TuneDetail(best={"loss": np.float64(0.25)}), {"trials": (("trial", "iteration", "loss"), lambda: rows)},
    )  # type: ignore[arg-type]  # fmt: skip
    client.bulletins.tick(0.0)
    (bulletin,) = client.sent[0].told
    brief, detail = brief_of(bulletin.brief), detail_of(bulletin.detail)
    assert brief is not None and brief.numbers == {"rows": 7, "best": 0.5}
    assert isinstance(detail, TuneDetail) and detail.best == {"loss": 0.25}
    found = msgspec.msgpack.decode(run.more("trials", {}) or b"")
    assert found["rows"][0] == {"trial": 1, "iteration": 3, "loss": 0.5} and len(found["rows"]) == 2

    def broken() -> Any:
        raise ZeroDivisionError("no rows")

    run._rows = {"trials": (("trial",), broken)}
    assert run.more("trials", {}) is None


def test_the_end_of_a_run_and_who_looks_at_it_do_not_meet():
    client, runs, seen = Client(), list[ToldRun](), list[Any]()

    def ended() -> Brief:
        if runs:
            other = threading.Thread(
                target=lambda: seen.append((runs[0].brief(), runs[0].detail(), runs[0].more("", {})))
            )
            other.start()
            other.join(5.0)
        return Brief("data", "d", "FINISHED")

    run = ToldRun(client, ended, DataDetail)  # type: ignore[arg-type]
    runs.append(run)
    run.end()
    assert seen == [(None, None, None)], "it is asked later, and waited for by nobody"
    brief = brief_of(run.brief() or b"")
    assert brief is not None and brief.state == "FINISHED"


def test_what_runs_count_is_told_once_whoever_counts_meanwhile():
    class Growing(dict):
        """While it is read somebody adds to it."""

        def popitem(self) -> Any:
            found = super().popitem()
            if found[1] == 1.0:
                self["kind", "late"] = 2.0
            return found

    changed = Growing({("kind", "data"): 1.0})
    bulletins_of_runs._changed, before = changed, bulletins_of_runs._changed
    try:
        assert [sample.total for sample in bulletins_of_runs._samples()] == [1.0, 2.0] and not changed
    finally:
        bulletins_of_runs._changed = before
