"""Each public name of Ray Serve's is here, with its parameters and defaults, or stands in docs/ray_serve_names.py."""

from __future__ import annotations

import enum
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compat.test_public_names import ABSENT, DOCS, above, remarks, twin

RECORDED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("recorded_serve_names.json").read_text())
SAID = remarks("ray_serve_names")


def is_here(name: str) -> bool:
    """Whether the name is there. Attributes of objects are, where the constructor takes them."""
    if twin(name) is not ABSENT:
        return True
    owner, _, last = name.rpartition(".")
    made = twin(owner)
    if RECORDED[name]["takes"] is not None or not isinstance(made, type):
        return False
    taken = inspect.signature(made).parameters
    return last in taken or any(one.kind is one.VAR_KEYWORD for one in taken.values())


def has_reason(name: str) -> bool:
    """Whether it is said why the name is not there."""
    return bool(set(above(name)) & set(SAID.NO)) or name.rpartition(".")[0] in SAID.MEMBERS


def signature(name: str) -> Any:
    """The parameters of a name that is here and can be called; None of others."""
    if not RECORDED[name]["takes"] or not is_here(name):
        return None
    try:
        taken = inspect.signature(twin(name)).parameters
    except (TypeError, ValueError):
        return None
    return None if any(one.kind is one.VAR_KEYWORD for one in taken.values()) else taken


def plain(value: Any) -> Any:
    """A default as it is recorded: of members of an enum that is a text, the text."""
    return value.value if isinstance(value, enum.Enum) else value


def test_each_name_is_here_or_has_its_reason_why_not() -> None:
    assert [name for name in RECORDED if not is_here(name) and not has_reason(name)] == []


def test_a_name_that_is_said_to_be_missing_is_missing() -> None:
    assert [name for name in SAID.NO if name not in RECORDED or is_here(name)] == []
    lacking = {name.rpartition(".")[0] for name in RECORDED if not is_here(name)}
    assert [name for name in SAID.MEMBERS if name not in lacking] == []


def test_each_takes_the_parameters_that_it_takes_under_ray() -> None:
    lost = []
    for name, given in RECORDED.items():
        taken = signature(name)
        if taken is not None:
            lost += [
                (name, word) for word in given["takes"] if word not in taken and (name, word) not in SAID.NOT_TAKEN
            ]
    assert lost == []
    assert [row for row in SAID.NOT_TAKEN if row[1] not in (RECORDED[row[0]]["takes"] or ())] == []


def test_each_default_is_that_of_ray() -> None:
    other = []
    for name, given in RECORDED.items():
        taken = signature(name) or {}
        for word, default in given["defaults"].items():
            is_other = word in taken and plain(taken[word].default) != default
            if is_other and (name, word) not in SAID.OTHER_DEFAULTS:
                other.append((name, word, default, taken[word].default))
    assert other == []


def test_the_table_in_the_page_is_what_the_code_says() -> None:
    command = [sys.executable, str(DOCS / "generate_serve.py"), "--check"]
    assert subprocess.run(command, timeout=60).returncode == 0, "make docs"


@pytest.mark.parametrize("name", ["ray.serve.run", "ray.serve.config.AutoscalingConfig"])
def test_what_is_compared_is_recorded(name: str) -> None:
    assert RECORDED[name]["takes"] and signature(name)
