"""The files of trials are those that Ray writes of the same reports, byte for byte, and cost few system calls."""

from __future__ import annotations

import json
import os
import pickle
import time

import numpy as np
import pytest
from tune_trials import RECORDED, make_trial, results_of, tell

from hpc.runs.files import LocalFiles
from hpc.tune.callback import CallbackList
from hpc.tune.files import Appender, params_text, result_line, write_error
from hpc.tune.logger import CSVLoggerCallback, JsonLoggerCallback, TBXLoggerCallback
from hpc.tune.logger.logger import FewTrials
from hpc.tune.trial import Trial

FOLDERS = sorted(path for path in RECORDED.iterdir() if path.is_dir())


def loggers(**kwargs):
    told = CallbackList([CSVLoggerCallback(**kwargs), JsonLoggerCallback(**kwargs), TBXLoggerCallback(**kwargs)])
    told.setup(stop=None, total_num_samples=1)
    return told


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name[:17])
def test_the_files_of_a_trial_are_those_that_ray_writes(tmp_path, folder):
    results = results_of(folder)
    config = json.loads((folder / "params.json").read_text())
    trial = Trial("train", trial_id=results[0]["trial_id"], config=config, path=str(tmp_path / "t"))
    tell(loggers(), trial, [{**one, "experiment_tag": "0_lr=1"} for one in results])
    for name in ("params.json", "result.json", "progress.csv"):
        assert (tmp_path / "t" / name).read_bytes() == (folder / name).read_bytes(), name
    made, rays = [pickle.loads((place / "params.pkl").read_bytes()) for place in (tmp_path / "t", folder)]
    assert made == rays


def test_columns_are_those_of_the_first_report_and_stay_when_a_trial_runs_again(tmp_path):
    trial = make_trial(tmp_path)
    told = loggers()
    tell(told, trial, [{"training_iteration": 1, "a": 1, "b": {"c": 2}}, {"training_iteration": 2, "new": 3}])
    again = loggers()
    tell(again, trial, [{"b": {"c": 7}, "training_iteration": 3, "other": 1}])
    text = (tmp_path / "trial_0" / "progress.csv").read_text()
    assert text.splitlines() == ["training_iteration,a,b/c", "1,1,2", "2,,", "3,,7"]
    assert len((tmp_path / "trial_0" / "result.json").read_text().splitlines()) == 3


def test_a_line_that_a_killed_driver_has_not_written_whole_is_cut_off(tmp_path):
    trial = make_trial(tmp_path)
    (tmp_path / "trial_0").mkdir()
    (tmp_path / "trial_0" / "result.json").write_text('{"a": 1}\n{"a": 2')
    (tmp_path / "trial_0" / "progress.csv").write_text("training_iteration,a\r\n1,1\r\n2,")
    tell(loggers(), trial, [{"training_iteration": 2, "a": 2}])
    lines = (tmp_path / "trial_0" / "result.json").read_text().splitlines()
    assert [json.loads(line)["a"] for line in lines] == [1, 2]
    assert (tmp_path / "trial_0" / "progress.csv").read_text().splitlines() == ["training_iteration,a", "1,1", "2,2"]


def test_an_experiment_of_many_trials_has_no_files_and_one_without_end_has_those_of_the_first(tmp_path):
    for total, expected in ((3, 0), (2, 2), (None, 2), (2**70, 2)):
        few = FewTrials(2)
        told = CallbackList([CSVLoggerCallback(few), JsonLoggerCallback(few), TBXLoggerCallback(few)])
        told.setup(total_num_samples=total)
        for number in range(min(total or 3, 3)):
            tell(told, make_trial(tmp_path / str(total), number), [{"training_iteration": 1, "x": 1.0}])
        told.on_experiment_end(trials=[])
        assert len(list((tmp_path / str(total)).glob("*/result.json"))) == expected
        assert len(list((tmp_path / str(total)).glob("*/events.*"))) == expected


def test_loggers_hold_no_file_open(tmp_path):
    told = loggers()
    before = len(os.listdir("/proc/self/fd"))
    trials = [make_trial(tmp_path, number) for number in range(200)]
    for trial in trials:
        told.on_trial_start(iteration=0, trials=trials, trial=trial)
        told.on_trial_result(iteration=0, trials=trials, trial=trial, result={"training_iteration": 1, "x": 1.0})
    told[0].close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(list(tmp_path.glob("*/progress.csv"))) == 200


