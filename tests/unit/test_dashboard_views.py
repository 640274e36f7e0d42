"""What the dashboard's pages are made of: rows that are chosen, tasks counted by name, points, pace, and their size."""

from __future__ import annotations

import hashlib
import re
import threading
import warnings
from pathlib import Path

import msgspec
import pytest

from hpc.core.events.kinds import KINDS, EventKind
from hpc.core.events.rows import EventRow
from hpc.dashboard import feed, views
from hpc.dashboard.asking import LONGEST_S, PACE, Asker, Known, Question, wait_s
from hpc.dashboard.pages import events, nodes
from hpc.dashboard.pages.registry import PAGES, QUESTIONS

STATIC = Path(feed.__file__).parent / "static"
#: What is vendored: its sum, and the file of its licence.
VENDORED = {
    "uPlot.js": ("19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f", "LICENSE-uPlot"),
    "uPlot.css": ("df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04", "LICENSE-uPlot"),
    "preact.js": ("72284e8e9079c87817145df1110f74e8a2aa040b2fc384922e18dfcb46fc1fd7", "LICENSE-htm"),
}
ROWS = [
    {"name": f"n{number % 3}", "size": number, "state": "OK" if number % 2 else "BAD", "why": ""}
    for number in range(10)
]
COLUMNS = ("name", "size", "state")


def listed(**given: str) -> dict:
    return views.listing(ROWS, COLUMNS, views.Params(given))


def test_all_rows_where_nothing_is_asked_for():
    found = listed()
    assert (found["matching"], found["total"], found["from"]) == (10, 10, 0)
    assert [row["size"] for row in found["rows"]] == list(range(10)) and set(found["rows"][0]) == set(COLUMNS)


@pytest.mark.parametrize(
    ("q", "sizes"),
    [
        ("state=bad", [0, 2, 4, 6, 8]), ("state!=BAD", [1, 3, 5, 7, 9]), ("n1", [1, 4, 7]), ("n1 state=ok", [1, 7]),
        ("nothing-like-it", []), ("size=3", [3]), ("=", []),
    ],
)  # fmt: skip
def test_a_filter_chooses_rows(q, sizes):
    found = listed(q=q)
    assert [row["size"] for row in found["rows"]] == sizes and found["matching"] == len(sizes)


def test_an_order_and_a_part():
    assert [row["size"] for row in listed(sort="-size", limit="3")["rows"]] == [9, 8, 7]
    assert [row["size"] for row in listed(sort="-size", limit="3", **{"from": "8"})["rows"]] == [1, 0]
    assert [row["name"] for row in listed(sort="name")["rows"]][:4] == ["n0"] * 4
    assert listed(sort="no_field", limit="x")["matching"] == 10
    assert listed(limit="100000000")["total"] == 10, "the number of rows is bounded"


def test_a_long_text_is_cut():
    assert len(views.short("x" * 1000)) == views.LONGEST and views.short("x") == "x"
    assert len(views.short(list(range(100)))) == 21


def test_tasks_are_counted_by_name_with_what_is_open_first():
    def row(name: str, state: str, run_ms: float = 0.0) -> dict:
        return {"name": name, "state": state, "start_time_ms": 1000.0, "end_time_ms": 1000.0 + run_ms}

    rows = [row("done", "FINISHED", 10.0 * n) for n in range(1, 6)] + [row("done", "FAILED", 500.0)]
    rows += [row("open", "RUNNING"), row("open", "PENDING_ARGS_AVAIL"), row("bad", "FAILED", 1.0)]
    first, second, third = views.tasks_by_name(rows)
    assert (first["name"], first["running"], first["waiting"], first["p50_s"]) == ("open", 1, 1, None)
    assert (second["name"], second["finished"], second["failed"]) == ("done", 5, 1)
    assert second["p50_s"] == pytest.approx(0.04) and second["most_s"] == pytest.approx(0.5)
    assert third["name"] == "bad" and len(views.tasks_by_name(rows, 2)) == 2


