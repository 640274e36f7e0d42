"""The runner of the tests: lanes share the files among them, and lose nothing that one of them says."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

LANES = Path(__file__).resolve().parents[1] / "lanes.py"

#: Each of two files waits in its first test for the first test of the other.
MEETS = """
import os, time
from pathlib import Path

import pytest

def note(what):
    with open(Path(__file__).parent / "ran", "a") as out:
        out.write(f"{Path(__file__).stem} {what}\\n")

def test_meets():
    note("meets")
    until = time.monotonic() + 60
    while len(Path(__file__).with_name("ran").read_text().splitlines()) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)

@pytest.fixture(scope="module")
def once():
    note("made")
    yield
    note("ended")

@pytest.mark.parametrize("n", [1, 2])
def test_more(once, n):
    note(n)
"""


def lanes(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    # Plugins that happen to be installed take each lane a second of CPU.
    given = {**os.environ, "HPC_TEST_LANES": "2", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **env}
    for name in ("HPC_TEST_CLAIMS", "HPC_TEST_SHARED_MACHINE"):
        if name not in env:
            given.pop(name, None)
    command = [sys.executable, str(LANES), "-q", str(folder)]
    return subprocess.run(command, env=given, cwd=folder, capture_output=True, text=True, timeout=120)


def test_two_files_run_side_by_side_and_each_test_once(tmp_path: Path) -> None:
    for name in ("test_a", "test_b"):
        (tmp_path / f"{name}.py").write_text(MEETS)
    done = lanes(tmp_path, HPC_TEST_SHARED_MACHINE="1")
    assert done.returncode == 0, done.stdout + done.stderr
    ran = (tmp_path / "ran").read_text().splitlines()
    for name in ("test_a", "test_b"):
        assert [line for line in ran if line.startswith(name)] == [
            f"{name} {what}" for what in ("meets", "made", "1", "2", "ended")
        ]
    assert done.stdout.count("3 passed") == 2, done.stdout


def test_files_have_the_fixtures_of_their_folder(tmp_path: Path) -> None:
    """Here the folder is not that of the settings, for whose fixtures pytest makes an exception."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "conftest.py").write_text("import pytest\n\n@pytest.fixture\ndef given():\n    return 3\n")
    for name in ("test_a", "test_b"):
        (folder / f"{name}.py").write_text("def test_has(given):\n    assert given == 3\n")
    done = lanes(folder, HPC_TEST_SHARED_MACHINE="1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_lane_with_less_priority_runs_what_has_no_session_from_its_end(tmp_path: Path) -> None:
    writes = (
        "import os\n\ndef test_says():\n    with open({!r}, 'a') as out:\n        out.write('{} %d\\n' % os.nice(0))\n"
    )
    waits = "    while not os.path.exists({!r}):\n        time.sleep(0.01)\n\ndef test_more():\n    pass\n"
    said, done_there = tmp_path / "said", tmp_path / "done"
    for name in ("runtime/test_a", "runtime/test_b", "unit/test_c", "unit/test_d"):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        text = writes.format(str(said), name)
        if name.startswith("runtime"):  # both lanes are busy until the third has done the rest
            text = text.replace("import os", "import os, time") + waits.format(str(done_there))
        elif name.endswith("c"):
            text += f"    open({str(done_there)!r}, 'w').close()\n"
        path.write_text(text)
    done = lanes(tmp_path, HPC_TEST_SHARED_MACHINE="1")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in said.read_text().splitlines()]
    usual = os.nice(0)
    there = [(name, int(nice)) for name, nice in lines if name.startswith("unit")]
    assert there == [(name, min(19, usual + 5)) for name in ("unit/test_d", "unit/test_c")]
    assert {int(nice) for name, nice in lines if name.startswith("runtime")} == {usual}


def test_a_further_lane_follows_the_one_with_less_priority(tmp_path: Path) -> None:
    """Three files wait for each other: the third one runs when the file without sessions has ended."""
    meets = """
import os, time
from pathlib import Path

def test_meets():
    here = Path(__file__).parent
    (here / f"{Path(__file__).stem}.ran").touch()
    until = time.monotonic() + 60
    while len(list(here.glob("*.ran"))) < 3:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert os.nice(0) == int(os.environ["USUAL_NICE"])

def test_more():
    pass  # a lane takes its next file when it begins with the last test of one
"""
    for folder in ("runtime", "unit"):
        (tmp_path / folder).mkdir()
    for name in ("test_a", "test_b", "test_c"):
        (tmp_path / "runtime" / f"{name}.py").write_text(meets)
    (tmp_path / "unit" / "test_d.py").write_text("def test_nothing():\n    pass\n")
    done = lanes(tmp_path, HPC_TEST_SHARED_MACHINE="1", USUAL_NICE=str(os.nice(0)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n4  2 passed" in done.stdout, done.stdout


def test_a_failure_in_either_lane_and_what_stays_on_the_machine_fail_the_run(tmp_path: Path) -> None:
    left = Path("/dev/shm", f"hpc-lanes-{uuid.uuid4().hex}")
    (tmp_path / "test_good.py").write_text(f"def test_leaves():\n    open({str(left)!r}, 'w').close()\n")
    (tmp_path / "test_wrong.py").write_text("def test_fails():\n    assert False, 'as it must'\n")
    try:
        done = lanes(tmp_path, HPC_TEST_SHARED_MACHINE="1")
        assert done.returncode == 1 and "as it must" in done.stdout, done.stdout
        left.unlink()
        (tmp_path / "test_wrong.py").unlink()
        done = lanes(tmp_path, HPC_TEST_LEFT_S="0")
        assert done.returncode == 1 and str(left) in done.stdout, done.stdout
    finally:
        left.unlink()
