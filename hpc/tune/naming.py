"""Names of experiments and trials, as Ray gives them: ids, tags, and the directories in which results are found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

#: The most characters of a directory's name before its date (Ray's variable TUNE_MAX_LEN_IDENTIFIER changes it).
MOST_CHARACTERS = 130
#: Characters that some file system, or a copying program, has another meaning for.
_NOT_IN_PATHS = re.compile(r'[/()<>:"\\|?*]')
_NOT_IN_TAGS = re.compile(r"[^a-zA-Z0-9_-]+")
#: Of a sampled specification: what is no parameter of a trial.
_NO_PARAMETERS = ("run", "env", "resources_per_trial")


def date_text(moment: datetime) -> str:
    """A moment as names and files have it: 2026-11-29_22-49-57."""
    return moment.strftime("%Y-%m-%d_%H-%M-%S")


def numbered_id(prefix: str, number: int) -> str:
    """The id of a trial that a grid or random search makes: five hexadecimal digits that its experiment has in common
    (``prefix``), and its number."""
    return f"{prefix}_{number:05d}"


def experiment_dirname(trainable_name: str, moment: datetime | None) -> str:
    """The directory of an experiment that its user has not named. None: without the date."""
    return trainable_name if moment is None else f"{trainable_name}_{date_text(moment)}"


def experiment_tag(number: int, sampled: Mapping[Any, Any]) -> str:
    """A trial's number and the values that were sampled for it.

    sampled: a path into the configuration (a tuple of keys, or one text "a/b") and its value. A value is named by the
    last key of its path; values are in the order of the paths.
    """
    return f"{number}_{values_text(sampled)}" if sampled else str(number)


def values_text(resolved_vars: Mapping[Any, Any]) -> str:
    """``lr=0.0100,momentum=0.9000``, in characters that a directory's name can have."""
    rows = sorted((_path(key), value) for key, value in _parameters(resolved_vars))
    return ",".join(f"{_clean(path[-1])}={_clean(value)}" for path, value in rows)


def trial_name(trainable_name: str, config: Mapping[str, Any], trial_id: str) -> str:
    """The name of a trial in lists and messages: its trainable, an ``env`` of its configuration, and its id."""
    if "env" in config:
        env = config["env"]
        trainable_name = f"{trainable_name}_{env.__name__ if isinstance(env, type) else env}"
    return f"{trainable_name}_{trial_id}".replace("/", "_")


def trial_dirname(name: str, tag: str, moment: datetime, most: int = MOST_CHARACTERS) -> str:
    """The directory of a trial: its name and tag, cut to ``most`` characters, and the date."""
    return _NOT_IN_PATHS.sub("_", f"{f'{name}_{tag}'[:most]}_{date_text(moment)}")


def custom_dirname(name: str) -> str:
    """A directory as the user's trial_dirname_creator names it. Raises ValueError for more than one name."""
    if not isinstance(name, str) or not name or "/" in name or name in (".", ".."):
        raise ValueError(f"trial_dirname_creator must return the name of a directory, without '/': not {name!r}")
    return _NOT_IN_PATHS.sub("_", name)


def checkpoint_dirname(index: int) -> str:
    """The directory of a trial's checkpoint with this number, counted from 0."""
    return f"checkpoint_{index:06d}"


def _parameters(sampled: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return [(key, value) for key, value in sampled.items() if key not in _NO_PARAMETERS]


def _path(key: Any) -> tuple[str, ...]:
    return tuple(map(str, key)) if isinstance(key, tuple) else tuple(str(key).split("/"))


def _clean(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else _NOT_IN_TAGS.sub("_", str(value)).strip("_")
