"""The programs of docs/libraries.md do what the page says: each line that prints has what it prints beside it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "libraries.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_of_the_page_prints_what_stands_beside_it(program, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(program)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=90, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = [line.partition("  # ")[2] for line in program.splitlines() if line.lstrip().startswith("print(")]
    printed = done.stdout.splitlines()
    assert len(printed) == len(said)
    for line, text in zip(printed, said):
        assert line in text
