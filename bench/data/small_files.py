"""What many small files cost a file system: ``python -m bench.data.small_files``.

20,000 files of 4 KB in 200 folders are read on 4 local nodes, under strace. In the whole session each file is opened
once, files are not asked for their metadata one by one (the driver looks at a sample of their sizes), and each folder
is listed once. HDF5, Zarr and tar give the rows that their own libraries read.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import hpc
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.session import Session

NODES, FOLDERS, BYTES = 4, 200, 4096
#: Of so many files the driver may ask for the size: those of the beginning, and a sample.
SAMPLE = 256
OPENS = {"open", "openat", "openat2"}
#: A system call of a file, as strace has it: of a process, with a name, and the first path among its arguments.
LINE = re.compile(r'^(?:\d+ +)?(\w+)\((?:[^"]*?)"([^"]*)"(.*)$')


def make(folder: Path, files: int) -> str:
    """The files. Returns the digest of their contents in the order of their names."""
    digest = hashlib.sha256()
    each = files // FOLDERS or 1
    for number in range(files):
        inner = folder / f"d{number // each:04d}"
        if number % each == 0:
            inner.mkdir()
        data = number.to_bytes(8, "little") * (BYTES // 8)
        (inner / f"f{number:06d}.bin").write_bytes(data)
        digest.update(data)
    return digest.hexdigest()


@contextmanager
def local_nodes(count: int) -> Iterator[None]:
    """A session of several nodes on this machine."""
    session = Session(LocalGroup(count), overrides={"num_cpus": 1, "object_store_bytes": 64 << 20},
                      config={"loopback": True})  # fmt: skip
    session.start()
    try:
        session.wait_ready(60.0)
        hpc.init(address=session.local_dir())
        yield
    finally:
        hpc.shutdown()
        session.stop(2.0)


def on_node(batch: dict[str, Any]) -> dict[str, Any]:
    """Which node has read a file."""
    node = hpc.get_runtime_context().get_node_id()
    return {"bytes": batch["bytes"], "node": np.array([node] * len(batch["bytes"]))}


def inside(folder: str) -> None:
    """A session that counts the files, looks at their columns, and reads them once."""
    with local_nodes(NODES):
        dataset = hpc.data.read_binary_files(folder)
        print("columns", *(dataset.schema().names if dataset.schema() else ()), flush=True)
        print("count", dataset.count(), flush=True)
        digest, rows, nodes = hashlib.sha256(), 0, set()
        for batch in dataset.map_batches(on_node).iter_batches(batch_size=1024):
            rows += len(batch["bytes"])
            nodes.update(batch["node"].tolist())
            for data in batch["bytes"]:
                digest.update(data)
        print("read", rows, len(nodes), digest.hexdigest(), flush=True)


class Counts:
    """Calls of the file system below a folder, out of what strace has written."""

    def __init__(self, trace: Path, folder: str) -> None:
        self.opened: collections.Counter[str] = collections.Counter()
        self.listed: collections.Counter[str] = collections.Counter()
        self.asked: collections.Counter[str] = collections.Counter()
        for part in trace.parent.glob(f"{trace.name}*"):
            with open(part, errors="replace") as lines:
                for line in lines:
                    found = LINE.match(line) if folder in line else None
                    if found is not None and found[2].startswith(folder):
                        self._add(found[1], found[2], found[3])

    def _add(self, call: str, path: str, rest: str) -> None:
        if call not in OPENS:
            self.asked[path] += 1
        elif "O_DIRECTORY" in rest:
            self.listed[path] += 1
        else:
            self.opened[path] += 1


def many(files: int) -> tuple[list[str], str]:
    """The small files."""
    wrong = []
    with tempfile.TemporaryDirectory(prefix="hpc-small-") as base:
        folder = Path(base, "data")
        folder.mkdir()
        digest = make(folder, files)
        trace = Path(base, "trace")
        command = [
            "strace",
            "-f",
            "-ff",
            "-qq",
            "-e",
            "trace=%file",
            "-e",
            "signal=none",
            "-s",
            "300",
            "-o",
            str(trace),
        ]
        command += [sys.executable, "-m", "bench.data.small_files", "--inside", str(folder)]
        began = time.monotonic()
        ended = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], timeout=300, check=False
        )
        seconds = time.monotonic() - began
        said = dict(line.split(" ", 1) for line in ended.stdout.splitlines() if " " in line)
        if said.get("read", "").split() not in [[str(files), str(n), digest] for n in range(2, NODES + 1)]:
            wrong.append(f"the session gave {said}, and {files} files with the digest {digest} were written")
        counts = Counts(trace, str(folder))
    paths = [path for path in counts.opened if path.endswith(".bin")]
    opens = collections.Counter(counts.opened[path] for path in paths)
    if len(paths) != files or opens != {1: files}:
        wrong.append(f"of {files} files {len(paths)} were opened, so often: {dict(opens)}")
    asked = [path for path in counts.asked if path.endswith(".bin")]
    if len(asked) > SAMPLE:
        wrong.append(f"{len(asked)} files were asked for their metadata")
    lists = collections.Counter(counts.listed.values())
    if set(lists) != {1}:
        wrong.append(f"folders were listed so often: {dict(lists)}")
    nodes = said.get("read", "0 0").split()[1]
    line = (
        f"{files:,} files on {nodes} nodes in {seconds:.1f} s under strace: opened {dict(opens)}, "
        f"{len(asked)} asked for their size, {sum(lists.values())} folders listed {dict(lists)}"
    )
    return wrong, line


# ---------------------------------------------------------------- rows of other formats


def hdf5(folder: Path) -> bool:
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file["x"] = np.random.default_rng(1).random((5000, 3))
        file["y"] = np.arange(5000)
    with h5py.File(folder / "a.h5") as file:
        wanted = {name: file[name][:] for name in ("x", "y")}
    return same(hpc.data.read_hdf5(str(folder / "a.h5")), wanted)


def zarr(folder: Path) -> bool:
    import zarr as library

    made = library.open_group(str(folder / "a.zarr"), mode="w")
    made.create_array("x", data=np.random.default_rng(2).random((5000, 3)), chunks=(700, 3))
    wanted = np.asarray(library.open_group(str(folder / "a.zarr"), mode="r")["x"])
    rows = hpc.data.read_zarr(str(folder / "a.zarr"), array_paths=["x"], align_axis_0=True).take_all()
    return np.array_equal(np.concatenate([row["x"] for row in rows]), wanted)


def tar(folder: Path) -> bool:
    with tarfile.open(folder / "a.tar", "w") as file:
        for number in range(500):
            info = tarfile.TarInfo(f"{number:05d}.bin")
            data = bytes([number % 251]) * 999
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    with tarfile.open(folder / "a.tar") as file:
        wanted = [file.extractfile(one).read() for one in file]  # type: ignore[union-attr]
    found = [row["bin"] for row in hpc.data.read_webdataset(str(folder / "a.tar"), decoder=None).iter_rows()]
    return found == wanted


def same(dataset: Any, wanted: dict[str, Any]) -> bool:
    """Whether a dataset has these columns, whole."""
    batches = list(dataset.iter_batches(batch_size=None))
    return all(np.array_equal(np.concatenate([one[name] for one in batches]), wanted[name]) for name in wanted)


def formats() -> tuple[list[str], str]:
    """HDF5, Zarr and tar, as far as their libraries are there."""
    wrong, said = [], []
    with tempfile.TemporaryDirectory(prefix="hpc-formats-") as base:
        hpc.init(address="local", num_cpus=2, object_store_memory=64 << 20)
        try:
            for check in (hdf5, zarr, tar):
                try:
                    equal = check(Path(base))
                except ImportError as error:
                    said.append(f"{check.__name__} not tried: {error}")
                    continue
                said.append(f"{check.__name__} {'equal' if equal else 'OTHER ROWS'}")
                wrong += [] if equal else [f"{check.__name__} gave other rows than its library"]
        finally:
            hpc.shutdown()
    return wrong, ", ".join(said)


def small_files(files: int, say: Callable[[str], None] = print) -> list[str]:
    """All checks; what is wrong."""
    wrong: list[str] = []
    for check in (lambda: many(files), formats):
        found, line = check()
        say(line)
        wrong += found
    return wrong


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.data.small_files", description="Many small files.")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--inside", help="a session that reads the files of this folder")
    given = parser.parse_args(argv)
    if given.inside:
        inside(given.inside)
        return 0
    wrong = small_files(given.files)
    print(*(wrong or ["ok"]), sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
