"""An environment as one archive on the shared file system: which files, under which key, kept for how long.

In a node's folder, `env` is the virtual or conda environment, and `more/N` are further folders that the user named.
`base` is the Python that a virtual environment was made from, unless it is the system's own. A file says how all of
this is made to work from its new place (`node.unpack`).

The key is made of names, sizes, modes, times of change and targets of links: an environment that has not changed is not
packed again. Compiled files (`__pycache__`) are packed and do not count: they come by running. Packing is locked, and
an archive gets its name when it is whole.
Rejected: a key of the contents, for which all of them would be read each time. Rejected too: compression. Wheels hold
compressed and binary files, and a node unpacks faster than it decompresses.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from hpc.launchers.staging.node import FACTS

#: Goes into the key: archives of another layout are others.
FORMAT = 1
AUTO = "auto"
SUFFIX = ".tar"
#: Not used for so long, an archive goes when another one is packed.
FORGET_S = 30 * 86400.0
#: Nor are more kept than these last used, of those that were not used for so long.
KEPT, KEPT_S = 4, 7 * 86400.0
PART_S = 86400.0
#: Parts of a base Python that no program needs.
_BASE_SKIPPED = frozenset(("site-packages", "test", "idlelib", "turtledemo"))
_TEXT_BYTES = 1 << 20


class StageError(Exception):
    """The environment cannot be packed, or not brought to the nodes. `fix` is what helps."""

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.why = why
        self.fix = fix


@dataclass(frozen=True)
class Member:
    """One file, folder or link: where it is, and its name in the archive."""

    path: str
    name: str
    info: os.stat_result
    link: str = ""


@dataclass(frozen=True)
class Environment:
    """What is to be packed. prefixes: folders, and their names in a node's folder; the interpreter's comes first.

    python: its path there. site_packages: those of the base belong to it. left: source trees of editable installs that
    are no part of it: nodes read them where they are.
    """

    kind: Literal["venv", "conda"]
    prefixes: dict[str, str]
    python: str
    site_packages: bool = False  # of the base, too
    left: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        return next(iter(self.prefixes))


@dataclass(frozen=True)
class Archived:
    """An archive. size: its bytes; digest: SHA-256. facts: what it says of itself."""

    path: Path
    size: int
    digest: str
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def prefixes(self) -> dict[str, str]:
        return dict(self.facts["prefixes"])

    @property
    def python(self) -> str:
        return str(self.facts["python"])


# ---------------------------------------------------------------- which files


def find_environment(wanted: Sequence[str]) -> Environment:
    """The environment of --stage's values: `auto` (this Python's own), an environment's path, and further folders.

    StageError where there is none.
    """
    paths = [_this_prefix() if text == AUTO else os.path.abspath(os.path.expanduser(text)) for text in wanted]
    for path in paths:
        if not os.path.isdir(path):
            raise StageError(f"--stage={path}: there is no such folder")
    chosen = [path for path in paths if _kind(path)]
    if len(chosen) > 1:
        raise StageError(f"--stage names two environments: {', '.join(chosen)}", fix="one of them")
    prefix = chosen[0] if chosen else _this_prefix()
    more = {path: f"more/{i}" for i, path in enumerate(p for p in dict.fromkeys(paths) if p != prefix)}
    for path in more:
        if path.startswith(prefix + os.sep) or prefix.startswith(path + os.sep):
            raise StageError(f"--stage={path}: it is part of {prefix}, or has it in it")
    if _kind(prefix) == "conda":
        _conda_pack(prefix)
        prefixes = {prefix: "env", **more}
        return Environment("conda", prefixes, "env/bin/python", left=tuple(_left(prefix, prefixes)))
    settings = _venv_settings(prefix)
    base = _base_of(prefix)
    prefixes = {prefix: "env", **({base: "base"} if base else {}), **more}
    both = settings.get("include-system-site-packages", "") == "true"
    return Environment("venv", prefixes, "env/bin/python", bool(base) and both, tuple(_left(prefix, prefixes)))


def _this_prefix() -> str:
    if not _kind(sys.prefix):
        what = f"this Python ({sys.prefix}) is neither a virtual nor a conda environment"
        raise StageError(what, fix="--stage=PATH of one, or hpc-launch of one")
    return os.path.abspath(sys.prefix)


def _kind(prefix: str) -> str:
    if os.path.isfile(os.path.join(prefix, "pyvenv.cfg")):
        return "venv"
    return "conda" if os.path.isdir(os.path.join(prefix, "conda-meta")) else ""


def _venv_settings(prefix: str) -> dict[str, str]:
    with open(os.path.join(prefix, "pyvenv.cfg"), encoding="utf-8") as file:
        pairs = (line.partition("=") for line in file)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _base_of(prefix: str) -> str:
    """Where the Python that a virtual environment was made from is; "" for the system's, which every node has."""
    real = os.path.realpath(os.path.join(prefix, "bin", "python"))
    base = os.path.dirname(os.path.dirname(real))
    return "" if base == "/usr" else base


