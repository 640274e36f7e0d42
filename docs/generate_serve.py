"""Writes the table of Ray Serve's names in docs/serve.md.

python docs/generate_serve.py            write it
python docs/generate_serve.py --check    say whether it is up to date

The names are those that tests/compat/serve_names.py has recorded, the remarks those of ray_serve_names.py. Whether a
name is here is found out by importing it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ray_serve_names as remarks
from table_in_page import main

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from compat.serve_names import MODULES
from compat.test_public_names import above
from compat.test_serve_names import RECORDED, is_here


def rows() -> list[str]:
    """The table: a row for each name of a module, and for members of which there is something to say."""
    lines = ["| Ray's name | here | |", "|---|---|---|"]
    place = {module: number for number, module in enumerate(MODULES)}
    names = sorted(RECORDED, key=lambda name: place.get(name.rpartition(".")[0], len(place)))
    return lines + [row(name) for name in names if is_listed(name)]


def is_listed(name: str) -> bool:
    """Whether it has a row of its own."""
    if set(above(name)[1:]) & set(remarks.NO):
        return False
    is_method = name.rpartition(".")[0] == "ray.serve.handle.DeploymentHandle"
    return name.rpartition(".")[0] in MODULES or is_method or name in remarks.DIFFERS or name in remarks.NO


def row(name: str) -> str:
    """A row, with what is said of the name."""
    if not is_here(name):
        why = remarks.NO.get(name) or remarks.MEMBERS[name.rpartition(".")[0]]
        return f"| `{name}` | no | {why} |"
    said = [remarks.DIFFERS[name]] if name in remarks.DIFFERS else []
    without: dict[str, list[str]] = {}
    for (owner, word), why in remarks.NOT_TAKEN.items():
        if owner == name:
            without.setdefault(why, []).append(f"`{word}`")
    said += [f"not {', '.join(words)}: {why}" for why, words in without.items()]
    if name in remarks.MEMBERS:
        lost = [
            one for one in RECORDED if one.rpartition(".")[0] == name and not is_here(one) and one not in remarks.NO
        ]
        said.append(f"has no {', '.join(f'`{one.rpartition(chr(46))[2]}`' for one in lost)}: {remarks.MEMBERS[name]}")
    return f"| `{name}` | {'differs' if said else 'yes'} | {'; '.join(said)} |"


if __name__ == "__main__":
    sys.exit(main("serve.md", "generate_serve.py", rows))
