"""Caches of compilers, on the nodes' own disks: one folder for each node of a job, and an archive between jobs.

Compilers of kernels keep what they have made in the home folder. A thousand ranks that compile at once then lock and
rename on one file server, and some of them read half a file. On the nodes of a job each cache is in the node's own
directory, and goes with it. Where the user has set its variable, it stays where that says.

With `--cache DIR` they begin with what earlier jobs have compiled: DIR/caches.tar.gz, unpacked by every node ahead of
its first process. At the end the first node adds what is new. The archive is written aside and renamed, so a reader
has a whole one. What another job has added meanwhile is taken over.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import secrets
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO

#: Variables, and the folders that they name here.
TABLE = {
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TORCH_EXTENSIONS_DIR": "torch_extensions",
    "JAX_COMPILATION_CACHE_DIR": "xla",
    "CUDA_CACHE_PATH": "cuda",
    "MIOPEN_USER_DB_PATH": "miopen",
    "MIOPEN_CUSTOM_CACHE_DIR": "miopen",
}
ARCHIVE = "caches.tar.gz"
#: Of the files in an archive: beyond, the oldest stay out.
ARCHIVE_BYTES = 4 << 30
#: What compilers write while they are at it.
UNFINISHED = (".tmp", ".lock", ".partial")
_COPY_BYTES = 1 << 20
#: How an archive that was cut off or overwritten shows.
_DAMAGE = (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error)


def folder_of(directory: str) -> str:
    """Where the caches of a node are, in the node's directory."""
    return os.path.join(directory, "caches")


def environment(folder: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What is to be set on a node, beside what `environ` has set already."""
    return {name: os.path.join(folder, sub) for name, sub in TABLE.items() if name not in environ}


def unpack(archive_dir: str, folder: str) -> int:
    """Fill a node's folder from the archive; how many files there were. 0 where there is no archive yet.

    The folder is this node's own and new. Raises OSError or ValueError where the archive cannot be read, or the disk is
    full: the folder is empty then, for half a cache, or a wrong one, is worse than none.
    """
    count = 0
    try:
        for name, mtime, file in _members(archive_dir):
            _write(os.path.join(folder, name), mtime, file)
            count += 1
    except (OSError, *_DAMAGE) as error:
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder, exist_ok=True)
        if not isinstance(error, _DAMAGE):
            raise
        raise ValueError(f"{os.path.join(archive_dir, ARCHIVE)} is damaged: {error}") from None
    return count


def pack(archive_dir: str, folder: str, most_bytes: int = ARCHIVE_BYTES) -> int:
    """Add what is new in a node's folder to the archive; how many files were new. 0: the archive stays as it is.

    Raises OSError where it cannot be written: the archive is then as before. A damaged one is written anew.
    """
    ours = dict(_files(folder))
    theirs: dict[str, tuple[int, int]] = {}
    with contextlib.suppress(OSError, *_DAMAGE):
        theirs = dict(_listed(archive_dir))
    new = ours.keys() - theirs.keys()
    if not new:
        return 0
    kept = _newest(theirs | ours, most_bytes)
    os.makedirs(archive_dir, exist_ok=True)
    path = os.path.join(archive_dir, ARCHIVE)
    aside = f"{path}.{secrets.token_hex(6)}"
    try:
        with open(aside, "xb") as raw, gzip.GzipFile("", "wb", 1, raw) as packed:
            with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for name in sorted(kept & ours.keys()):
                    try:
                        file = open(os.path.join(folder, name), "rb")
                    except FileNotFoundError:  # a cache has thrown it away just now
                        continue
                    with file:
                        _add(tar, name, ours[name][0], file)
                if kept - ours.keys():
                    _take_over(tar, archive_dir, kept - ours.keys())
            packed.close()
            raw.flush()
            os.fsync(raw.fileno())
        os.rename(aside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
    return len(new & kept)


def _newest(files: Mapping[str, tuple[int, int]], most_bytes: int) -> set[str]:
    """The names of the newest that have room together; each with its time and size."""
    kept: set[str] = set()
    total = 0
    for name, (_, size) in sorted(files.items(), key=lambda item: (-item[1][0], item[0])):
        total += size
        if total > most_bytes:
            break
        kept.add(name)
    return kept


def _files(folder: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """The finished files below a folder, by their path in it; each with its time and size."""
    for top, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(top, name)
            if name.endswith(UNFINISHED) or os.path.islink(path):
                continue
            with contextlib.suppress(OSError):
                found = os.stat(path)
                yield os.path.relpath(path, folder), (int(found.st_mtime), found.st_size)


def _add(tar: tarfile.TarFile, name: str, mtime: int, file: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = file.seek(0, os.SEEK_END), mtime, 0o600
    file.seek(0)
    tar.addfile(info, file)


def _take_over(tar: tarfile.TarFile, archive_dir: str, names: set[str]) -> None:
    for name, mtime, file in _members(archive_dir):
        if name in names:
            _add(tar, name, mtime, file)


def _listed(archive_dir: str) -> Iterator[tuple[str, tuple[int, int]]]:
    for name, mtime, file in _members(archive_dir):
        yield name, (mtime, file.seek(0, os.SEEK_END))


def _members(archive_dir: str) -> Iterator[tuple[str, int, IO[bytes]]]:
    """The files in the archive: paths that stay inside, and nothing that is no file."""
    try:
        tar = tarfile.open(os.path.join(archive_dir, ARCHIVE), "r:gz")
    except FileNotFoundError:
        return
    with tar:
        for info in tar:
            file = tar.extractfile(info) if info.isreg() and _stays_inside(info.name) else None
            if file is not None:
                yield info.name, int(info.mtime), file
        while tar.fileobj is not None and tar.fileobj.read(_COPY_BYTES):
            pass  # to the checksum at the end


def _stays_inside(name: str) -> bool:
    return not os.path.isabs(name) and ".." not in name.split("/")


def _write(path: str, mtime: int, source: IO[bytes]) -> None:
    """A whole file, or none."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    aside = path + UNFINISHED[0]
    try:
        with open(aside, "wb") as out:
            while data := source.read(_COPY_BYTES):
                out.write(data)
        os.utime(aside, (mtime, mtime))
        os.rename(aside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