def _left(prefix: str, prefixes: dict[str, str]) -> Iterator[str]:
    """Source trees that .pth files and finders of editable installs lead to, and that are not packed."""
    for site in _sites(prefix):
        for name in sorted(os.listdir(site)):
            path = os.path.join(site, name)
            if name.endswith(".pth"):
                lines = Path(path).read_text(errors="replace").splitlines()
                found = [line.strip() for line in lines if line.startswith(os.sep)]
            elif name.startswith("__editable__") and name.endswith(".py"):
                mapping = re.search(r"^MAPPING\b[^{\n]*(\{.*\})", Path(path).read_text(errors="replace"), re.MULTILINE)
                found = [str(value) for value in ast.literal_eval(mapping[1]).values()] if mapping else []
            else:
                continue
            yield from (each for each in found if os.path.isdir(each) and not _below(each, prefixes))


def _below(path: str, folders: dict[str, str]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)


def _sites(prefix: str) -> list[str]:
    return [str(path) for path in sorted(Path(prefix, "lib").glob("python*/site-packages"))]


def entries(environment: Environment) -> list[Member]:
    """All that is packed, in the order of the names in the archive. StageError for what cannot be read."""
    found: list[Member] = []
    for folder, name in environment.prefixes.items():
        base = name == "base"
        skipped = _BASE_SKIPPED - {"site-packages"} if environment.site_packages else _BASE_SKIPPED
        for path in _of_base(folder) if base else [folder]:
            found += _walk(path, os.path.join(name, os.path.relpath(path, folder)), skipped if base else frozenset())
    return sorted(found, key=lambda entry: entry.name)


def _of_base(base: str) -> list[str]:
    """A Python without what others have installed beside it: its programs, its library, its shared objects."""
    found = [path for path in sorted(Path(base, "bin").glob("python3*")) if "config" not in path.name]
    found += sorted(Path(base, "lib").glob("python3.*")) + sorted(Path(base, "lib").glob("libpython3*.so*"))
    return [str(path) for path in found]


def _walk(path: str, name: str, skipped: frozenset[str]) -> Iterator[Member]:
    """skipped: names that stay out of the library of a base Python (base/lib/python3.11/NAME)."""
    name = os.path.normpath(name)
    try:
        info = os.lstat(path)
        if stat.S_ISLNK(info.st_mode):
            yield Member(path, name, info, os.readlink(path))
        elif stat.S_ISREG(info.st_mode):
            if not os.access(path, os.R_OK):
                raise PermissionError(13, "Permission denied", path)
            yield Member(path, name, info)
        elif stat.S_ISDIR(info.st_mode):
            yield Member(path, name, info)
            depth = name.count(os.sep)
            for below in sorted(os.listdir(path)):
                if not (depth == 2 and below in skipped):
                    yield from _walk(os.path.join(path, below), os.path.join(name, below), skipped)
    except OSError as error:
        what = f"the environment cannot be packed: {error.filename or path}: {error.strerror}"
        raise StageError(what, fix=f"chmod -R u+r {shlex.quote(str(error.filename or path))}") from None


def key_of(environment: Environment, files: Sequence[Member]) -> str:
    """The same for the same environment that has not changed since."""
    digest = hashlib.sha256(json.dumps([FORMAT, environment.kind, environment.prefixes]).encode())
    for entry in files:
        if "__pycache__" in entry.name.split(os.sep):
            continue
        folder = stat.S_ISDIR(entry.info.st_mode)
        facts = [0, 0] if folder or entry.link else [entry.info.st_size, entry.info.st_mtime_ns]
        digest.update(json.dumps([entry.name, entry.info.st_mode, *facts, entry.link]).encode())
    return digest.hexdigest()[:32]


# ---------------------------------------------------------------- the archive


