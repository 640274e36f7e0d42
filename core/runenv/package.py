"""Directories as packages: which files, in what order, under what name.

A package is a zip whose bytes depend on the files' names, contents and execute bits only. Times, owners and the order
of the directory are left out. So the hash of its bytes names it, equal directories are uploaded once, and a node that
has unpacked it never does so again.

What stays out: what the user excludes, what ``.gitignore`` and ``.hpcignore`` files exclude (in every directory, with
git's rules), ``.git`` and ``__pycache__``. Rejected: asking git (it may not be there, and the directory need not be a
repository).
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

#: The largest package, in bytes of its zip: the head keeps it in memory.
MAX_PACKAGE_BYTES = 100 << 20
IGNORE_FILES = (".gitignore", ".hpcignore")
ALWAYS_OUT = (".git", "__pycache__")
_TIME = (1980, 1, 1, 0, 0, 0)


class PackageError(Exception):
    """The directory cannot be packaged; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of an ignore file that lies in ``base`` (relative to the root, "" or ending in a slash)."""

    base: str
    regex: re.Pattern[str]
    negated: bool
    only_dirs: bool


def parse_rules(lines: Iterable[str], base: str = "") -> list[Rule]:
    """The rules of an ignore file, or of a list of excludes."""
    rules: list[Rule] = []
    for raw in lines:
        line = raw.rstrip("\n").rstrip("\r")
        if not line.endswith("\\ "):
            line = line.rstrip(" ")
        if not line or line.startswith("#"):
            continue
        negated = line.startswith("!")
        if negated:
            line = line[1:]
        only_dirs = line.endswith("/")
        line = line.strip("/") if not line.startswith("/") else "/" + line.strip("/")
        anchored = "/" in line
        line = line.lstrip("/")
        if line:
            start = "" if anchored else "(?:.*/)?"
            rules.append(Rule(base, re.compile(start + _translate(line) + r"\Z", re.DOTALL), negated, only_dirs))
    return rules


def _translate(pattern: str) -> str:
    """A glob with git's meaning of ``*``, ``**``, ``?`` and ``[...]`` as a regular expression."""
    out, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**/", at) and (at == 0 or pattern[at - 1] == "/"):
            out, at = out + "(?:.*/)?", at + 3
        elif pattern.startswith("**", at) and at + 2 == len(pattern) and (at == 0 or pattern[at - 1] == "/"):
            out, at = out + ".+", at + 2
        elif char == "*":
            out, at = out + "[^/]*", at + 1
        elif char == "?":
            out, at = out + "[^/]", at + 1
        elif char == "[" and (end := pattern.find("]", at + 2)) > 0:
            inside = pattern[at + 1 : end].replace("\\", "\\\\")
            inside = "^" + inside[1:] if inside[0] in "!^" else inside
            out, at = out + f"(?!/)[{inside}]", end + 1
        elif char == "\\" and at + 1 < len(pattern):
            out, at = out + re.escape(pattern[at + 1]), at + 2
        else:
            out, at = out + re.escape(char), at + 1
    return out


def is_ignored(path: str, is_dir: bool, rules: Iterable[Rule]) -> bool:
    """Whether the rules exclude this path (relative to the root); the last rule that matches decides."""
    ignored = False
    for rule in rules:
        if not path.startswith(rule.base) or (rule.only_dirs and not is_dir):
            continue
        if rule.regex.match(path, len(rule.base)):
            ignored = not rule.negated
    return ignored


def files_of(root: str, excludes: Iterable[str] = ()) -> list[str]:
    """The files of a directory that belong into its package, as sorted relative paths. Links to files count as files;
    links to directories are not followed."""
    return sorted(_walk(root, "", [], parse_rules(excludes)))


def _walk(root: str, base: str, rules: list[Rule], excludes: list[Rule]) -> Iterator[str]:
    folder = os.path.join(root, base)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise PackageError(f"cannot read {folder}: {error.strerror}") from None
    for name in IGNORE_FILES:
        if any(entry.name == name for entry in entries):
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                rules = [*rules, *parse_rules(file, base)]
    for entry in entries:
        path = base + entry.name
        is_dir = entry.is_dir(follow_symlinks=False)
        if (entry.name in ALWAYS_OUT and is_dir) or is_ignored(path, is_dir, excludes):
            continue
        if is_ignored(path, is_dir, rules):
            continue
        if is_dir:
            yield from _walk(root, path + "/", rules, excludes)
        elif entry.is_file():
            yield path


def signature(root: str, files: Iterable[str]) -> str:
    """A hash of names, sizes and times: while it stays the same, the package is not made again."""
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        found = os.stat(os.path.join(root, path))
        digest.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_mode}\n".encode())
    return digest.hexdigest()


def make_zip(root: str, files: Iterable[str], prefix: str = "", limit_bytes: int = MAX_PACKAGE_BYTES) -> bytes:
    """The package of these files. ``prefix`` goes before their names: a Python package keeps its folder's name."""
    buffer = io.BytesIO()
    sizes: list[tuple[int, str]] = []
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in files:
            full = os.path.join(root, path)
            try:
                mode = os.stat(full).st_mode
                with open(full, "rb") as file:
                    data = file.read()
            except OSError as error:
                raise PackageError(f"cannot read {full}: {error.strerror}") from None
            info = zipfile.ZipInfo(prefix + path, _TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | (0o755 if mode & 0o100 else 0o644)) << 16
            info.create_system = 3
            before = buffer.tell()
            archive.writestr(info, data, compresslevel=1)
            sizes.append((buffer.tell() - before, path))
            if buffer.tell() > limit_bytes:
                raise PackageError(_too_large(root, sizes, limit_bytes))
    return buffer.getvalue()


def _too_large(root: str, sizes: list[tuple[int, str]], limit_bytes: int) -> str:
    largest = ", ".join(f"{path} ({size / (1 << 20):.1f} MiB)" for size, path in sorted(sizes, reverse=True)[:5])
    return (
        f"{root} takes more than {limit_bytes / (1 << 20):.0f} MiB as a package. The largest files so far: {largest}. "
        "Leave out what the tasks do not read, by runtime_env['excludes'] or a .hpcignore file, or name a directory "
        "that every node sees as 'file:///...': it is used in place"
    )


def digest_of(data: bytes) -> str:
    """The name of a package."""
    return hashlib.blake2b(data, digest_size=20).hexdigest()


def unpack_zip(data: bytes, target: str) -> None:
    """Unpack into ``target``, which is made. Names that lead out of it are refused."""
    os.makedirs(target, mode=0o700, exist_ok=True)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                path = os.path.normpath(info.filename)
                if os.path.isabs(path) or path.split(os.sep)[0] == "..":
                    raise PackageError(f"the package has a file outside of its directory: {info.filename!r}")
                full = os.path.join(target, path)
                if info.is_dir():
                    os.makedirs(full, exist_ok=True)
                    continue
                os.makedirs(os.path.dirname(full), exist_ok=True)
                with archive.open(info) as source, open(full, "wb") as out:
                    while block := source.read(1 << 20):
                        out.write(block)
                os.chmod(full, 0o755 if (info.external_attr >> 16) & 0o100 else 0o644)
    except zipfile.BadZipFile as error:
        raise PackageError(f"the package is not a zip file: {error}") from None
