"""Services that record experiments get what trials report, in their own thread; a missing package is told."""

from __future__ import annotations

import sys
import threading
import time
import types
from types import SimpleNamespace

import numpy as np
import pytest
from tune_trials import make_trial, tell

from hpc.runs.checkpoint import Checkpoint
from hpc.tune import context
from hpc.tune.callback import CallbackList
from hpc.tune.context import TrialSession
from hpc.tune.logger.aim import AimLoggerCallback
from hpc.tune.logger.comet import CometLoggerCallback
from hpc.tune.logger.mlflow import MLflowLoggerCallback, find_experiment, setup_mlflow
from hpc.tune.logger.tracking import TrackingCallback
from hpc.tune.logger.wandb import WandbLoggerCallback, setup_wandb

RESULTS = [
    {"training_iteration": 1, "loss": 0.5, "eval": {"acc": np.float32(0.25)}, "name": "x", "done": False, "pid": 7},
    {"training_iteration": 2, "loss": 0.4, "eval": {"acc": np.float32(0.5)}, "config": {"lr": 0.2}, "hostname": "n1"},
]


class Recorder:
    """An object that keeps what is called on it."""

    def __init__(self, log, name=""):
        self._log, self._name = log, name

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Recorder(self._log, f"{self._name}.{name}" if self._name else name)

    def __call__(self, *args, **kwargs):
        self._log.append((self._name, args, kwargs))
        return Recorder(self._log, f"{self._name}()")

    def __setitem__(self, key, value):
        self._log.append((f"{self._name}[{key}]", (value,), {}))


@pytest.fixture
def log():
    return []


def installed(monkeypatch, log, name, *parts, **attributes):
    module = types.ModuleType(name)
    recorder = Recorder(log)
    module.__getattr__ = lambda attribute: getattr(recorder, attribute)
    for key, value in attributes.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)
    for part in parts:
        monkeypatch.setitem(sys.modules, f"{name}.{part}", module)


def run(callback, trial, failed=False):
    told = CallbackList([callback])
    told.setup(stop=None, num_samples=1, total_num_samples=1)
    tell(told, trial, [dict(one) for one in RESULTS], failed)
    told.on_experiment_end(trials=[trial])


def calls(log, name):
    return [(args, kwargs) for called, args, kwargs in log if called == name]


