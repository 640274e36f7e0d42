"""The door for Prometheus: with its token one gets the metrics, without it nothing; the files are for their reader."""

from __future__ import annotations

import json
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from hpc import spi
from hpc.cli import metrics as command
from hpc.exceptions import GetTimeoutError, SessionLostError
from hpc.metrics.serve import Door
from hpc.settings.errors import CliError
from hpc.state import gather, metrics
from hpc.state.metrics import Latest, MetricRow

LATEST = Latest(0.0, 0.0, 1, [], 0, [MetricRow("steps", "counter", {}, 7.0)])


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door(lambda: LATEST)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    yield made
    made.close()
    thread.join(10)


def get(door: Door, path: str = "/metrics", **headers: str) -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://{door.address}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, "", error.read().decode()


def test_only_who_has_the_token_gets_metrics(door):
    bearer = f"Bearer {door.token}"
    assert get(door)[0] == 401 and get(door, Authorization="Bearer x")[0] == 401
    status, form, text = get(door, Authorization=bearer)
    assert status == 200 and form.startswith("text/plain") and "steps 7" in text.splitlines()
    _, form, text = get(door, Authorization=bearer, Accept="application/openmetrics-text")
    assert form.startswith("application/openmetrics-text") and text.endswith("# EOF\n")
    assert get(door, "/other", Authorization=bearer)[0] == 404


def test_a_session_that_does_not_answer_is_an_error_of_the_server():
    def ask() -> Latest:
        raise TimeoutError("no answer from the head")

    made = Door(ask)
    threading.Thread(target=made.run, daemon=True).start()
    status, _, text = get(made, Authorization=f"Bearer {made.token}")
    made.close()
    assert status == 503 and "no answer from the head" in text


def test_the_target_says_where_and_the_token_is_for_its_owner_alone(door, tmp_path):
    token = door.write(tmp_path / "hpc.json", "abc", "7")
    assert json.loads((tmp_path / "hpc.json").read_text())[0]["targets"] == [door.address]
    assert token.read_text() == door.token and token.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hpc.json", "hpc.json.token"]


def test_a_head_that_is_silent_for_a_while_does_not_close_the_door(tmp_path, monkeypatch):
    looks: list[bool] = []

    def look() -> None:
        looks.append((tmp_path / "hpc.json").exists())
        raise GetTimeoutError("no answer") if len(looks) < 3 else SessionLostError("it has ended")

    monkeypatch.setattr(command, "LOOK_S", 0.001)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(metrics, "look", look)
    monkeypatch.setattr(spi, "whoami", lambda: SimpleNamespace(session="abc"))
    monkeypatch.setattr(gather, "session_facts", dict)
    with pytest.raises(SessionLostError):
        command._serve(tmp_path / "hpc.json", "")
    assert looks == [True] * 3 and not list(tmp_path.iterdir())


def test_a_port_that_there_cannot_be_is_an_error_of_usage(tmp_path):
    with pytest.raises(CliError, match="nothing can listen"):
        command._serve(tmp_path / "hpc.json", "127.0.0.1:99999")