def store(base: Path) -> Path:
    """The folder of archives, beside those of jobs; made for this user alone. StageError where that cannot be."""
    path = base / "stage"
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StageError(
            f"{path} cannot be made: {error.strerror}", fix="--job-dir=DIR, which the nodes share"
        ) from None
    return path


def pack(wanted: Sequence[str], base: Path, tell: Callable[[str], object] = lambda text: None) -> Archived:
    """The archive of an environment: the one that is there, or a new one. tell: hears what takes long.

    base: the folder of jobs. Raises StageError.
    """
    environment = find_environment(wanted)
    files = entries(environment)
    folder = store(base)
    for path, name in environment.prefixes.items():
        if name != "base" and _below(os.path.realpath(folder), {os.path.realpath(path): name}):
            what = f"--stage={path}: the folder where archives are kept is in it: {folder}"
            raise StageError(what, fix="--job-dir=DIR elsewhere, or --stage=DIR of a folder within")
    target = folder / (key_of(environment, files) + SUFFIX)
    try:
        with _locked(target, tell):
            packed = _there(target)
            if packed is None:
                size = sum(entry.info.st_size for entry in files if stat.S_ISREG(entry.info.st_mode))
                tell(f"packing {environment.prefix} ({len(files)} files, {size / 1e6:.0f} MB)")
                _write(target, environment, files)
                forget_old(folder, {target})
                packed = read(target)
    except OSError as error:
        what = f"the environment cannot be packed into {folder}: {error.strerror}"
        raise StageError(what, fix="--job-dir=DIR, on a file system with room that the nodes share") from None
    return packed


def _there(target: Path) -> Archived | None:
    """The archive that is there, if it is whole. It is not where a command was killed, or where a file system has
    removed one of its two files for its age."""
    try:
        return read(target)
    except StageError:
        return None


