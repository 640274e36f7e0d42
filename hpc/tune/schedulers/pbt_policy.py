"""The files that say how a population came to its configurations, as Ray names them and writes them.

`pbt_global.txt` of the experiment's folder has a line for each clone. It has the tags of the trial and of the cloned
one, their iterations, the configuration of the cloned one, and the new one. `pbt_policy_ID.txt` has the lines that led
to the present state of one trial: PopulationBasedTrainingReplay reads it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Line = list[Any]


def folder_of(controller: Any, trial: Any) -> Path | None:
    """The folder of the experiment, if it is one on a file system of this machine that is there."""
    given = getattr(controller, "experiment_path", None)
    if given is None and getattr(trial, "path", None):
        given = str(Path(trial.path).parent)
    return Path(given) if given and Path(given).is_dir() else None


def append(folder: Path, trial_id: str, donor_id: str, line: Line) -> None:
    """Note a clone: for all, and for the trial, whose earlier lines are from now on those of the donor."""
    text = json.dumps(line, default=_shown) + "\n"
    with open(folder / "pbt_global.txt", "a") as file:
        file.write(text)
    donor, own = (folder / f"pbt_policy_{one}.txt" for one in (donor_id, trial_id))
    earlier = donor.read_text() if donor.exists() else own.read_text() if own.exists() else ""
    own.write_text(earlier + text)


def _shown(value: Any) -> Any:
    """numpy's numbers and arrays as plain ones, other things as text."""
    plain = getattr(value, "tolist", None)
    return plain() if plain is not None else str(value)


def read(path: str) -> tuple[dict[str, Any] | None, list[tuple[float, dict[str, Any]]]]:
    """The configuration that a trial began with, and at which iterations it became which one.

    The configuration is None where nothing ever changed. Raises ValueError for a file that is none of these.
    """
    try:
        lines = [json.loads(line) for line in Path(path).read_text().splitlines() if line.strip()]
        steps = [(old, new, int(at), before, after) for old, new, _, at, before, after in lines]
    except (json.JSONDecodeError, ValueError, TypeError):
        raise ValueError(f"{path} is no policy file of population based training") from None
    chain: list[tuple[float, dict[str, Any]]] = []
    began: dict[str, Any] | None = None
    expected: Any = None
    for old_tag, new_tag, at, before, after in reversed(steps):
        if expected is not None and old_tag != expected:
            break  # What came before was overwritten by this clone.
        expected, began = new_tag, before
        chain.append((at, after))
    return began, chain[::-1]
