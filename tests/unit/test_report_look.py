"""A look at a session for its report: it ends in its time, and of a log no more is read than is shown."""

from __future__ import annotations

from typing import Any

import pytest

from hpc.report import look
from hpc.report.collect import LETTERS, Collector
from hpc.state import events, gather, history, metrics, worker_logs

NODE = {"node": 1, "host": "h", "alive": True, "gateway": False, "why": "", "totals": {"CPU": 40_000}, "free": {}}


def test_a_session_with_a_silent_node_takes_no_more_than_the_time_of_the_look(monkeypatch):
    now_s, asked = 100.0, []

    def wait(timeout_s: float) -> gather.Gathered:
        nonlocal now_s
        asked.append(timeout_s)
        now_s += timeout_s
        return gather.Gathered(silent=["1.0"])

    monkeypatch.setattr(look.time, "monotonic", lambda: now_s)
    monkeypatch.setattr(gather, "node_rows", lambda timeout_s: [NODE])
    monkeypatch.setattr(gather, "from_raylets", lambda what, timeout_s, head_s: wait(timeout_s))
    monkeypatch.setattr(gather, "ask", lambda whom, what, timeout_s: wait(timeout_s))
    monkeypatch.setattr(events, "read", lambda since, limit, timeout_s: wait(timeout_s) and events.EventPage())
    monkeypatch.setattr(gather, "session_facts", lambda timeout_s: {"time_left_s": None})
    monkeypatch.setattr(history, "read", lambda since, timeout_s, most, head_s: wait(timeout_s) and history.History())
    monkeypatch.setattr(metrics, "latest", lambda timeout_s: metrics.Latest(0.0, 0.0, 0, [], 0, []))
    looker = look.Looker(Collector())
    looker.look(4.0, last=True)
    assert len(asked) == 11 and sum(asked) <= 4.0 + len(asked) * look.LEAST_S and min(asked) >= look.LEAST_S
    assert len(looker.collector.facts.uses) == 1


def test_nodes_are_asked_for_less_of_what_ran_the_more_they_are():
    assert [history.page_size(nodes) for nodes in (0, 1, 7)] == [history.PAGE_BYTES] * 3
    assert history.page_size(4, 10_000) == 10_000 * history.EVENT_BYTES // 4
    assert all(nodes * history.page_size(nodes) <= history.ROUND_BYTES for nodes in (1, 17, 500, 2000))
    assert history.page_size(100_000) == history.LEAST_PAGE_BYTES


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"\n".join(b"%d" % i for i in range(100)), [str(i) for i in range(80, 100)]),
        (b"x" * (1 << 20) + b"\nlast", ["x" * LETTERS, "last"]),
        (b"", []),
    ],
)
def test_the_end_of_a_log_is_bounded_also_where_it_is_one_line(monkeypatch, data, shown):
    asked: list[int] = []

    def ask(node: int, file: str, at: int, size: int, timeout_s: float) -> Any:
        asked.append(size)
        assert (node, file) == (2, "worker-7.err") and timeout_s > 0
        return worker_logs.Piece(0, at, len(data), False, False, data[at : at + size])

    monkeypatch.setattr(worker_logs, "ask", ask)
    assert look._end_of_log("2.7", 1e12) == shown and sum(asked) <= look.LOG_BYTES
