"""What is applied to the root logger is taken away again: a worker may serve another driver next."""

import logging

import pytest

import hpc
from hpc.core.process.context import process
from hpc.core.worker import job, logformat

JSON = hpc.LoggingConfig("JSON", "ERROR").to_dict()
TEXT = hpc.LoggingConfig("TEXT", 15).to_dict()


@pytest.fixture
def root():
    yield logging.getLogger()
    logformat.apply(None)


def test_one_takes_the_place_of_another_and_none_leaves_what_was_there(root):
    before, level = list(root.handlers), root.level
    logformat.apply(JSON)
    logformat.apply(TEXT)
    assert len(root.handlers) == len(before) + 1 and root.level == 15
    logformat.apply(None)
    assert root.handlers == before and root.level == level


def test_a_worker_that_gets_another_drivers_job_logs_as_that_says(root, monkeypatch):
    monkeypatch.setattr(process, "working_dir", "/")
    before = list(root.handlers)
    job.enter_job({"logging": JSON})
    assert root.level == logging.ERROR
    job.enter_job({"logging": None})
    assert root.handlers == before


def test_what_makes_no_sense_is_an_error_where_it_is_made():
    for wrong, kind in (
        ({"encoding": "xml"}, ValueError), ({"log_level": "LOUD"}, ValueError), ({"log_level": None}, TypeError),
        ({"additional_log_standard_attrs": ["color"]}, ValueError),
    ):  # fmt: skip
        with pytest.raises(kind):
            hpc.LoggingConfig(**wrong)
