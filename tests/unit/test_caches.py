"""Compilers' caches: where they are on nodes, and the archive between jobs, whatever befalls it."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from pathlib import Path

import pytest

from hpc.core.node import caches


def fill(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / "triton" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_cache_that_the_user_has_placed_stays_there():
    found = caches.environment("/n/caches", {"TRITON_CACHE_DIR": "/home/u/.triton"})
    assert "TRITON_CACHE_DIR" not in found
    assert found["TORCHINDUCTOR_CACHE_DIR"] == "/n/caches/inductor"


def test_what_one_job_has_compiled_the_next_one_begins_with(tmp_path: Path):
    archive, first, second = str(tmp_path / "a"), fill(tmp_path / "1", k1="x"), tmp_path / "2"
    assert caches.unpack(archive, str(first)) == 0, "there is none yet"
    assert caches.pack(archive, str(first)) == 1
    assert caches.unpack(archive, str(second)) == 1
    assert (second / "triton/k1").read_text() == "x"
    before = os.stat(tmp_path / "a" / caches.ARCHIVE).st_ino
    assert caches.pack(archive, str(second)) == 0
    assert os.stat(tmp_path / "a" / caches.ARCHIVE).st_ino == before, "nothing new: nothing is written"


def test_what_another_job_has_added_meanwhile_is_taken_over(tmp_path: Path):
    archive = str(tmp_path / "a")
    caches.pack(archive, str(fill(tmp_path / "1", k1="x")))
    caches.pack(archive, str(fill(tmp_path / "2", k2="y")))
    caches.unpack(archive, str(tmp_path / "3"))
    assert names(tmp_path / "3") == ["k1", "k2"]


def test_two_jobs_that_pack_at_once_leave_a_whole_archive(tmp_path: Path):
    archive = str(tmp_path / "a")
    work = [
        threading.Thread(target=caches.pack, args=(archive, str(fill(tmp_path / f"{n}", **{f"k{n}": "x" * 99_999}))))
        for n in range(6)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert caches.unpack(archive, str(tmp_path / "out")) >= 1
    assert os.listdir(archive) == [caches.ARCHIVE]


@pytest.mark.parametrize("damage", ["short", "bits", "empty", "text"])
def test_a_damaged_archive_is_said_and_written_anew(tmp_path: Path, damage: str):
    archive, path = str(tmp_path / "a"), tmp_path / "a" / caches.ARCHIVE
    caches.pack(archive, str(fill(tmp_path / "1", **{f"k{n}": os.urandom(9999).hex() for n in range(9)})))
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes({
        "short": data[:middle], "bits": data[:middle] + bytes(99) + data[middle + 99 :], "empty": b"", "text": b"no",
    }[damage])  # fmt: skip
    with pytest.raises(ValueError, match="damaged"):
        caches.unpack(archive, str(tmp_path / "2"))
    assert names(tmp_path / "2") == [], "half a cache is worse than none"
    assert caches.pack(archive, str(fill(tmp_path / "2", mine="z"))) >= 1
    assert caches.unpack(archive, str(tmp_path / "3")) >= 1
    assert (tmp_path / "3/triton/mine").read_text() == "z"


def test_nothing_leaves_the_folder_that_it_is_unpacked_into(tmp_path: Path):
    (tmp_path / "a").mkdir()
    with tarfile.open(tmp_path / "a" / caches.ARCHIVE, "w:gz") as tar:
        for name in ("../out", "/tmp/abs", "good"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert caches.unpack(str(tmp_path / "a"), str(tmp_path / "in")) == 1
    assert names(tmp_path / "in") == ["good"] and not (tmp_path / "out").exists()


def test_what_is_written_just_now_and_the_oldest_beyond_the_limit_stay_out(tmp_path: Path):
    folder = fill(tmp_path / "1", old="x" * 10, new="y" * 10)
    fill(folder, **{"half.tmp": "", "some.lock": ""})
    os.utime(folder / "triton/old", (1, 1))
    assert caches.pack(str(tmp_path / "a"), str(folder), most_bytes=15) == 1
    caches.unpack(str(tmp_path / "a"), str(tmp_path / "2"))
    assert names(tmp_path / "2") == ["new"]
