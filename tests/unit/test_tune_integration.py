"""Callbacks of other libraries report what a trial's function would."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import pytest

from hpc.tune.integration import boosting, lightgbm, xgboost

CALLBACKS = [
    pytest.param(xgboost, id="xgboost"),
    pytest.param(lightgbm, id="lightgbm"),
]


@pytest.fixture
def reports(monkeypatch):
    """What is reported: the metrics, and the names of the files of the checkpoint."""
    seen = []

    def report(metrics, checkpoint=None):
        seen.append((metrics, sorted(path.name for path in Path(checkpoint.path).iterdir()) if checkpoint else None))

    monkeypatch.setattr(boosting, "report", report)
    return seen


def train(module, rounds, **arguments):
    """Train on four rows that say nothing, with the library itself."""
    numpy = pytest.importorskip("numpy")
    x, y = numpy.arange(40.0).reshape(20, 2), numpy.arange(20) % 2
    callback = module.TuneReportCheckpointCallback(**arguments)
    if module is xgboost:
        library = pytest.importorskip("xgboost")
        data = library.DMatrix(x, y)
        parameters = {"objective": "binary:logistic", "nthread": 1}
        library.train(parameters, data, rounds, evals=[(data, "eval")], callbacks=[callback], verbose_eval=False)
    else:
        library = pytest.importorskip("lightgbm")
        data = library.Dataset(x, y)
        parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 1}
        library.train(parameters, data, rounds, valid_sets=[data], valid_names=["eval"], callbacks=[callback])


def of(module):
    return "eval-logloss" if module is xgboost else "eval-binary_logloss"


@pytest.mark.parametrize("module", CALLBACKS)
def test_each_iteration_is_reported_and_the_model_as_often_as_it_was_asked_for(module, reports):
    pytest.importorskip(module.__name__.rpartition(".")[2])
    train(module, 5, metrics={"loss": of(module)}, frequency=2, filename="model.json")
    saved = [number for number, (_, files) in enumerate(reports) if files == ["model.json"]]
    assert saved == ([1, 3, 5] if module is xgboost else [1, 3, 4])
    assert all(set(metrics) == {"loss"} and 0 < metrics["loss"] < 1 for metrics, _ in reports)


@pytest.mark.parametrize("module", CALLBACKS)
def test_a_model_that_the_last_iteration_has_reported_is_not_reported_again(module, reports):
    pytest.importorskip(module.__name__.rpartition(".")[2])
    train(module, 4, frequency=2, results_postprocessing_fn=lambda found: {"sum": sum(found.values())})
    assert len(reports) == 4 and set(reports[0][0]) == {"sum"}


@pytest.mark.parametrize("module", CALLBACKS)
def test_a_metric_that_is_not_there_is_an_error_that_names_those_that_are(module, reports):
    pytest.importorskip(module.__name__.rpartition(".")[2])
    with pytest.raises(KeyError, match=f"no metric lost; there are {of(module)}"):
        train(module, 1, metrics="lost")


@pytest.mark.parametrize("module", CALLBACKS)
def test_without_the_library_the_error_says_what_to_install(module, monkeypatch):
    name = module.__name__.rpartition(".")[2]
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"pip install {name}"):
        module.TuneReportCheckpointCallback()


class Value:
    """A tensor of one number."""

    def item(self):
        return 0.5


class FakeTrainer:
    """What the callback asks of Lightning's Trainer."""

    sanity_checking = False

    def __init__(self):
        self.callback_metrics = {"val_loss": Value(), "other": Value()}

    def save_checkpoint(self, path):
        Path(path).write_text("state")


@pytest.fixture
def lightning(monkeypatch):
    """The module with a stand-in for Lightning."""

    class Callback:
        def on_validation_end(self, trainer, pl_module):
            """Nothing."""

        def on_train_end(self, trainer, pl_module):
            """Nothing."""

    stand_in = types.ModuleType("lightning.pytorch")
    stand_in.Callback = Callback
    monkeypatch.setitem(sys.modules, "lightning", types.ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", stand_in)
    name = "hpc.tune.integration.pytorch_lightning"
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module(name)
    sys.modules.pop(name, None)


def test_lightning_reports_at_its_hook_alone(lightning, monkeypatch, reports):
    monkeypatch.setattr(lightning, "report", boosting.report)
    callback = lightning.TuneReportCheckpointCallback({"loss": "val_loss"}, "state.ckpt")
    trainer = FakeTrainer()
    callback.on_train_end(trainer, None)
    callback.on_validation_end(trainer, None)
    assert reports == [({"loss": 0.5}, ["state.ckpt"])]
    trainer.sanity_checking = True
    callback.on_validation_end(trainer, None)
    assert len(reports) == 1
    lightning.TuneReportCheckpointCallback(save_checkpoints=False, on=["train_end"]).on_train_end(FakeTrainer(), None)
    assert reports[1] == ({"val_loss": 0.5, "other": 0.5}, None)
    with pytest.raises(ValueError, match="no hook 'lunch'; there are train_end, validation_end"):
        lightning.TuneReportCheckpointCallback(on="lunch")
