"""Site profiles: what one machine wants of those who use it, found by its name or by a sign that it gives.

A profile is a TOML file, shipped in templates/sites or written by the user:

    [site]          title; scheduler; detect: signs of the machine, "VARIABLE=value" or "host PATTERN";
                    kinds: its sorts of nodes, the first one is meant where none is named (--site NAME/KIND)
    [launch]        options of hpc-launch that always count
    [nodes]         options that count for nodes of a job, not for local ones: interface, tmpdir, step_arg ...
    [submit]        options that count where a job is submitted: partition, constraint, submit_arg ...
    [kind.KIND.*]   the same three tables for one sort of nodes
    [runtime]       options of the runtime
    [facts]         for people: `hpc site show`
    [source]        from where each of these is known, and of which day

Values of a profile have the lowest rank: a flag, a variable, ./hpc.toml and the user's own file win over them.
Rejected: one file per sort of nodes, since the common half would be written twice. Rejected too: values by code. A
profile is data, so that somebody who knows the machine and not this project can mend it. And looking at the scheduler's
answers to find out where we are, which is a command to run at each start.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc import templates
from hpc.settings.errors import CliError

#: --site=none: no profile, found or named.
NONE = "none"
TABLES = ("launch", "nodes", "submit", "runtime")
KNOWN = ("site", *TABLES, "kind", "facts", "source")
_DETECT = re.compile(r"^detect *= *(\[.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Site:
    """One profile for one sort of nodes. `found_by` is the sign that named it, "" when the user did."""

    name: str
    kind: str
    path: Path
    title: str = ""
    scheduler: str = ""
    kinds: tuple[str, ...] = ()
    detect: tuple[str, ...] = ()
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, str] = field(default_factory=dict)
    found_by: str = ""

    @property
    def where(self) -> str:
        """How values of it are said to have come."""
        name = f"{self.name}/{self.kind}" if self.kind else self.name
        return f"site profile {name}" + (f" (found by {self.found_by})" if self.found_by else "")

    def options(self, *, job: bool, submits: bool) -> dict[str, Any]:
        """The options of hpc-launch that count. job: nodes of a job are used; submits: a job is submitted for them."""
        chosen = ["launch", *(["nodes"] if job else []), *(["submit"] if submits else [])]
        return {name: value for table in chosen for name, value in self.tables.get(table, {}).items()}


def user_folder(config: Path) -> Path:
    """Where the user's own profiles are; config: the user's folder of settings."""
    return config / "sites"


def names(config: Path) -> list[str]:
    """All profiles, the user's and those that are shipped."""
    return sorted({path.stem for path in user_folder(config).glob("*.toml")} | set(templates.sites()))


def file_of(config: Path, name: str) -> Path | None:
    """The file of a profile: the user's own if there is one, else that which is shipped, else None."""
    own = user_folder(config) / f"{name}.toml"
    return own if own.is_file() else templates.site_profile(name)


def read(config: Path, wanted: str, found_by: str = "") -> Site:
    """The profile NAME or NAME/KIND; CliError when there is none, or when it cannot be used."""
    name, _, kind = wanted.partition("/")
    path = file_of(config, name)
    if path is None:
        import difflib

        known = names(config)
        near = difflib.get_close_matches(name, known, 1)
        fix = f"--site={near[0]}{'/' if kind else ''}{kind}" if near else f"hpc site new {name}"
        why = f"there are: {', '.join(known) or 'none'}"
        raise CliError("CONFIG", f"no site profile named {name!r}", why=why, fix=fix)
    return _site(name, kind, path, _content(path, name), found_by)


def _content(path: Path, name: str) -> dict[str, Any]:
    from hpc.settings.files import parse_toml

    return parse_toml(path, f"site profile {name}")


