"""Requests counted by route, method, application and status."""

from __future__ import annotations

from typing import Any

from hpc.serve.http.numbers import BOUNDS, METHODS, MOST_KINDS, OTHER, Numbers
from hpc.serve.messages import RouteRow

ROW = RouteRow("/a", "app", "In")


def told(numbers: Numbers) -> dict[tuple[str, ...], Any]:
    return {(name, *(value for _, value in tags)): list(values) for name, _, tags, _, values in numbers.changes()}


def test_requests_are_told_by_their_route_and_status() -> None:
    one = Numbers("http", METHODS, 400)
    for status, latency_s in ((200, 0.0005), (200, 0.003), (404, 1e9)):
        one.note(ROW, "app", "GET", status, latency_s)
    found = told(one)
    assert found["serve_num_http_requests", "/a", "GET", "app", "200"] == [2.0]
    assert found["serve_num_http_error_requests", "/a", "GET", "app", "404"] == [1.0]
    assert ("serve_num_http_error_requests", "/a", "GET", "app", "200") not in found
    latencies = found["serve_http_request_latency_ms", "/a", "GET", "app", "200"]
    assert latencies[:3] == [1, 0, 1] and abs(latencies[-1] - 3.5) < 1e-6 and len(latencies) == len(BOUNDS) + 2
    assert found["serve_http_request_latency_ms", "/a", "GET", "app", "404"][-2] == 1
    assert not told(one), "nothing is new"
    one.note(ROW, "app", "GET", 200, 0.003)
    assert told(one)["serve_num_http_requests", "/a", "GET", "app", "200"] == [1.0]


def test_what_clients_make_up_does_not_grow_what_is_kept() -> None:
    one = Numbers("http", METHODS, 400)
    for number in range(MOST_KINDS + 50):
        one.note(None, "", f"M{number}", 404, 0.0)
        one.note(ROW, "app", "GET", 200 + number, 0.0)
    found = told(one)
    assert found["serve_num_http_requests", "", OTHER, "", "404"] == [MOST_KINDS + 50]
    assert len(one._sums) <= MOST_KINDS + 20
    assert (
        sum(values[0] for key, values in found.items() if key[0] == "serve_num_http_requests") == 2 * MOST_KINDS + 100
    )
