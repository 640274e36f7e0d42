"""The example with a language model, as its user runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openai", reason="the client of OpenAI is not installed here")
pytest.importorskip("httptools", reason="the doors of Serve need httptools")
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "serve_llm.py"


@pytest.mark.parametrize("engine", ["toy", "hf"])
def test_a_conversation(engine: str) -> None:
    if engine == "hf":
        pytest.importorskip("transformers", reason="the engine 'hf' needs transformers")
        pytest.importorskip("torch", reason="the engine 'hf' needs torch")
    command = [sys.executable, str(EXAMPLE), "--engine", engine, "--tokens", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert "models: ['model']" in done.stdout
    counts = re.findall(r"\((\d+) tokens\)", done.stdout)
    assert len(counts) == 3 and all(0 < int(count) <= 20 for count in counts), done.stdout