def test_reports_are_in_the_files_a_second_later_and_at_the_end_at_once(tmp_path, monkeypatch):
    trial = make_trial(tmp_path)
    told = CallbackList([JsonLoggerCallback()])
    told.setup()
    about = {"iteration": 0, "trials": [trial], "trial": trial}
    told.on_trial_start(**about)
    told.on_trial_result(**about, result={"training_iteration": 1})
    told.on_step_end(iteration=0, trials=[trial])
    path = tmp_path / "trial_0" / "result.json"
    assert not path.exists()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 1.1)
    told.on_step_end(iteration=1, trials=[trial])
    assert path.read_text() == '{"training_iteration": 1}\n'
    told.on_trial_result(**about, result={"training_iteration": 2})
    told.on_trial_complete(**about)
    assert len(path.read_text().splitlines()) == 2


def test_writing_takes_a_twentieth_of_the_time_at_most(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    appender = Appender()

    def slowly(files, path, data):
        clock[0] += 2.0

    monkeypatch.setattr("hpc.tune.files.append", slowly)
    appender.add("a", b"x")
    appender.flush()
    appender.add("a", b"y")
    clock[0] += 37.0
    appender.flush_if_due()
    assert appender._waiting
    clock[0] += 1.1
    appender.flush_if_due()
    assert not appender._waiting


def test_values_that_json_has_no_word_for_are_written_all_the_same():
    value = {"f": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True), "a": np.arange(2), "o": object, 3: {1, 2}}
    found = json.loads(result_line({**value, ("a", 1): 2}))
    assert found["f"] == 0.5 and found["i"] == 3 and found["b"] is True and found["a"] == [0, 1]
    assert found["o"].startswith("<class") and found["3"] == "{1, 2}" and found["('a', 1)"] == 2
    assert json.loads(params_text({"b": 1, 2: 3})) == {"b": 1, "2": 3}
    assert "NaN" in result_line({"x": np.float32("nan")})


def test_errors_are_added_to_a_text_and_the_last_one_is_an_object(tmp_path):
    files, folder = LocalFiles(), str(tmp_path / "t")
    write_error(files, folder, 1, "2026-01-02_03-04-05", ValueError("first"))
    write_error(files, folder, 2, "2026-01-02_03-04-06", KeyError("second"))
    text = (tmp_path / "t" / "error.txt").read_text()
    assert text == (
        "Failure # 1 (occurred at 2026-01-02_03-04-05)\nfirst\n"
        "Failure # 2 (occurred at 2026-01-02_03-04-06)\n'second'\n"
    )
    assert isinstance(pickle.loads((tmp_path / "t" / "error.pkl").read_bytes()), KeyError)


def test_files_on_another_file_system_are_written_there(tmp_path):
    fs = pytest.importorskip("pyarrow.fs")
    remote = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    told = CallbackList([CSVLoggerCallback(), JsonLoggerCallback()])
    told.setup(storage_filesystem=remote)
    trial = make_trial("experiment")
    tell(told, trial, [{"training_iteration": i, "x": i} for i in (1, 2)])
    text = (tmp_path / "experiment" / "trial_0" / "progress.csv").read_text()
    assert text.splitlines() == ["training_iteration,x", "1,1", "2,2"]
    again = CallbackList([CSVLoggerCallback()])
    again.setup(storage_filesystem=remote)
    tell(again, trial, [{"x": 3, "training_iteration": 3}])
    assert (tmp_path / "experiment" / "trial_0" / "progress.csv").read_text().splitlines()[-1] == "3,3"


def test_what_cannot_be_written_waits_and_no_part_of_it_is_there_twice(tmp_path, caplog):
    path, blocked = str(tmp_path / "t" / "result.json"), tmp_path / "t"
    blocked.write_text("a file where the directory is to be")
    appender = Appender()
    appender.add(path, b"1\n")
    appender.flush()
    appender.add(path, b"2\n")
    appender.flush()
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "it is tried again" in caplog.text
    blocked.unlink()
    appender.flush()
    assert (tmp_path / "t" / "result.json").read_bytes() == b"1\n2\n"
    appender.add(str(tmp_path / "t" / "result.json" / "no"), b"3\n")
    appender.close()
    assert "1 files such as" in caplog.text and "hpc tune export" in caplog.text
