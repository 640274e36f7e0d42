"""The examples of docs/helpers.md run, and print what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "helpers.md").read_text()
EXAMPLES = dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?```python\n(.*?)```", PAGE, re.S | re.M))


@pytest.mark.parametrize("title", EXAMPLES)
def test_example(title, tmp_path):
    code = EXAMPLES[title]
    if "joblib" in code:
        pytest.importorskip("joblib")
    script = tmp_path / "example.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for said in re.findall(r"print\(.*\) +# ([\[\d].*)$", code, re.M):
        assert said in done.stdout


def test_every_section_has_an_example():
    assert list(EXAMPLES) == re.findall(r"^## (.*)$", PAGE, re.M)