def test_a_question_that_is_dear_is_asked_seldom():
    def known(took_s: float) -> Known:
        return Known(None, 100.0, took_s, 1)

    question = Question(list, 2.0)
    assert wait_s(question, None, 100.0) == 0
    assert wait_s(question, known(0.001), 100.0) == 2.0
    assert wait_s(question, known(0.2), 101.0) == pytest.approx(0.2 * PACE - 1)
    assert wait_s(question, known(1e9), 100.0) == LONGEST_S


def test_a_question_that_hangs_keeps_nobody_from_leaving():
    asked, answer = threading.Event(), threading.Event()

    def hang() -> None:
        asked.set()
        answer.wait()

    asker = Asker({"hangs": Question(hang)}, lambda name, known: None)
    asker.want(["hangs"])
    asker.start()
    asked.wait()
    assert not asker.close(0.01)
    answer.set()
    assert asker.close()


def test_a_scheduler_that_is_slow_holds_up_no_other_question_and_no_end():
    slow, answer, others = threading.Event(), threading.Event(), threading.Semaphore(0)

    def jobs() -> int:
        warnings.warn("of the scheduler", stacklevel=1)
        slow.set()
        answer.wait()
        return 7

    def quick() -> int:
        warnings.warn("of the session", stacklevel=1)
        return 1

    questions = {"jobs": Question(jobs, 0.0, is_outside=True), "quick": Question(quick, 0.0)}
    told: list[str] = []
    asker = Asker(questions, lambda name, known: (told.append(name), others.release()))
    shown = warnings.showwarning
    asker.want(["jobs"])
    asker.start()
    assert slow.wait(10)
    asker.want(["quick"])
    for _ in range(3):
        assert others.acquire(timeout=10)
    assert "jobs" not in asker.known and asker.known["quick"].said == ("of the session",)
    assert asker.close(10), "nobody waits for the scheduler"
    answer.set()
    for thread in asker._others:
        thread.join(10)
    assert "jobs" not in told and (asker.known["jobs"].value, asker.known["jobs"].said) == (7, ("of the scheduler",))
    assert warnings.showwarning is shown


def test_what_is_asked_of_others_ends_no_dashboard():
    asker = Asker({"jobs": Question(broken, is_outside=True)}, lambda name, known: told.release(), lambda: None)
    told = threading.Semaphore(0)
    asker.want(["jobs"])
    asker.start()
    assert told.acquire(timeout=10) and asker.close(10)
    assert "refused" in asker.known["jobs"].error and not asker.ended


def broken() -> None:
    raise ConnectionRefusedError("refused")


def test_a_page_is_filtered_by_texts_with_signs():
    rows = [{"name": "a=1", "state": "RUNNING"}, {"name": "b!=2", "state": "RUNNING"}, {"name": "a", "state": "FAILED"}]
    found = {words: [row["name"] for row in views.matching(rows, words, ("name", "state"))] for words in FILTERS}
    assert found == FILTERS


#: The names of the rows that pass.
FILTERS = {
    "a=1": ["a=1"], "name=a=1": ["a=1"], "name!=a=1": ["b!=2", "a"], "name=b!=2": ["b!=2"], "b!=2": ["b!=2"],
    "state=running a": ["a=1"], "state!=running": ["a"],
}  # fmt: skip


def test_a_question_that_raises_is_told_to_whoever_wants_it():
    told, broken = threading.Event(), []
    asker = Asker({"bad": Question(lambda: 1 / 0)}, lambda name, known: told.set(), lambda: broken.append(1))
    asker.want(["bad"])
    asker.start()
    told.wait()
    assert asker.close() and broken and "ZeroDivisionError" in asker.known["bad"].error


def test_an_event_is_no_larger_than_it_may_be_and_says_what_is_cut():
    whole = {"data": {"rows": [{"text": "ü" * 300, "number": n} for n in range(500)], "total": 500}}
    encoded = feed.fitting(whole)
    found = msgspec.json.decode(encoded)["data"]
    assert len(encoded) <= feed.MOST_BYTES and found["cut"] + len(found["rows"]) == 500 and len(found["rows"]) > 50


