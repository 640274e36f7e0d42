"""The bench's programs that break a service under load keep their promises, shortened: `bench.serve`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("httptools", reason="the doors of Serve need httptools")
pytest.importorskip("starlette", reason="streams need starlette")

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["proxies", "nodes", "handover", "pressure"])
def test_a_service_that_is_broken_under_load_fails_no_request_that_it_promises(name: str) -> None:
    command = [sys.executable, "-m", f"bench.serve.{name}", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "failed=0" in done.stdout