def _site(name: str, kind: str, path: Path, content: Mapping[str, Any], found_by: str) -> Site:
    _check_shape(name, path, content)
    about = content.get("site", {})
    kinds = tuple(about.get("kinds", ()))
    if kind and kind not in kinds:
        what = f"site profile {name} has no sort of nodes named {kind!r}"
        raise CliError("CONFIG", what, where=str(path), why=f"there are: {', '.join(kinds) or 'none'}")
    kind = kind or (kinds[0] if kinds else "")
    # A file without [launch] may have its options at the top, as hpc.toml does.
    top = {key: value for key, value in content.items() if key not in KNOWN or not isinstance(value, dict)}
    for table in (key for key, value in top.items() if isinstance(value, dict)):
        what = f"site profile {name} has no table [{table}]"
        raise CliError("CONFIG", what, where=str(path), why=f"there are: {', '.join(f'[{each}]' for each in KNOWN)}")
    for each in content.get("kind", {}):
        if each not in kinds:
            what = f"site profile {name} has options of [kind.{each}], which is none of its kinds"
            raise CliError("CONFIG", what, where=str(path), why=f"there are: {', '.join(kinds) or 'none'}")
    tables = {table: dict(content.get(table, {})) for table in TABLES}
    tables["launch"] = {**top, **tables["launch"]}
    for table, values in content.get("kind", {}).get(kind, {}).items():
        if table not in TABLES:
            raise CliError("CONFIG", f"site profile {name}: kind.{kind} has no table {table!r}", where=str(path))
        tables[table] = {**tables[table], **values}
    return Site(
        name, kind, path, about.get("title", name), about.get("scheduler", ""), kinds, tuple(about.get("detect", ())),
        tables, content.get("facts", {}), content.get("source", {}), found_by,
    )  # fmt: skip


def _check_shape(name: str, path: Path, content: Mapping[str, Any]) -> None:
    """CliError for a table that is none, and for a value of [site] of another type."""
    tables = {each: content.get(each, {}) for each in KNOWN}
    if isinstance(tables["kind"], dict):
        tables |= {f"kind.{kind}": values for kind, values in tables["kind"].items()}
        for kind, values in tables["kind"].items():
            if isinstance(values, dict):
                tables |= {f"kind.{kind}.{table}": inner for table, inner in values.items()}
    for each, values in tables.items():
        if not isinstance(values, dict):
            what = f"site profile {name}: {each} is a table, not {values!r}"
            raise CliError("CONFIG", what, where=str(path), fix=f"write it as [{each}], and its options below")
    for each in ("title", "scheduler"):
        if not isinstance(value := tables["site"].get(each, ""), str):
            raise CliError("CONFIG", f"site profile {name}: {each} is a text, not {value!r}", where=str(path))
    for each in ("detect", "kinds"):
        value = tables["site"].get(each, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            what = f"site profile {name}: {each} is a list of texts, not {value!r}"
            raise CliError("CONFIG", what, where=str(path), fix=f'{each} = ["..."]')


def find(config: Path, env: Mapping[str, str], hostname: str) -> Site | None:
    """The profile of the machine that we are on, by its signs; the user's own profiles are looked at first."""
    for name, sign in _signs(config):
        if _shows(sign, env, hostname):
            return read(config, name, sign.removeprefix("host ").split("=")[0])
    return None


def _signs(config: Path) -> Iterator[tuple[str, str]]:
    own = {path.stem for path in user_folder(config).glob("*.toml")}
    for name in [*sorted(own), *(name for name in templates.sites() if name not in own)]:
        path = file_of(config, name)
        if path is not None:
            for sign in _signs_of(path, name):
                yield name, sign


def _signs_of(path: Path, name: str) -> Sequence[str]:
    """Only the signs: a profile that is not ours is not read further, since this is done at each start."""
    try:
        line = _DETECT.search(path.read_text())
        if line is None:
            return ()
        return [str(sign) for sign in json.loads(line[1])]
    except ValueError:  # signs on several lines, or in single quotes
        content = _content(path, name)
        _check_shape(name, path, content)
        return tuple(content.get("site", {}).get("detect", ()))
    except OSError:
        return ()


def _shows(sign: str, env: Mapping[str, str], hostname: str) -> bool:
    if sign.startswith("host "):
        return fnmatch.fnmatchcase(hostname, sign.removeprefix("host ").strip())
    variable, _, value = sign.partition("=")
    return bool(variable) and env.get(variable) == value


def here(config: Path, env: Mapping[str, str], wanted: str | None) -> Site | None:
    """The profile that counts: the one that was named, none for "none", else the one that is found."""
    if wanted == NONE:
        return None
    return read(config, wanted) if wanted else find(config, env, os.uname().nodename)
