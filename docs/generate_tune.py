"""Writes the table of Ray's names of hyperparameter search in docs/tune.md.

python docs/generate_tune.py            write it
python docs/generate_tune.py --check    say whether it is up to date

The names are those that tests/compat/names.py has recorded, the remarks those of ray_tune_names.py. Whether a name is
here is found out by importing it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ray_tune_names as remarks
from table_in_page import main

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from compat.names import TUNE
from compat.test_public_names import ABSENT, RECORDED, above, first_path, twin


def rows() -> list[str]:
    """The table: a row for each name at the first place that it has, and for members that have a remark."""
    lines = ["| Ray's name | its parameters | here | |", "|---|---|---|---|"]
    place = {module: number for number, module in enumerate(TUNE)}
    names = [name for name in RECORDED if name.startswith("ray.tune.") and not set(above(name)[1:]) & set(remarks.NO)]
    names.sort(key=lambda name: place.get(name.rpartition(".")[0], len(place)))
    return lines + [row(name) for name in names if is_listed(name)]


def is_listed(name: str) -> bool:
    """Whether it has a row of its own: members have one only where there is something to say of them."""
    if name.rpartition(".")[0] in TUNE:
        return first_path(name) == name
    return name in remarks.DIFFERS or name in remarks.NO


def row(name: str) -> str:
    """A row, with what is said of the name."""
    taken = ", ".join(f"`{word}`" for word in RECORDED[name] or ())
    if twin(name) is ABSENT:
        return f"| `{name}` | {taken} | no | {remarks.NO[name]} |"
    said = [remarks.DIFFERS[name]] if name in remarks.DIFFERS else []
    without: dict[str, list[str]] = {}
    for (owner, word), why in remarks.NOT_TAKEN.items():
        if owner == name or (owner.rpartition(".")[0] == name and name not in TUNE):
            without.setdefault(why, []).append(f"{owner.removeprefix(name).lstrip('.')} `{word}`".strip())
    said += [f"not {', '.join(words)}: {why}" for why, words in without.items()]
    if name in remarks.MEMBERS:
        lost = [one for one in RECORDED if one.rpartition(".")[0] == name and twin(one) is ABSENT]
        members = ", ".join(f"`{one.rpartition('.')[2]}`" for one in lost)
        said.append(f"has no {members}: {remarks.MEMBERS[name]}")
    return f"| `{name}` | {taken} | {'differs' if said else 'yes'} | {'; '.join(said)} |"


if __name__ == "__main__":
    sys.exit(main("tune.md", "generate_tune.py", rows))
