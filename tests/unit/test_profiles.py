"""Profiles: what a process samples of itself, and many of them put together, as a tree and as a file."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from hpc.cli import profile
from hpc.core.owner.shell import sampler
from hpc.core.owner.shell.sampler import Sampler, process_rows
from hpc.settings.errors import CliError
from hpc.state import profiles

STACKS = {
    ("step (a.py:1)", "load (a.py:5)"): (2.0, 0.5),
    ("step (a.py:1)", "fit (a.py:9)"): (3.0, 3.0),
    ("step (a.py:1)",): (1.0, 0.25),
    ("other (b.py:2)",): (0.001, 0.0),
}


def row(**stacks: tuple[float, float]) -> dict:
    return {"stacks": [[name.replace("__", ";"), *times] for name, times in stacks.items()], "other": [0.0, 0.0]}


def test_stacks_of_many_processes_add_up():
    rows = [row(step__fit=(1.0, 0.5), other=(2.0, 0.0)), row(step__fit=(3.0, 2.5), step=(1.0, 1.0))]
    found = profiles.together(rows)
    assert found == {("step", "fit"): (4.0, 3.0), ("other",): (2.0, 0.0), ("step",): (1.0, 1.0)}
    rows.append(row(**{"Actor.step__g": (1.0, 0.0), "wait__step": (9.0, 0.0)}))
    assert ("Actor.step", "g") in profiles.together(rows, "step") and len(profiles.together(rows, "Actor.step")) == 3
    rows.pop()
    assert set(profiles.together(rows, "step")) == {("step", "fit"), ("step",)}
    rows[0]["other"] = [5.0, 1.0]
    assert profiles.together(rows)["(further stacks)",] == (5.0, 1.0)


def test_a_tree_has_the_times_of_what_is_below_and_leaves_the_least_out():
    found = profiles.tree(STACKS)
    assert (found["passed_s"], found["cpu_s"]) == (6.001, 3.75)
    (step,) = found["below"]
    assert (step["name"], step["passed_s"], step["cpu_s"]) == ("step (a.py:1)", 6.0, 3.75)
    assert [one["name"] for one in step["below"]] == ["fit (a.py:9)", "load (a.py:5)"]
    assert len(profiles.tree(STACKS, 0.0)["below"]) == 2


def test_calls_have_what_is_their_own_and_what_they_call():
    first, *_ = calls = profiles.by_call({**STACKS, ("fit (a.py:9)", "fit (a.py:9)"): (1.0, 1.0)})
    assert (first["name"], first["own_cpu_s"], first["all_cpu_s"]) == ("fit (a.py:9)", 4.0, 4.0), (
        "recursion counts once"
    )
    step = next(one for one in calls if one["name"].startswith("step"))
    assert (step["own_cpu_s"], step["all_cpu_s"], step["all_passed_s"]) == (0.25, 3.75, 6.0)


def test_the_file_for_speedscope_says_the_same():
    whole = profiles.Profile(STACKS, ["1.2"], [], 6.0, 600, 0.1, False)
    found = profiles.speedscope(whole, "fit")
    names = [frame["name"] for frame in found["shared"]["frames"]]
    on_cpu, passed = found["profiles"]
    assert [tuple(names[number] for number in sample) for sample in on_cpu["samples"]] == list(STACKS)
    assert on_cpu["endValue"] == sum(on_cpu["weights"]) == 3.75 and passed["weights"][1] == 3.0
    assert found["$schema"].endswith("file-format-schema.json")


def sampled(work: Callable[[threading.Event], None]) -> dict:
    """The profile of a thread that works until the profile has ended."""
    end = threading.Event()
    worker = threading.Thread(target=work, args=(end,))
    worker.start()
    one = Sampler(0.3, 200.0)
    one.start()
    one._thread.join()
    end.set()
    worker.join()
    return one.row()


def test_code_that_waits_is_told_from_code_that_computes():
    def idles(end: threading.Event) -> None:
        end.wait()

    def spins(end: threading.Event) -> None:
        while not end.is_set():
            sum(range(1000))

    for work, is_busy in ((idles, False), (spins, True)):
        found = sampled(work)
        times = [(passed, cpu) for text, passed, cpu in found["stacks"] if f"{work.__name__} (" in text]
        passed_s, cpu_s = (sum(column) for column in zip(*times, strict=True))
        assert passed_s == pytest.approx(found["passed_s"], rel=0.5) and (cpu_s > 0.05 * passed_s) == is_busy
        assert found["samples"] > 3 and not found["is_running"]


def test_stacks_are_bounded_and_the_rest_is_counted_together(monkeypatch):
    monkeypatch.setattr(sampler, "MOST_STACKS", 0)
    found = sampled(lambda end: end.wait())
    assert found["stacks"] == [] and found["other"][0] > 0


def test_one_profile_at_a_time(monkeypatch):
    monkeypatch.setattr(sampler, "_newest", None)
    assert process_rows("tasks") is None and process_rows("profile") == []
    (begun,) = process_rows("profile:0.2:100") or []
    newest = sampler._newest
    assert begun["is_running"] and newest is not None
    assert [one["wanted_s"] for one in process_rows("profile:100:100") or []] == [0.2], "the first one goes on"
    newest._thread.join()
    assert process_rows("profile") == [newest.row()]
    assert Sampler(1e9, 1e9).wanted_s == sampler.MOST_S


def test_a_process_without_room_for_a_thread_goes_on(monkeypatch):
    def refuse(self: Sampler) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(sampler, "_newest", None)
    monkeypatch.setattr(Sampler, "start", refuse)
    assert process_rows("profile:1:100") == [] and process_rows("profile") == []


def test_the_number_of_a_thread_that_ended_may_be_that_of_a_new_one(monkeypatch):
    clocks = iter([5.0, 0.25, 0.5])
    monkeypatch.setattr(sampler.time, "clock_gettime", lambda clock: next(clocks))
    one = Sampler(1.0, 100.0)
    assert [one._on_cpu_s(7) for _ in range(3)] == [0.0, 0.0, 0.25]


def test_a_profile_that_is_not_made_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    def none_such(worker: str = "") -> list[dict]:
        raise ValueError(f"there is no worker {worker}")

    monkeypatch.setattr(profiles, "candidates", none_such)
    file = tmp_path / "before.json"
    file.write_text("the last one")
    with pytest.raises(CliError, match="there is no worker"):
        profile._profile({"output": str(file)}, ["9.9"])
    assert file.read_text() == "the last one"
    with pytest.raises(CliError, match="cannot be written"):
        profile._profile({"output": str(tmp_path / "none" / "a.json")}, ["9.9"])
