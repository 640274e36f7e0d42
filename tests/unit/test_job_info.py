"""What is known of a job, as JSON and back."""

from __future__ import annotations

import json

import pytest

from hpc.job_submission import JobErrorType, JobInfo, JobStatus

FAILED = JobInfo(
    "a", "python x.py", JobStatus.FAILED, error_type=JobErrorType.JOB_ENTRYPOINT_COMMAND_ERROR,
    runtime_env={"env_vars": {"A": "1"}}, metadata={"who": "me"}, driver_exit_code=3,
)  # fmt: skip


@pytest.mark.parametrize("info", [FAILED, JobInfo("b", "true", JobStatus.RUNNING)], ids=["failed", "running"])
def test_a_job_comes_back_from_its_json(info: JobInfo) -> None:
    assert JobInfo.from_json(json.loads(json.dumps(info.to_json()))) == info


def test_its_json_has_plain_texts() -> None:
    row = FAILED.to_json()
    assert (row["status"], row["error_type"]) == ("FAILED", "JOB_ENTRYPOINT_COMMAND_ERROR")
    assert json.loads(row["runtime_env_json"]) == {"env_vars": {"A": "1"}} and "runtime_env" not in row


def test_json_of_no_job_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        JobInfo.from_json({**FAILED.to_json(), "status": "nonsense"})
    with pytest.raises(TypeError, match="nonsense"):
        JobInfo.from_json({**FAILED.to_json(), "nonsense": 1})
