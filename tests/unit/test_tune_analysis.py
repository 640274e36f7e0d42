"""What came out of an experiment is read from what this package or Ray has written, and is what Ray says of it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from tables import rows_of
from tune_trials import RECORDED, SAID, make_trial

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.result import Result
from hpc.tune import records
from hpc.tune.analysis import ExperimentAnalysis
from hpc.tune.export import export_experiment
from hpc.tune.journal import FILE, Journal
from hpc.tune.result_grid import ResultGrid
from hpc.tune.trial import Trial


def recorded():
    return ExperimentAnalysis(RECORDED, default_metric="loss", default_mode="min")


def finished(tmp_path, values):
    """Trials that have reported these losses."""
    trials, histories = [], {}
    for number, losses in enumerate(values):
        trial = make_trial(tmp_path, number)
        histories[trial.trial_id] = history = []
        for step, loss in enumerate(losses, 1):
            result = {"loss": loss, "eval": {"acc": -loss}, "training_iteration": step, "trial_id": trial.trial_id}
            trial.update_last_result(result, 1.0)
            history.append(result)
        trial.status = Trial.TERMINATED
        trials.append(trial)
    return trials, histories


def grid_of(tmp_path, values, **about):
    trials, histories = finished(tmp_path, values)
    return ResultGrid.from_trials(trials, str(tmp_path), history=lambda trial: histories[trial.trial_id], **about)


def test_an_experiment_of_rays_is_read_without_ray_and_says_what_ray_says():
    analysis = recorded()
    assert "ray" not in sys.modules
    assert str(analysis.best_trial) == SAID["best_trial"] and analysis.best_config == SAID["best_config"]
    assert Path(analysis.best_checkpoint.path).name == SAID["best_checkpoint"]
    assert Path(analysis.best_checkpoint.path).parent.parent == RECORDED, "wherever the directory is now"
    assert str(analysis.get_best_trial("eval/top/five", "max", "all")) == SAID["best_by_max_of_all"]
    assert {str(one): one.metric_analysis["loss"]["last-5-avg"] for one in analysis.trials} == SAID["last_5_avg"]
    assert {str(one): one.status for one in analysis.trials} == SAID["statuses"]
    assert analysis.get_all_configs(prefix=True) == SAID["configs"]
    grid = ResultGrid(analysis)
    kept = {Path(one.path).name: [Path(c.path).name for c, _ in one.best_checkpoints] for one in grid}
    assert kept == SAID["checkpoints"]
    assert (grid.num_errors, grid.num_terminated, len(grid)) == (1, 2, 3)
    (error,) = grid.errors
    assert "ValueError: diverged" in str(error)


def test_tables_of_an_experiment_of_rays_are_those_of_ray():
    pandas = pytest.importorskip("pandas")
    analysis = recorded()
    columns = {name: list(frame.columns) for name, frame in analysis.trial_dataframes.items()}
    assert columns == SAID["columns"]
    frame = ResultGrid(analysis).get_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert json.loads(frame.sort_values("trial_id").to_json(orient="records")) == SAID["rows"]
    worst = analysis.dataframe("loss", "max").sort_values("trial_id").loss
    assert json.loads(worst.to_json(orient="values")) == SAID["worst_rows"]


def test_a_state_file_may_be_named_and_what_is_no_experiment_is_told(tmp_path):
    (state,) = RECORDED.glob("experiment_state-*.json")
    assert len(ExperimentAnalysis(str(state)).trials) == 3
    with pytest.raises(FileNotFoundError, match="holds no experiment"):
        ExperimentAnalysis(tmp_path)
    with pytest.raises(ValueError, match="mode"):
        ExperimentAnalysis(RECORDED, default_mode="least")


def test_a_pickle_in_an_experiment_of_rays_runs_nothing(tmp_path):
    shutil.copytree(RECORDED, tmp_path / "copy")
    (state,) = (tmp_path / "copy").glob("experiment_state-*.json")
    call = f"cos\nsystem\n(S'touch {tmp_path}/run'\ntR.".encode().hex()
    data = json.loads(state.read_text())
    trial = json.loads(data["trial_data"][0][0])
    trial["config"]["made"] = {"_type": "CLOUDPICKLE_FALLBACK", "value": call}
    trial["config"]["broken"] = {"_type": "CLOUDPICKLE_FALLBACK", "value": "80"}
    data["trial_data"][0][0] = json.dumps(trial)
    state.write_text(json.dumps(data))
    assert len(ExperimentAnalysis(tmp_path / "copy").trials) == 3
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("scope", "best"), [("last", 1), ("all", 0), ("avg", 2), ("last-5-avg", 3), ("last-10-avg", 2)]
)
def test_the_best_result_is_that_of_the_scope(tmp_path, scope, best):
    values = [[0.0, 30.0, 30.0], [20.0, 20.0, 1.0], [2.0, 2.0, 2.0], [50.0] * 10 + [1.5] * 5]
    grid = grid_of(tmp_path, values, metric="loss", mode="min")
    assert grid.get_best_result(scope=scope).path.endswith(f"trial_{best}")
    assert grid.get_best_result("eval/acc", "max", scope).path.endswith(f"trial_{best}")


def test_values_that_are_no_numbers_are_passed_over_unless_it_is_said(tmp_path):
    values = [[float("-inf")], [1.0], [float("nan")]]
    grid = grid_of(tmp_path, values, metric="loss", mode="min")
    assert grid.get_best_result().path.endswith("trial_1")
    assert grid.get_best_result(filter_nan_and_inf=False).path.endswith("trial_0")
    nothing = grid_of(tmp_path, [[float("nan")], [float("nan")]])
    with pytest.raises(RuntimeError, match="no trial has reported loss, or nothing but NaN"):
        nothing.get_best_result("loss", "min")


def test_what_is_missing_for_a_choice_is_told(tmp_path):
    grid = grid_of(tmp_path, [[1.0], [2.0]])
    with pytest.raises(ValueError, match="which metric"):
        grid.get_best_result(mode="min")
    with pytest.raises(ValueError, match="small or a large"):
        grid.get_best_result("loss")
    with pytest.raises(ValueError, match="scope"):
        grid.get_best_result("loss", "min", "best")
    with pytest.raises(ValueError, match="needs a metric"):
        ResultGrid(grid._experiment_analysis)._experiment_analysis.dataframe(mode="min")
    with pytest.raises(ValueError, match="set both in TuneConfig"):
        _ = grid._experiment_analysis.best_config
    assert grid_of(tmp_path, [[1.0]]).get_best_result().metrics["loss"] == 1.0, "one trial leaves no choice"


def test_tables_are_made_when_they_are_asked_for_and_once(tmp_path):
    trials, histories = finished(tmp_path, [[1.0, 2.0], [3.0]])
    read = []

    def history(trial):
        read.append(trial.trial_id)
        return histories[trial.trial_id]

    grid = ResultGrid.from_trials(trials, str(tmp_path), history=history)
    assert [result.metrics["loss"] for result in grid] == [2.0, 3.0] and not read
    assert len(grid[0].metrics_dataframe) == 2 and grid[0] is grid[0] and grid[-1].metrics["loss"] == 3.0
    assert grid[0].metrics_dataframe is grid[0].metrics_dataframe and read == [trials[0].trial_id]
    with pytest.raises(IndexError):
        _ = grid[2]


def test_without_pandas_a_table_is_a_list_of_dicts(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    grid = grid_of(tmp_path, [[1.0, 0.5], [3.0]])
    rows = grid.get_dataframe("loss", "max")
    assert [row["loss"] for row in rows] == [1.0, 3.0] and rows[0]["config/opt/momentum"] == 0.9
    assert grid[0].metrics_dataframe[1]["eval/acc"] == -0.5
    assert grid._experiment_analysis.results_df[1]["trial_id"] == "abcde_00001"


def test_a_trial_is_a_result_by_its_directory_alone(tmp_path):
    for folder in sorted(path for path in RECORDED.iterdir() if path.is_dir()):
        result = Result.from_path(folder)
        names = [Path(one.path).name for one, _ in result.best_checkpoints]
        assert names == SAID["checkpoints"][folder.name]
        assert result.config == result.metrics["config"] == json.loads((folder / "params.json").read_text())
        assert (result.error is not None) == (folder / "error.txt").exists()
        (tmp_path / folder.name).mkdir()
        shutil.copy(folder / "progress.csv", tmp_path / folder.name)
        by_table = Result.from_path(tmp_path / folder.name)
        assert by_table.metrics["loss"] == result.metrics["loss"] and by_table.metrics["eval/acc"] == 0.5
    with pytest.raises(FileNotFoundError, match="no trial"):
        Result.from_path(tmp_path)


def test_a_result_is_printed_without_what_nobody_looks_for():
    text = repr(Result({"loss": 1.0, "pid": 3, "config": {}}, Checkpoint("/a/b"), KeyError("x"), "/a"))
    assert text.splitlines() == [
        "Result(", "  error='KeyError',", "  metrics={'loss': 1.0},", "  path='/a',", "  filesystem='local',",
        "  checkpoint=Checkpoint('/a/b')", ")",
    ]  # fmt: skip


def test_the_best_and_the_last_checkpoint_of_a_trial(tmp_path):
    trials, _ = finished(tmp_path, [[1.0], [2.0]])
    trials[1].checkpoints = [
        (Checkpoint("/c/0"), {"loss": 1.0, "training_iteration": 1}),
        (Checkpoint("/c/1"), {"loss": 3.0, "training_iteration": 2}),
        (Checkpoint("/c/2"), {"loss": float("nan"), "training_iteration": 3}),
    ]
    analysis = ExperimentAnalysis(tmp_path, trials=trials, default_metric="loss", default_mode="max")
    assert analysis.best_checkpoint == Checkpoint("/c/1")
    assert analysis.get_best_checkpoint(trials[1], mode="min") == Checkpoint("/c/0")
    assert analysis.get_last_checkpoint(trials[1]) == Checkpoint("/c/2")
    assert analysis.get_best_checkpoint(trials[0]) is None
    assert analysis.best_result["loss"] == 2.0 and len(analysis.results) == 2


def journaled(folder, *, error=False):
    """An experiment of this package: two trials, of which the second has failed if it is said."""
    folder.mkdir()
    kept = Journal(str(folder / FILE))
    facts = [records.Began(1.0, "train")]
    for number in range(2):
        name = f"abcde_{number:05d}"
        config = {"lr": 0.1 * (number + 1), "shape": (1, 2)}
        facts += [
            records.Added(1.0, name, config, {"lr": config["lr"]}, f"{number}_lr", None, f"trial_{number}", None),
            records.Changed(2.0, name, "RUNNING"),
        ]
        for step in (1, 2):
            metrics = {"loss": config["lr"] / step, "eval": {"acc": step}, "training_iteration": step}
            saved = f"trial_{number}/checkpoint_00000{step}"
            facts.append(records.Result(2.0 + step, name, metrics, "CONTINUE", checkpoint=saved))
        facts.append(records.Dropped(5.0, name, f"trial_{number}/checkpoint_000001"))
        if error and number:
            facts.append(records.Failure(5.0, name, ValueError("diverged"), 1))
        facts.append(records.Changed(6.0, name, "ERROR" if error and number else "TERMINATED"))
    for fact in facts:
        kept.write(fact)
    kept.close()
    return folder


def test_an_experiment_is_read_from_its_journal_wherever_it_is_now(tmp_path):
    moved = tmp_path / "moved"
    journaled(tmp_path / "sweep", error=True).rename(moved)
    analysis = ExperimentAnalysis(moved, default_metric="loss", default_mode="min")
    assert [str(one) for one in analysis.trials] == ["train_abcde_00000", "train_abcde_00001"]
    assert analysis.best_config == {"lr": 0.1, "shape": (1, 2)}
    assert analysis.best_checkpoint == Checkpoint(moved / "trial_0" / "checkpoint_000002")
    grid = ResultGrid(analysis)
    assert (grid.num_errors, grid.num_terminated) == (1, 1) and isinstance(grid.errors[0], ValueError)
    assert grid[1].path == str(moved / "trial_1") and grid[1].config["lr"] == 0.2
    assert [row["loss"] for row in rows_of(grid[0].metrics_dataframe)] == [0.1, 0.05]
    assert [row["loss"] for row in rows_of(grid.get_dataframe("loss", "max"))] == [0.1, 0.2]
    assert analysis.trials[0].metric_analysis["eval/acc"]["avg"] == 1.5


def test_a_journal_is_the_source_of_files_that_were_not_written(tmp_path):
    folder = journaled(tmp_path / "sweep", error=True)
    assert len(export_experiment(folder)) == 2
    lines = (folder / "trial_0" / "result.json").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [0.1, 0.05]
    assert (folder / "trial_1" / "error.txt").read_text().splitlines()[1] == "diverged"
    assert Result.from_path(folder / "trial_0").metrics["loss"] == 0.05


def test_a_table_has_a_row_for_each_trial_of_the_journal(tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    kept = Journal(str(folder / FILE))
    kept.write(records.Began(1.0, "train"))
    for number in range(200):
        name = f"abcde_{number:05d}"
        kept.write(records.Added(1.0, name, {"lr": 0.5}, {"lr": 0.5}, "", None, None, None))
        for step in range(10):
            kept.write(records.Result(2.0, name, {"loss": 1.0, "training_iteration": step}, "CONTINUE"))
    kept.close()
    assert len(ResultGrid(ExperimentAnalysis(folder)).get_dataframe()) == 200