@contextlib.contextmanager
def _locked(target: Path, tell: Callable[[str], object]) -> Iterator[None]:
    with open(target.with_suffix(".lock"), "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("another command packs this environment: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Digested:
    """A file to write to, and the digest of what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest, self.size = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self.file.write(data)


def _write(target: Path, environment: Environment, files: Sequence[Member]) -> None:
    part = target.with_suffix(f".{os.getpid()}.part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            out = _Digested(file)
            facts = {
                "python": environment.python,
                "prefixes": environment.prefixes,
                "text": sorted(entry.name for entry in files if _is_moved_text(entry, environment)),
                "unpack": "env/bin/conda-unpack" if environment.kind == "conda" else "",
                "left": list(environment.left),
                "bytes": sum(entry.info.st_size for entry in files if stat.S_ISREG(entry.info.st_mode)),
                "files": len(files),
            }
            with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20) as tar:  # type: ignore[call-overload]
                _add_text(tar, FACTS, json.dumps(facts, indent=1))
                if environment.kind == "conda":
                    _add_conda(tar, environment.prefix, part)
                    files = [entry for entry in files if not entry.name.startswith("env")]
                for entry in files:
                    _add(tar, entry, environment)
            file.flush()
            os.fsync(file.fileno())
        about = {**facts, "size": out.size, "digest": out.digest.hexdigest()}
        target.with_suffix(".json").write_text(json.dumps(about, indent=1))
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(text.encode()), 0o600
    tar.addfile(info, io.BytesIO(text.encode()))


def _add(tar: tarfile.TarFile, entry: Member, environment: Environment) -> None:
    """Owners are nobody's business there; links within what is packed lead on to it."""
    info = tarfile.TarInfo(entry.name)
    info.mode, info.mtime = stat.S_IMODE(entry.info.st_mode) | stat.S_IWUSR, entry.info.st_mtime
    if entry.link:
        info.type, info.linkname = tarfile.SYMTYPE, _new_link(entry, environment)
        tar.addfile(info)
    elif stat.S_ISDIR(entry.info.st_mode):
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    else:
        info.size = entry.info.st_size
        try:
            file = open(entry.path, "rb")
        except OSError as error:
            raise _changed(entry, error.strerror or str(error)) from None
        with file:
            tar.addfile(info, _Whole(file, entry))


class _Whole:
    """A file that is read to the end that it had when the packing began. StageError where it has become shorter."""

    def __init__(self, file: IO[bytes], entry: Member) -> None:
        self.file, self.entry = file, entry

    def read(self, size: int = -1, /) -> bytes:
        data = self.file.read(size)
        if len(data) < size:
            raise _changed(self.entry, "it became shorter")
        return data


def _changed(entry: Member, how: str) -> StageError:
    what = f"the environment changes while it is packed: {entry.path}"
    return StageError(what, how, "once nothing is installed into it any more, submit again")


def _new_link(entry: Member, environment: Environment) -> str:
    if not os.path.isabs(entry.link):
        return entry.link
    for folder, name in environment.prefixes.items():
        if _below(entry.link, {folder: name}):
            there = os.path.join(name, os.path.relpath(entry.link, folder))
            return os.path.relpath(there, os.path.dirname(entry.name))
    return entry.link


def _is_moved_text(entry: Member, environment: Environment) -> bool:
    """Whether a file has paths in it that have to become new ones: scripts, activation, .pth, finders, settings."""
    top, _, rest = entry.name.partition(os.sep)
    site = re.fullmatch(r"lib/python[^/]+/site-packages/[^/]+", rest)
    script = rest.startswith("bin/")
    wanted = rest == "pyvenv.cfg" or script or (site and (rest.endswith(".pth") or "/__editable__" in rest))
    if top != "env" or entry.link or not stat.S_ISREG(entry.info.st_mode) or not wanted:
        return False
    if environment.kind == "conda" and script:
        return False  # conda-unpack does that
    if entry.info.st_size > _TEXT_BYTES:
        return False
    with open(entry.path, "rb") as file:
        data = file.read()
    return b"\0" not in data and any(os.fsencode(folder) in data for folder in environment.prefixes)


def _conda_pack(prefix: str) -> list[str]:
    """The command of conda-pack, which knows how a conda environment is moved: its binaries have paths in them."""
    beside = os.path.join(prefix, "bin", "conda-pack")
    found = beside if os.access(beside, os.X_OK) else shutil.which("conda-pack")
    if found is None:
        what = f"{prefix} is a conda environment, and there is no conda-pack, which can move one"
        raise StageError(what, fix="pip install conda-pack")
    return [found]


def _add_conda(tar: tarfile.TarFile, prefix: str, part: Path) -> None:
    made = part.with_suffix(".conda")
    command = [*_conda_pack(prefix), "--prefix", prefix, "--output", str(made), "--format", "tar", "--force"]
    command += ["--arcroot", "env", "--ignore-editable-packages", "--ignore-missing-files", "--quiet"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StageError("conda-pack cannot pack the environment", why=(done.stderr or done.stdout).strip()[-2000:])
        with tarfile.open(made) as from_conda:
            for member in from_conda:
                data = from_conda.extractfile(member) if member.isreg() else None
                tar.addfile(member, data)
    finally:
        made.unlink(missing_ok=True)


def read(path: Path) -> Archived:
    """An archive that is there; it counts as used now. StageError where it is gone."""
    try:
        about = json.loads(path.with_suffix(".json").read_text())
        size = path.stat().st_size
        facts = Archived(path, int(about["size"]), str(about["digest"]), about)
        for each in (path, path.with_suffix(".json")):
            with contextlib.suppress(OSError):  # it may be another user's
                os.utime(each)
    except (OSError, ValueError, KeyError, TypeError):
        what = f"the archive of the environment is gone: {path}"
        why = f"archives that nobody used for {FORGET_S / 86400:.0f} days go when another one is packed"
        raise StageError(what, why, "submit the job again") from None
    if size != facts.size:
        what = f"the archive of the environment is damaged: {path}"
        raise StageError(what, why=f"it has {size} bytes, and was packed with {facts.size}", fix="submit the job again")
    return facts


def forget_old(folder: Path, but: set[Path], now_s: float | None = None) -> list[Path]:
    """Remove archives that are not used any more: see `FORGET_S` and `KEPT`. Returns those that went."""
    now_s = time.time() if now_s is None else now_s
    archives = [(path.stat().st_mtime, path) for path in folder.glob(f"*{SUFFIX}")]
    gone = []
    for i, (used_s, path) in enumerate(sorted(archives, reverse=True)):
        old = now_s - used_s > (FORGET_S if i < KEPT else KEPT_S)
        if old and path not in but:
            for each in (path, path.with_suffix(".json"), path.with_suffix(".lock")):
                each.unlink(missing_ok=True)
            gone.append(path)
    for path in [*folder.glob("*.part"), *folder.glob("*.conda")]:
        with contextlib.suppress(OSError):
            if now_s - path.stat().st_mtime > PART_S:
                path.unlink()
    return gone
