"""Files that an experiment has not written are written when somebody wants them."""

from __future__ import annotations

import pickle

import pytest
from tune_trials import RECORDED, make_trial, results_of

from hpc.cli.main import main
from hpc.runs.files import LocalFiles
from hpc.tune.export import export_experiment, write_trial

FOLDERS = sorted(path.name for path in RECORDED.iterdir() if path.is_dir())


def test_the_command_writes_the_files_of_all_trials(tmp_path, capsys):
    assert main(["tune", "export", str(RECORDED), "--to", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"3 trials in {tmp_path}/out\n"
    for folder in FOLDERS:
        for name in ("result.json", "progress.csv", "params.json"):
            assert (tmp_path / "out" / folder / name).read_bytes() == (RECORDED / folder / name).read_bytes(), name
        assert len(list((tmp_path / "out" / folder).glob("events.out.tfevents.*"))) == 1
        assert (tmp_path / "out" / folder / "error.txt").exists() == (RECORDED / folder / "error.txt").exists()


def test_one_trial_may_be_meant_by_its_id_or_name(tmp_path):
    for number, name in enumerate(("9e0b6_00001", "train_9e0b6_00001")):
        (written,) = export_experiment(RECORDED, to=tmp_path / str(number), trials=[name])
        assert written.endswith(FOLDERS[1])
    with pytest.raises(ValueError, match="has no trial 'other': there are train_9e0b6_0000"):
        export_experiment(RECORDED, to=tmp_path, trials=["other"])


def test_what_cannot_be_exported_is_told(tmp_path, capsys):
    assert main(["tune", "export", str(tmp_path)]) == 2
    assert "holds no experiment" in capsys.readouterr().err
    for words in ([], ["export"], ["import", "x"]):
        assert main(["tune", *words]) == 2
    assert main(["tune", "export", str(RECORDED), "--to", str(tmp_path), "--trial", "nothing"]) == 2


def test_writing_again_replaces_what_is_there_but_for_errors(tmp_path):
    trial = make_trial(tmp_path)
    trial.status, trial.error, trial.num_failures = trial.ERROR, ValueError("no"), 1
    history = results_of(RECORDED / FOLDERS[0])
    for _ in range(2):
        write_trial(LocalFiles(), str(trial.path), trial, history)
    folder = tmp_path / "trial_0"
    assert len((folder / "result.json").read_text().splitlines()) == 3
    assert len(list(folder.glob("events.*"))) == 1
    assert (folder / "error.txt").read_text().count("Failure # 1") == 1
    assert isinstance(pickle.loads((folder / "error.pkl").read_bytes()), ValueError)
    assert pickle.loads((folder / "params.pkl").read_bytes()) == trial.config


def test_a_trial_without_a_report_has_its_parameters(tmp_path):
    write_trial(LocalFiles(), str(tmp_path / "t"), make_trial(tmp_path), [])
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["params.json", "params.pkl"]
