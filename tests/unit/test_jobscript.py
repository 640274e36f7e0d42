"""A line of --setup that fails ends the job script and is named; what only looks like a failure does not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hpc.launchers.jobscript import FAILED, FOLDER_FAILED, folder_lines, setup_lines


def run(folder: Path, *setup: str) -> tuple[int, str, str]:
    """The exit code of a job script with these lines, what its command printed, and what was said of a failure."""
    (folder / "fails.sh").write_text("false\nexport FROM=file\n")
    script = folder / "job.sh"
    script.write_text("\n".join(["#!/bin/bash", *setup_lines(setup), "exec bash -c 'echo ran $A $FROM; exit 5'", ""]))
    done = subprocess.run(["bash", script], cwd=folder, capture_output=True, text=True, timeout=20)
    said = [line.removeprefix(FAILED) for line in done.stderr.splitlines() if line.startswith(FAILED)]
    return done.returncode, done.stdout.strip(), " ".join(said)


@pytest.mark.parametrize(
    ("setup", "code", "said"),
    [
        (["export A=1", "ls /nowhere"], 2, " with exit code 2: ls /nowhere"),
        (["module() { return 7; }", "module load foo  # ours"], 7, " with exit code 7: module load foo  # ours"),
        (["nosuchcommand 'a b'"], 127, " with exit code 127: nosuchcommand 'a b'"),
        ([". nosuchfile.sh"], 1, " with exit code 1: . nosuchfile.sh"),
        (["exit 3"], 3, ": it ended with exit code 3"),
    ],
)
def test_a_line_that_fails_ends_the_job_and_is_named(tmp_path: Path, setup: list[str], code: int, said: str) -> None:
    assert run(tmp_path, *setup) == (code, "", said)


@pytest.mark.parametrize(
    "setup",
    [
        [],
        ["export A=1"],
        [". ./fails.sh"],  # a file that is read may try things
        ["ls /nowhere || true"],
        ["test -d /nowhere && cd /nowhere"],
        ["if ls /nowhere", "then", "exit 9", "fi"],
        ["ls /nowhere | cat"],
        ["f() { false; true; }", "f"],
    ],
)
def test_other_lines_go_on_to_the_command_whose_exit_code_is_the_jobs(tmp_path: Path, setup: list[str]) -> None:
    code, printed, said = run(tmp_path, *setup)
    assert (code, printed.split()[0], said) == (5, "ran", "")


def test_what_the_lines_set_reaches_the_command(tmp_path: Path) -> None:
    assert run(tmp_path, "export A='a b'", ". ./fails.sh")[1] == "ran a b file"


def test_a_job_whose_folder_is_gone_runs_nothing_elsewhere(tmp_path: Path) -> None:
    """Else its script would be looked for where the scheduler has put it: in /tmp, say, where others write, too."""
    (tmp_path / "train.py").write_text("print('a stranger')")
    for folder in ("is gone", "it's # gone"):
        script = tmp_path / "job.sh"
        script.write_text("\n".join(["#!/bin/bash", *folder_lines(str(tmp_path / folder)), "exec cat train.py", ""]))
        done = subprocess.run(["bash", script], cwd=tmp_path, capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{FOLDER_FAILED}: {tmp_path / folder} (it was removed" in done.stderr
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.py").write_text("ours")
        assert subprocess.run(["bash", script], cwd=tmp_path, capture_output=True, timeout=20).stdout == b"ours"
