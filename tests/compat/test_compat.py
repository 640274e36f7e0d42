"""Programs print here what they print under Ray, line by line, but for what differs on purpose (see README.md)."""

from __future__ import annotations

import difflib
import sys

import pytest

from compat import running

TIMEOUT_S = 60.0
NEEDS = {
    "torch": "PyTorch", "pyarrow": "pyarrow", "joblib": "joblib", "pandas": "pandas", "PIL": "Pillow", "jax": "JAX",
    "datasketches": "datasketches", "fsspec": "fsspec", "fastapi": "fastapi",
    "httptools": "httptools", "wsproto": "wsproto", "gymnasium": "gymnasium", "grpc": "grpcio",
    "grpc_reflection": "grpcio-reflection",
}  # fmt: skip


def needed(name: str) -> list[str]:
    """What a program needs by a line `# needs: torch, python>=3.11`."""
    text = (running.PROGRAMS / f"{name}.py").read_text()
    lines = [line.partition(":")[2] for line in text.splitlines() if line.startswith("# needs:")]
    return [word for line in lines for word in line.replace(",", " ").split()]


@pytest.mark.parametrize("name", running.names())
def test_it_prints_what_it_prints_under_ray(name: str) -> None:
    for what in needed(name):
        library, _, version = what.partition(">=")
        if library == "python":
            if sys.version_info < tuple(map(int, version.split("."))):
                pytest.skip(f"needs {what}")
        else:
            pytest.importorskip(library, reason=f"needs {NEEDS[library]}")
    want = running.expected(name)
    got = running.run(name, sys.executable, ray=False, timeout_s=TIMEOUT_S)
    diff = "\n".join(difflib.unified_diff(want, got, "under Ray", "here", lineterm=""))
    assert got == want, f"\n{diff}\nDifferences on purpose stand in tests/compat/differs/ with their reason."


def test_each_recorded_program_is_there() -> None:
    assert sorted(path.stem for path in running.RECORDED.glob("*.txt")) == running.names()


def test_each_difference_has_its_reason_and_a_name() -> None:
    for row in running.differences():
        assert row.program in running.names(), f"differs/ names {row.program}, which is no program"
        assert row.why.strip() and row.name.startswith("ray."), row


def test_a_line_that_is_another_one_is_seen() -> None:
    assert running.without_chance("ActorHandle(A, 0123456789abcdef0123) pid=12") == "ActorHandle(A, <id>) pid=<pid>"
    assert running.without_chance("hpc.exceptions.RayTaskError") == running.without_chance("ray.exceptions.TaskError")
    assert running.without_chance("3 items") != running.without_chance("4 items")
