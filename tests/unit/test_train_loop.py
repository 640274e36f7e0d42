"""One rank's loop without a session: events, the barrier, errors; and what the driver shows."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

import hpc.train
from hpc import spi
from hpc.exceptions import ActorDiedError
from hpc.runs.uploading import Place
from hpc.train import Checkpoint, CheckpointUploadMode, Progress, RunConfig, ScalingConfig, TrainRunContext
from hpc.train.errors import ControllerError
from hpc.train.events import Complete, Raised, Reported, Returned
from hpc.train.group import failure
from hpc.train.loop import Loop, Work, state
from hpc.train.ranks import Identity

HERE = Checkpoint(".")


def above_the_run():
    return Checkpoint(hpc.train.get_context().get_storage().storage_path)


@pytest.fixture
def loop(monkeypatch, tmp_path):
    identity = Identity(0, 2, 0, 1, 0, 2, "1", "127.0.0.1")
    loop = Loop(identity, Place(str(tmp_path), "run", "token"), 0, None)
    monkeypatch.setattr(state, "loop", loop)
    return loop


def take(loop):
    return loop.events.get(timeout=10)


def test_a_report_returns_when_the_driver_accepts_it(loop):
    order = []

    def function():
        hpc.train.report({"a": 1})
        order.append("reported")
        return "value"

    loop.start(Work(function))
    assert take(loop) == Reported(1, {"a": 1})
    assert order == []
    loop.tell([Complete(1)])
    assert take(loop) == Returned("value")
    assert order == ["reported"]


def test_the_checkpoint_that_was_made_is_the_one_to_go_on_from(loop):
    def function():
        assert hpc.train.get_checkpoint() is None
        hpc.train.report({})
        return hpc.train.get_checkpoint()

    loop.start(Work(function))
    take(loop)
    loop.tell([Complete(1, "/somewhere/checkpoint_000000")])
    assert take(loop).value.path == "/somewhere/checkpoint_000000"


def test_the_configuration_is_given_to_those_who_take_it(loop):
    for function, config, value in (
        (lambda: 1, None, 1),
        (lambda config: config, {"lr": 2}, {"lr": 2}),
        (lambda config: config, None, {}),
        (lambda config=None: config, {"lr": 2}, {"lr": 2}),
        (lambda config=None: config, None, None),
        (lambda config, lr=1: (config, lr), None, ({}, 1)),
        (lambda *args: args, None, ({},)),
    ):
        loop.start(Work(function, config))
        assert take(loop) == Returned(value)


def test_an_exception_comes_with_the_users_frames_only(loop):
    def function():
        raise KeyError("lost")

    loop.start(Work(function))
    event = take(loop)
    assert isinstance(event, Raised)
    assert "KeyError: 'lost'" in event.traceback
    assert "in function" in event.traceback
    assert "loop.py" not in event.traceback.replace("test_train_loop.py", "")
    assert isinstance(spi.unpickled_error(event.error), KeyError)


def test_an_exception_that_does_not_pickle_comes_as_text(loop):
    def function():
        raise RuntimeError(lambda: None, (i for i in ()))

    loop.start(Work(function))
    event = take(loop)
    assert "RuntimeError" in event.text
    assert isinstance(spi.unpickled_error(event.error), RuntimeError)  # without what is in the way


class _Mute(Exception):
    def __str__(self):
        raise ValueError("no text")


class _Deadly(Exception):
    def __reduce__(self):
        return sys.exit, (5,)


def _recursion():
    return _recursion()


def _closes_its_output():
    sys.stdout = open(os.devnull, "w")
    sys.stdout.close()
    return "done"


@pytest.mark.parametrize(
    ("kind", "text"),
    [(_Mute, "_Mute"), (_Deadly, "_Deadly"), (GeneratorExit, "GeneratorExit"), (RecursionError, "max")],
)
def test_the_driver_hears_of_every_exception_whatever_its_class_does(loop, kind, text):
    def function():
        if kind is RecursionError:
            _recursion()
        raise kind

    loop.start(Work(function))
    event = take(loop)
    assert isinstance(event, Raised)
    assert text in event.traceback


def test_an_exception_with_a_very_long_text_is_shortened(loop):
    def function():
        raise ValueError("x" * 20_000_000)

    loop.start(Work(function))
    event = take(loop)
    assert len(event.traceback) < 2 << 20
    assert len(event.error) < 1 << 20
    assert len(str(failure({0: (ValueError("y" * 20_000_000), event.traceback)}))) < 2 << 20


def test_a_failure_without_words_is_named_by_its_class():
    assert str(ControllerError(MemoryError())).endswith("\nMemoryError")
    assert "text cannot be made" in str(ControllerError(_Mute()))
    assert "_Mute" in str(failure({0: (_Mute(), "text"), 1: (_Mute(), "text")}))


def test_a_function_that_has_closed_its_output_returns(loop, monkeypatch):
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    loop.start(Work(_closes_its_output))
    assert take(loop) == Returned("done")


def test_a_process_that_a_rank_has_forked_cannot_report(loop):
    def function():
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            try:
                hpc.train.report({})
            except BaseException as error:
                os.write(write, str(error).encode())
            os._exit(0)
        os.close(write)
        os.waitpid(child, 0)
        return os.read(read, 1000).decode()

    loop.start(Work(function))
    assert "forked" in take(loop).value


@pytest.mark.parametrize(("code", "kind"), [(0, Returned), (None, Returned), (3, Raised)])
def test_exit_codes(loop, code, kind):
    def function():
        raise SystemExit(code)

    loop.start(Work(function))
    assert isinstance(take(loop), kind)


def test_a_value_that_does_not_pickle_is_a_failure(loop):
    loop.start(Work(lambda: (i for i in ())))
    assert "pickle" in take(loop).text


def test_context(loop):
    context = hpc.train.get_context()
    assert (context.get_world_size(), context.get_world_rank(), context.get_local_rank()) == (2, 0, 0)
    assert (context.get_local_world_size(), context.get_node_rank(), context.get_experiment_name()) == (1, 0, "run")
    assert context.get_storage().experiment_fs_path.endswith("/run")


def test_outside_of_a_training_function():
    for call in (hpc.train.get_context, hpc.train.get_checkpoint, lambda: hpc.train.report({})):
        with pytest.raises(RuntimeError, match="training function"):
            call()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: hpc.train.report([1]), TypeError, "dict"),
        (lambda: hpc.train.report({"a": {(1, 2): 3}}), TypeError, r"metrics\['a'\] has a key \(1, 2\)"),
        (lambda: hpc.train.report({"a": [threading.Lock()]}), TypeError, r"metrics\['a'\]\[0\] is a lock"),
        (lambda: hpc.train.report({"a": 10**5000}), ValueError, r"metrics\['a'\] is an integer of \d+ bits"),
        (lambda: hpc.train.report({}, checkpoint="/tmp"), TypeError, "Checkpoint"),
        (lambda: hpc.train.report({}, checkpoint_upload_mode="SYNC"), TypeError, "CheckpointUploadMode"),
        (lambda: hpc.train.report({}, validation=True), ValueError, "needs a checkpoint"),
        (lambda: hpc.train.report({}, HERE, validation=True), ValueError, "needs validation_config"),
        (lambda: hpc.train.report({}, HERE, validation={}), TypeError, "ValidationTaskConfig"),
        (
            lambda: hpc.train.report({}, HERE, checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD),
            ValueError,
            "must be in the run's directory",
        ),
        (
            lambda: hpc.train.report(
                {},
                Checkpoint(hpc.train.get_context().get_storage().storage_path),
                delete_local_checkpoint_after_upload=True,
            ),
            ValueError,
            "which is to be deleted",
        ),
        (lambda: hpc.train.get_all_reported_checkpoints("VALIDATED"), TypeError, "CheckpointConsistencyMode"),
        (lambda: hpc.train.report({}, checkpoint_dir_name="../x"), ValueError, "name of a directory"),
        (lambda: hpc.train.get_dataset_shard("train"), KeyError, "no dataset 'train' was given to the trainer"),
    ],
)
def test_what_cannot_be_done_is_said(loop, call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_tensors_are_no_metrics(loop):
    fake = type("Tensor", (), {"__module__": "torch"})()
    with pytest.raises(ValueError, match=r"metrics\['loss'\]\[1\] is a Tensor: .*item"):
        hpc.train.report({"loss": [1.0, fake]})


def test_the_process_that_died_is_named_first():
    error = failure({0: (ConnectionError("reset by peer"), "trace of 0"), 3: (ActorDiedError("killed"), "it died")})
    assert str(error).endswith("\nrank 3 failed:\nit died")
    assert "1 other rank failed as well (rank 0: ConnectionError: reset by peer)" in str(error)
    assert set(error.worker_failures) == {0, 3}


def test_an_exception_that_only_tells_of_a_lost_peer_is_not_the_cause():
    lost = "Traceback\nRuntimeError: [pair.cc:561] Connection closed by peer [10.0.0.1]:43170"
    error = failure({0: (RuntimeError("closed"), lost), 1: (KeyError("weight"), "Traceback\nKeyError: 'weight'")})
    assert str(error).endswith("rank 1 failed:\nTraceback\nKeyError: 'weight'")
    assert error.__cause__ is None  # it would be shown once more


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    context = TrainRunContext(RunConfig(), ScalingConfig(), None)
    progress = Progress(total=9, key="step", description="steps")
    progress.start()
    for step in (3, 6, 9):
        progress.after_report(context, [{"step": step, "loss": 1 / step, "list": [1]}], None)
    progress.stop()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("  (")[0] for line in lines] == [
        "steps: step 3/9  loss=0.3333",
        "steps: step 9/9  loss=0.1111",
    ]
