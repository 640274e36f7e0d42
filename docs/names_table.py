"""The rows of the tables of Ray's libraries: each name with yes, differs or no. tests/compat tells what is here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from compat.library_names import LibraryNames
from compat.test_public_names import above


def rows_of(names: LibraryNames, modules: Sequence[str], main_class: str) -> list[str]:
    """The table: a row for each name of a module, for each member of the main class, and for members of which there is
    something to say."""
    place = {module: number for number, module in enumerate(modules)}
    ordered = sorted(names.recorded, key=lambda name: place.get(name.rpartition(".")[0], len(place)))
    listed = {*modules, main_class}
    return [
        "| Ray's name | here | |",
        "|---|---|---|",
        *(_row(names, one) for one in ordered if _has_row(names, one, listed)),
    ]


def _has_row(names: LibraryNames, name: str, listed: set[str]) -> bool:
    """Whether it has a row of its own."""
    said = names.said
    if set(above(name)[1:]) & set(said.NO):
        return False
    return name.rpartition(".")[0] in listed or name in said.DIFFERS or name in said.NO


def _row(names: LibraryNames, name: str) -> str:
    """A row, with what is said of the name."""
    remarks = names.said
    if not names.is_here(name):
        why = remarks.NO.get(name) or remarks.MEMBERS[name.rpartition(".")[0]]
        return f"| `{name}` | no | {why} |"
    said = [remarks.DIFFERS[name]] if name in remarks.DIFFERS else []
    without: dict[str, list[str]] = {}
    for (owner, word), why in remarks.NOT_TAKEN.items():
        if owner == name:
            without.setdefault(why, []).append(f"`{word}`")
    said += [f"not {', '.join(words)}: {why}" for why, words in without.items()]
    if name in remarks.MEMBERS:
        members = [one for one in names.recorded if one.rpartition(".")[0] == name and one not in remarks.NO]
        lost = ", ".join(f"`{one.rpartition('.')[2]}`" for one in members if not names.is_here(one))
        said.append(f"has no {lost}: {remarks.MEMBERS[name]}")
    return f"| `{name}` | {'differs' if said else 'yes'} | {'; '.join(said)} |"
