"""Where a job's output begins in a file that was there before it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hpc.launch.old_output import TAIL, OldOutput


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "out.txt"
    found.write_bytes(b"of yesterday\n")
    os.utime(found, ns=(1, 1))
    return found


def known(path: Path) -> OldOutput:
    """What the file has, by way of JSON."""
    old = OldOutput.of(path)
    assert old is not None
    read = OldOutput.read(json.loads(json.dumps(old.kept())))
    assert read == old
    return old


def test_a_file_that_nobody_touched_has_no_output_yet(path: Path) -> None:
    assert known(path).begin(path) is None


def test_a_missing_file_has_no_output_yet(path: Path) -> None:
    old = known(path)
    path.unlink()
    assert old.begin(path) is None


def test_what_is_appended_begins_behind_the_old(path: Path) -> None:
    old = known(path)
    with path.open("ab") as file:
        file.write(b"of today\n")
    begin = old.begin(path)
    assert begin == 13 and path.read_bytes()[begin:] == b"of today\n"


@pytest.mark.parametrize("text", [b"", b"short", b"of tomorrow!\n", b"another output that is longer\n"])
def test_a_file_that_was_begun_anew_is_all_output(path: Path, text: bytes) -> None:
    old = known(path)
    path.write_bytes(text)
    assert old.begin(path) == 0


def test_the_same_output_again_is_output(path: Path) -> None:
    """As of a job whose output is copied to its place at once, when it has ended."""
    old = known(path)
    path.write_bytes(b"of yesterday\n")
    assert old.begin(path) == 0


def test_a_file_of_the_same_end_and_another_size_is_all_output(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_bytes(b"a" * (2 * TAIL))
    old = known(path)
    path.write_bytes(b"a" * (TAIL + 1))
    os.utime(path, ns=(1, 1))
    assert old.begin(path) == 0


def test_output_up_to_a_place_counts_however_old_it_is(path: Path) -> None:
    old = OldOutput.up_to(path, 3)
    assert old is not None and old.begin(path) == 3


@pytest.mark.parametrize("text", [None, b""])
def test_nothing_was_there(tmp_path: Path, text: bytes | None) -> None:
    path = tmp_path / "new.txt"
    if text is not None:
        path.write_bytes(text)
    assert OldOutput.of(path) is None and OldOutput.up_to(path, 0) is None


@pytest.mark.parametrize("kept", [None, [], {"size": 3}, {"size": "x", "mtime_ns": 1, "digest": ""}])
def test_what_is_no_record_is_none(kept: object) -> None:
    assert OldOutput.read(kept) is None
