"""A file of requests whose lines, or their answers, nobody expects: each has one answer, and the run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpc.serve import offline
from hpc.serve.offline import LedgerError, answer_file


class Handle:
    """A handle whose deployment is a function here."""

    app_name, deployment_name = "app", "d"
    _handle_options = SimpleNamespace(method_name="__call__", stream=False)

    def __init__(self, function: Any) -> None:
        self._function = function

    def options(self, priority: int) -> Handle:
        return self

    def remote(self, value: Any) -> Any:
        if value == "cannot be sent":
            raise TypeError("it cannot be pickled")
        return SimpleNamespace(result=lambda: self._function(value), _call=SimpleNamespace(is_over=True))


def echo(value: Any) -> Any:
    if value == "white":
        raise ValueError(" \n ")
    if value == "deep":
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        return deep
    return value


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "FIRST_PAUSE_S", 0.0)


def test_no_line_and_no_answer_ends_the_run(tmp_path: Path) -> None:
    requests, answers = tmp_path / "in", tmp_path / "out"
    lines = [b"1", b"[" * 100_000, b'"white"', b'"deep"', b'"cannot be sent"', b"\xff", b"", b"2"]
    requests.write_bytes(b"\n".join(lines) + b"\n")
    done = answer_file(Handle(echo), str(requests), str(answers), at_once=2, retries=1)
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [row["line"] for row in rows] == list(range(8)) and done.errors == 6
    assert [row["output"] for row in rows if "output" in row] == [1, 2]
    assert rows[2]["error"] == "ValueError: " and "pickled" in rows[4]["error"]


def test_requests_with_a_long_first_line_are_known_again(tmp_path: Path) -> None:
    requests, answers = tmp_path / "in", tmp_path / "out"
    requests.write_text(json.dumps("a" * 100_000) + "\n")
    answer_file(Handle(echo), str(requests), str(answers))
    requests.write_text(json.dumps("b" * 100_000) + "\n")
    with pytest.raises(LedgerError, match="other requests"):
        answer_file(Handle(echo), str(requests), str(answers))