def test_rows_stay_beside_what_is_larger_than_an_event():
    cells = [[str(number), 57] for number in range(10_000)]
    rows = [{"node_id": str(number), "why": "w" * 200} for number in range(500)]
    found = msgspec.json.decode(feed.fitting({"page": "nodes", "data": {"cells": cells, "rows": rows}}))["data"]
    assert len(found["cells"]) == 10_000 and 50 < len(found["rows"]) < 100
    assert found["cut"] == 500 - len(found["rows"])


def test_what_a_node_has_not_told_is_no_zero():
    told = {
        "node_id": "1", "node_name": "n", "state": "ALIVE", "state_message": "", "is_suspect": False, "workers": 0,
        "waiting": 0, "resources_total": {"CPU": 2.0}, "resources_available": {"CPU": 1.0}, "store_spilled_bytes": 0,
        "memory_used_bytes": 0, "memory_limit_bytes": 0, "store_used_bytes": 0, "store_capacity_bytes": 8,
    }  # fmt: skip
    found = nodes.view({"overview": {"nodes": [told]}}, views.Params({"heat": "memory"}))
    (row,) = found["rows"]
    assert row["memory_used_bytes"] is None and row["memory_limit_bytes"] is None and found["cells"] == [["1", -3]]
    assert (row["store_used_bytes"], row["store_capacity_bytes"], row["cpu"]) == (0, 8, 1.0)


def test_every_page_has_its_module_its_key_and_its_questions():
    assert len({page.name for page in PAGES}) == len({page.key for page in PAGES}) == len(PAGES)
    assert {path.stem for path in (STATIC / "pages").glob("*.js")} == {page.name for page in PAGES}
    assert {name for page in PAGES for name in page.needs} <= {*QUESTIONS, "jobs"}, (
        "the command knows how to ask for jobs"
    )
    taken = {"/", "?", "j", "k", "t"}
    assert not taken & {page.key for page in PAGES}


def test_what_is_vendored_is_what_its_makers_have_released():
    files = {path.name for path in (STATIC / "vendor").iterdir()}
    assert files == {*VENDORED, *(licence for _, licence in VENDORED.values()), "LICENSE-preact"}
    for name, (digest, licence) in VENDORED.items():
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == digest, name
        assert (STATIC / "vendor" / licence).stat().st_size > 900


def test_the_pages_are_light_and_ask_nobody_else():
    files = [path for path in STATIC.rglob("*") if path.is_file()]
    served = [path for path in files if not path.name.startswith("LICENSE")]
    assert sum(path.stat().st_size for path in served) <= 200_000
    for path in served:
        if path.parent.name != "vendor":
            urls = re.findall(r"https?://[^\s\"'`]+", path.read_text())
            assert all(url == "http://www.w3.org/2000/svg" for url in urls), f"{path.name}: {urls}"
            assert "innerHTML" not in path.read_text(), f"{path.name}: text is set as text"


def test_events_have_links_to_what_they_happened_to():
    def row(number: int, kind: EventKind, entity: str = "", node: str = "2") -> EventRow:
        return EventRow(number, 5.0 * number, KINDS[kind].severity, kind, KINDS[kind].source, "why", node, entity)

    rows = [row(1, "NODE_JOINED"), row(2, "WORKER_DIED", "2.7"), row(3, "ACTOR_DIED", "ab"), row(4, "TIME_SET", "", "")]
    found = events.view({"events": events.Seen(rows, 3)}, views.Params({"id": "2", "q": "severity=error"}))
    assert [one["number"] for one in found["rows"]] == [3, 2] and (found["matching"], found["missing"]) == (2, 3)
    assert found["severities"] == {"INFO": 2, "ERROR": 2} and found["kinds"]["WORKER_DIED"] == 1
    (one,) = found["ones"]
    assert one["time_ms"] == 10_000.0 and {(page, *params.values()) for _, page, params in one["links"]} == {
        ("logs", "2.7"), ("workers", "2.7"), ("nodes", "2"),
    }  # fmt: skip
    known = {page.name for page in PAGES}
    for kind in KINDS:
        assert {page for _, page, _ in events.links(row(1, kind, "x"))} <= known
