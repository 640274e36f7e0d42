"""Tasks of a PBS job that are started by PBS's library: here something that answers as it does."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpc.launchers.joiner import JOIN_VARIABLE, handed_over_command
from hpc.launchers.joinfile import JoinFile
from hpc.launchers.pbs import tasks


def test_a_node_is_known_by_its_first_line_in_the_node_file() -> None:
    assert tasks.node_numbers(["a", "b", "c"], "a\na\nb\nb\nc\n") == [0, 2, 4]


def test_the_library_is_that_of_the_installation(tmp_path: Path) -> None:
    assert tasks.library(str(tmp_path)) is None and tasks.library(None) is None
    (tmp_path / "lib").mkdir()
    for name in ("libpbs.so.0", "libpbs.so", "libpbs.a"):
        (tmp_path / "lib" / name).touch()
    assert tasks.library(str(tmp_path)) == f"{tmp_path}/lib/libpbs.so"


def test_what_is_handed_over_leaves_the_environment() -> None:
    """The program gets it by a descriptor; neither its own environment nor that of its children has it."""
    command = handed_over_command("/", 3)
    at = command.index(JOIN_VARIABLE)
    show = "import os, sys; print(os.getcwd(), open(int(sys.argv[1])).read(), open('/proc/self/environ').read())"
    command[at - 3 :] = [sys.executable, "-c", show, JOIN_VARIABLE]
    env = {**os.environ, JOIN_VARIABLE: "a secret"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("/ a secret ") and JOIN_VARIABLE not in done.stdout


class Library:
    """Answers as PBS's library does: each task is spawned, and ends with 10 and its node's number."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.spawned: list[tuple[int, list[str], dict[str, str]]] = []
        self.coming: list[tuple[int, int]] = []
        self.nodes: dict[int, int] = {}

    def tm_init(self, _info: object, _roots: object) -> int:
        return 17002 if self.broken == "init" else 0

    def tm_spawn(self, count: int, argv: object, env: object, node: int, task: object, event: object) -> int:
        words = [word.decode() for word in list(argv)[:count]]  # type: ignore[call-overload]
        pairs = dict(each.decode().split("=", 1) for each in list(env)[:-1])  # type: ignore[call-overload]
        self.spawned.append((node, words, pairs))
        task._obj.value = 100 + node  # type: ignore[attr-defined]
        self._announce(event, 17005 if self.broken == f"spawn {node}" else 0)
        return 0

    def tm_obit(self, task: ctypes.c_uint, code: object, event: object) -> int:
        code._obj.value = 10 + task.value - 100  # type: ignore[attr-defined]
        self._announce(event, 0)
        return 0

    def _announce(self, event: object, error: int) -> None:
        event._obj.value = len(self.nodes) + 1  # type: ignore[attr-defined]
        self.nodes[len(self.nodes) + 1] = error
        self.coming.append((len(self.nodes), error))

    def tm_poll(self, _event: int, result: object, _wait: int, error: object) -> int:
        number, why = self.coming.pop(0)
        result._obj.value, error._obj.value = number, why  # type: ignore[attr-defined]
        return 0


JOIN = JoinFile("s", "tcp://10.0.0.1:1", "k", "p", "secret")


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: Library) -> Library:
    monkeypatch.setattr(tasks.ctypes, "CDLL", lambda _path: library)
    (tmp_path / "nodes").write_text("a\na\nb\nb\nc\nc\n")
    monkeypatch.setenv("PBS_NODEFILE", str(tmp_path / "nodes"))
    tasks.run(tasks.order("lib", "join", ["a", "b", "c"], ["wrapper"], {"A": "1"}, "/work"), JOIN)
    return library


def test_each_other_node_gets_its_task_with_the_environment_and_says_how_it_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    library = run(monkeypatch, tmp_path, Library())
    assert [(node, words[0], words[-1]) for node, words, _ in library.spawned] == [
        (2, "wrapper", "1"),
        (4, "wrapper", "2"),
    ]
    for _, words, env in library.spawned:
        assert env == {"A": "1", JOIN_VARIABLE: JOIN.text} and "secret" not in json.dumps(words) and "/work" in words
    assert capfd.readouterr().out == "task 1 12\ntask 2 14\n"


def test_a_task_that_pbs_cannot_start_is_named_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, tmp_path, Library("spawn 2"))
    out = capfd.readouterr().out
    assert "could not start a task on b (error 17005)" in out and "task 1 1\n" in out and "task 2 14\n" in out


def test_a_library_that_refuses_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(tasks.NotStarted, match="tm_init failed with 17002"):
        run(monkeypatch, tmp_path, Library("init"))