@pytest.mark.parametrize(
    ("kind", "package"),
    [
        (WandbLoggerCallback, "wandb"),
        (MLflowLoggerCallback, "mlflow"),
        (CometLoggerCallback, "comet_ml"),
        (AimLoggerCallback, "aim"),
    ],
)
def test_a_missing_package_is_told_with_what_to_install(kind, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{kind.__name__} needs the package {package}: pip install {package}"):
        kind()


def test_wandb_has_a_run_for_each_trial(monkeypatch, log, tmp_path):
    installed(monkeypatch, log, "wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    trial = make_trial(tmp_path / "sweep")
    run(WandbLoggerCallback(project="p", excludes=["name"], upload_checkpoints=True, tags=["t"]), trial, failed=True)
    ((_, about),) = calls(log, "init")
    assert about["id"] == trial.trial_id and about["name"] == str(trial) and about["project"] == "p"
    assert about["group"] == "sweep" and about["tags"] == ["t"] and about["config"]["opt"] == {"momentum": 0.9}
    (first, _), (second, kwargs) = calls(log, "init().log")
    assert first[0] == {"training_iteration": 1, "loss": 0.5, "eval/acc": 0.25}
    assert second[0]["eval/acc"] == 0.5 and kwargs == {"step": 2}
    assert calls(log, "init().config.update")[1][0][0] == {"lr": 0.2, "hostname": "n1"}
    assert calls(log, "init().finish") == [((), {"exit_code": 1})]


def test_wandb_without_a_key_or_a_project_is_refused_before_anything_runs(monkeypatch, log, tmp_path):
    installed(monkeypatch, log, "wandb", api=SimpleNamespace(api_key=None))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT_NAME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="needs a key"):
        WandbLoggerCallback(project="p").setup()
    (tmp_path / "key").write_text("secret\n")
    with pytest.raises(ValueError, match="needs a project"):
        WandbLoggerCallback(api_key_file=str(tmp_path / "key")).setup()
    with pytest.raises(ValueError, match="not both"):
        WandbLoggerCallback(project="p", api_key="k", api_key_file=str(tmp_path / "key")).setup()
    monkeypatch.delenv("WANDB_API_KEY")


def test_wandb_gets_checkpoints_and_pictures(monkeypatch, log, tmp_path):
    installed(monkeypatch, log, "wandb")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    callback = WandbLoggerCallback(project="p", upload_checkpoints=True, image_kwargs={"caption": "c"})
    callback.setup()
    trial = make_trial(tmp_path)
    (tmp_path / "c").mkdir()
    trial.checkpoint = Checkpoint(tmp_path / "c")
    callback.log_trial_start(trial)
    callback.log_trial_save(trial)
    callback.log_trial_result(0, trial, {"training_iteration": 1, "picture": np.zeros((3, 2, 2))})
    callback.close()
    assert calls(log, "Artifact().add_dir") == [((str(tmp_path / "c"),), {})]
    assert calls(log, "Image")[0][1] == {"caption": "c"}


def test_mlflow_has_a_run_for_each_trial_and_one_call_for_each_report(monkeypatch, log, tmp_path):
    entities = SimpleNamespace(Metric=lambda *args: ("metric", *args), Param=lambda *args: ("param", *args))
    installed(monkeypatch, log, "mlflow", entities=entities)
    trial = make_trial(tmp_path)
    callback = MLflowLoggerCallback("uri", experiment_name="e", tags={"a": "b"}, save_artifact=True)
    (tmp_path / "trial_0").mkdir()
    run(callback, trial)
    ((_, about),) = calls(log, "MlflowClient().create_run")
    assert about["run_name"] == str(trial) and about["tags"] == {"a": "b", "trial_name": str(trial)}
    sent = [kwargs for _, kwargs in calls(log, "MlflowClient().log_batch")]
    assert sent[0]["params"] == [("param", "lr", "0.1"), ("param", "opt/momentum", "0.9")]
    assert [(one[1], one[2], one[4]) for one in sent[1]["metrics"]] == [
        ("loss", 0.5, 1), ("done", 0.0, 1), ("eval/acc", 0.25, 1),
    ]  # fmt: skip
    assert len(sent) == 3
    assert calls(log, "MlflowClient().log_artifacts")[0][0][1] == trial.path
    assert calls(log, "MlflowClient().set_terminated")[0][1] == {"status": "FINISHED"}


def test_mlflow_finds_its_experiment_or_makes_it_or_says_what_is_missing(monkeypatch):
    for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    made = []
    client = SimpleNamespace(
        get_experiment=lambda i: SimpleNamespace(experiment_id=i),
        get_experiment_by_name=lambda n: SimpleNamespace(experiment_id=3) if n == "there" else None,
        create_experiment=lambda n, artifact_location: made.append((n, artifact_location)) or 4,
    )
    assert find_experiment(client, "9", None, make=False) == "9"
    assert find_experiment(client, None, "there", make=False) == "3"
    assert find_experiment(client, None, "new", make=True, place="s3://b") == "4" and made == [("new", "s3://b")]
    with pytest.raises(ValueError, match="create_experiment_if_not_exists"):
        find_experiment(client, None, "new", make=False)
    with pytest.raises(ValueError, match="give experiment_name"):
        find_experiment(client, None, None, make=True)


def test_comet_has_an_experiment_for_each_trial(monkeypatch, log, tmp_path):
    installed(monkeypatch, log, "comet_ml", "config")
    trial = make_trial(tmp_path)
    run(CometLoggerCallback(online=False, tags=["t"], workspace="w"), trial)
    assert not calls(log, "Experiment")
    made = calls(log, "OfflineExperiment")[0][1]
    assert made["workspace"] == "w" and made["log_env_gpu"] is False
    assert calls(log, "OfflineExperiment().add_tags") == [((["t"],), {})]
    assert calls(log, "OfflineExperiment().log_parameters")[0][0][0] == {"lr": 0.1, "opt/momentum": 0.9}
    metrics = calls(log, "OfflineExperiment().log_metrics")
    assert metrics[0] == (({"training_iteration": 1, "loss": 0.5, "name": "x", "eval/acc": 0.25},), {"step": 1})
    assert calls(log, "OfflineExperiment().log_system_info") == [(("pid", 7), {}), (("hostname", "n1"), {})]
    assert calls(log, "OfflineExperiment().end")


def test_aim_has_a_run_for_each_trial(monkeypatch, log, tmp_path):
    installed(monkeypatch, log, "aim")
    with pytest.raises(ValueError, match="leave it out"):
        AimLoggerCallback(metrics=[])
    trial = make_trial(tmp_path / "sweep")
    run(AimLoggerCallback(metrics=["loss", "eval/acc"]), trial)
    assert calls(log, "Run") == [((), {"repo": str(tmp_path / "sweep"), "experiment": "sweep"})]
    assert calls(log, "Run()[hparams]") == [(({"lr": 0.1},), {})]
    tracked = [(kwargs["name"], kwargs["value"], kwargs["step"]) for _, kwargs in calls(log, "Run().track")]
    assert tracked == [
        ("ray/tune/loss", 0.5, 1), ("ray/tune/eval/acc", 0.25, 1), ("ray/tune/loss", 0.4, 2),
        ("ray/tune/eval/acc", 0.5, 2),
    ]  # fmt: skip
    assert calls(log, "Run().close")


def test_a_function_begins_a_run_with_the_names_of_its_trial(monkeypatch, log, tmp_path):
    installed(monkeypatch, log, "wandb")
    entities = SimpleNamespace(Param=lambda *args: args)
    installed(monkeypatch, log, "mlflow", entities=entities, active_run=lambda: None)
    monkeypatch.setenv("WANDB_MODE", "offline")
    session = TrialSession("sweep", "train_1", "1", None, str(tmp_path))
    monkeypatch.setattr(context.state, "session", session)
    setup_wandb({"lr": 1}, project="p")
    assert calls(log, "init") == [
        ((), {"resume": "allow", "id": "1", "name": "train_1", "group": "sweep", "config": {"lr": 1}, "project": "p"})
    ]
    mlflow = setup_mlflow({"lr": 1}, experiment_id="9", tags={"a": 1})
    assert mlflow is sys.modules["mlflow"]
    assert calls(log, "start_run")[0][1]["run_name"] == "train_1"
    assert calls(log, "MlflowClient().log_batch")[0][1] == {"params": [("lr", "1")]}
    rank = SimpleNamespace(get_context=lambda: SimpleNamespace(get_world_rank=lambda: 1))
    monkeypatch.setitem(sys.modules, "hpc.train.loop", rank)
    setup_wandb(project="p")
    assert calls(log, "init")[-1] == ((), {"mode": "disabled"})
    nothing = setup_mlflow(experiment_name="e")
    assert nothing.log_metric("a", 1) is None and nothing.entities.Metric("x") is None
    assert len(calls(log, "start_run")) == 1


def test_a_slow_service_holds_up_no_trial_and_the_end_waits_for_it(caplog):
    go, done = threading.Event(), []

    class Slow(TrackingCallback):
        def log_trial_result(self, iteration, trial, result):
            self._later(self._send, iteration)

        def _send(self, number):
            go.wait(30)
            if number == 1:
                raise OSError("no connection")
            done.append(number)

    slow = Slow()
    begun = time.monotonic()
    for number in range(3):
        slow.log_trial_result(number, None, {})
    assert time.monotonic() - begun < 5 and not done
    go.set()
    slow.close()
    assert done == [0, 2], "one that fails is told, and the next follows"
    assert "no connection" in caplog.text
    waiting = Slow(send_timeout_s=0.05)
    go.clear()
    waiting.log_trial_result(0, None, {})
    waiting.close()
    assert "has not sent all" in caplog.text
    go.set()
