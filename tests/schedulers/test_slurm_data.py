"""Training from tar shards on a real Slurm: an epoch that begins in one job and ends in another, of more nodes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from desk import Desk

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "data_tar.py"
SIZES = ("--shards", "4", "--samples", "64", "--batch", "16", "--every", "5", "--epochs", "1")

pytestmark = [
    pytest.mark.slurm,
    *(
        pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"needs {name}: pip install 'hpc[{extra}]'")
        for name, extra in (("torch", "train"), ("pyarrow", "data"))
    ),
]


def test_a_second_job_with_more_ranks_goes_on_in_the_middle_of_the_epoch(desk: Desk) -> None:
    def job(nodes: int, storage: str, *more: str) -> str:
        program = (str(EXAMPLE), "--folder", str(desk.folder / "shards"), "--storage", str(desk.folder / storage))
        done = desk.launch(f"-N{nodes}", "-c2", "-t2", *program, *SIZES, *more, timeout_s=100.0)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    job(2, "two", "--stop", "7")
    rest = job(4, "two")
    assert "goes on with 4 ranks at step 7: {" in rest, rest
    whole = job(1, "whole")
    assert rest.splitlines()[-1].split(" order ")[1] == whole.splitlines()[-1].split(" order ")[1]
