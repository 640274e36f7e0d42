"""Why a program could not be started, in words that are about the right file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hpc.core.node.process import why_not_run
from hpc.launch.work import Driver
from hpc.settings.errors import CliError


@pytest.mark.parametrize(
    ("text", "why", "code"),
    [
        ("#!/nowhere/sh -e\n", "its first line names '/nowhere/sh', which is not on this machine", "NOT-EXECUTABLE"),
        ("echo\n", "it is no program of this machine, nor a script", "NOT-EXECUTABLE"),
        (None, "No such file or directory", "NO-SCRIPT"),
    ],
)
def test_a_program_that_cannot_be_run_says_why(tmp_path: Path, text: str | None, why: str, code: str) -> None:
    program = tmp_path / "a program"
    if text is not None:
        program.write_text(text)
        program.chmod(0o755)
    with pytest.raises(OSError) as failed:
        subprocess.run([str(program)], check=False)
    assert why_not_run(str(program), failed.value).startswith(why)
    with pytest.raises(CliError) as caught:
        Driver([str(program)], os.environ)
    assert caught.value.code == code and caught.value.why.startswith(why)
