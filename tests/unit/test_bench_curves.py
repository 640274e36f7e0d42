"""The pure parts of the page of learning curves: what is kept, what is missing, its lines. Nothing here is timed."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

from bench import rl_curves
from bench.metrics import HPC, RAY
from bench.rl import SB3, TASKS

PROBES = Path(__file__).resolve().parents[2] / "bench" / "probes" / "rl"


def run(task="cartpole_ppo", peer=HPC, seed=0, steps=1000.0, **more):
    reached = steps is not None
    at = steps or 500.0
    return {
        "task": task, "peer": peer, "seed": seed, "measured": "today", "steps": steps, "alone": True, "rate": 10.0,
        "seconds": at / 10 if reached else None, "cpu": at / 20 if reached else None, "best": 450.0, "said": {},
        "load": 2.0,
        "curve": [[0.0, 0.0, 20.0, 0.0], [at, at / 10, 450.0, at / 20]], **more,
    }  # fmt: skip


def kept_of(*runs):
    return {"machine": {"cpu": "c", "cores": 2}, "versions": {HPC: {"hpc": "1"}}, "runs": list(runs)}


def learn(monkeypatch):
    monkeypatch.syspath_prepend(str(PROBES))
    spec = importlib.util.spec_from_file_location("bench_learn_probe", PROBES / "learn.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop("tasks", None)
    return module


def test_every_task_of_the_page_is_one_of_the_bench_and_has_its_goal(monkeypatch):
    tasks = learn(monkeypatch).TASKS
    assert set(rl_curves.GOALS) <= set(TASKS)
    assert {name: tasks[name].goal for name in rl_curves.GOALS} == dict(rl_curves.GOALS)


def test_new_runs_take_the_place_of_those_of_their_seed():
    kept = rl_curves.with_runs(kept_of(run(), run(seed=1)), [run(steps=7.0), run(peer=RAY)])
    assert [(one["peer"], one["seed"], one["steps"]) for one in kept["runs"]] == [
        (HPC, 0, 7.0), (HPC, 1, 1000.0), (RAY, 0, 1000.0),
    ]  # fmt: skip


def test_what_is_kept_is_read_back(tmp_path):
    kept = kept_of(run(), run(seed=1))
    rl_curves.save(kept, tmp_path / "kept.json")
    assert rl_curves.load(tmp_path / "kept.json") == kept
    assert rl_curves.load(tmp_path / "none.json")["runs"] == []


def test_libraries_take_turns_and_runs_that_are_kept_are_not_made_again():
    wanted = rl_curves.missing(kept_of(run(seed=1)), ["cartpole_ppo"], [HPC, SB3], 2)
    assert wanted == [("cartpole_ppo", HPC, 0), ("cartpole_ppo", SB3, 0), ("cartpole_ppo", SB3, 1)]
    assert rl_curves.missing(kept_of(), ["two_agents_ppo"], [SB3], 3) == []


def test_a_line_has_the_median_of_the_runs_that_came_and_how_many_did():
    lag = {"said": {"policy_lag_mean": 1.5}}
    runs = [run(**lag), run(seed=1, steps=3000.0, **lag), run(seed=2, steps=None, **lag)]
    cells = rl_curves.row("cartpole_impala", HPC, runs)
    assert cells[1:] == ["hpc", "2 of 3", "2,000 (1,000…3,000)", "200 (100…300)", "100 (50.0…150)", "1.5", "2"]
    none = rl_curves.row("cartpole_impala", RAY, [run(steps=None)])
    assert none[1:] == ["RLlib", "0 of 1", "best return 450", "–", "–", "–", "2"]


def test_the_page_has_a_plot_for_each_task_with_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(rl_curves, "ROOT", tmp_path)
    monkeypatch.setattr(rl_curves, "PLOTS", tmp_path / "plots")
    monkeypatch.setattr(rl_curves, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(rl_curves, "draw", lambda task, runs, path: None)
    rl_curves.PAGE.write_text("before <!-- begin: written by bench --> old <!-- end: written by bench --> after")
    rl_curves.write(kept_of(run(), run(peer=SB3)))
    page = rl_curves.PAGE.read_text()
    assert page.startswith("before") and page.endswith("after") and "old" not in page
    assert page.count("plots/learning_cartpole_ppo.svg") == 1 and "learning_pendulum" not in page
    assert "| Stable-Baselines3 | 1 of 1 |" in page


def test_a_result_without_runs_leaves_the_page_alone():
    assert rl_curves.write_docs({"tables": [{"title": "t", "rows": []}]}) == []


def test_a_curve_keeps_its_ends_and_leaves_out_what_was_not_known(monkeypatch):
    module = learn(monkeypatch)
    task = module.TASKS["cartpole_ppo"]
    curve = [[float(at), at / 10, math.nan if at < 5 else float(at), at / 20] for at in range(451)]
    found = module.summary(task, curve, module.Clock(), {}, alone=False)
    assert found["reached"] and found["steps"] == 450 and found["cpu"] is None
    assert found["curve"][0][0] == 5 and found["curve"][-1][0] == 450 and len(found["curve"]) <= module.POINTS + 1
