"""Each public name of Ray's is here, with its parameters, or stands in docs/ray_names.py with the reason why not."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
RECORDED: dict[str, list[str] | None] = json.loads(Path(__file__).with_name("recorded_names.json").read_text())

DEFAULTS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("recorded_defaults.json").read_text())

#: A name that is not here.
ABSENT = object()
#: The names of hyperparameter search by their last part, the shortest path first.
SHORTER: dict[str, list[str]] = {}
for _name in sorted((name for name in RECORDED if name.startswith("ray.tune.")), key=lambda name: name.count(".")):
    SHORTER.setdefault(_name.rpartition(".")[2], []).append(_name)
#: Classes whose objects the package makes, not programs: what makes one is not compared.
MADE_HERE = {
    "ray.ActorClass", "ray.ActorHandle", "ray.ObjectRefGenerator", "ray.actor.ActorClass", "ray.actor.ActorHandle",
    "ray.actor.ActorMethod", "ray.job_submission.JobDetails", "ray.job_submission.JobInfo",
    "ray.runtime_context.RuntimeContext",
}  # fmt: skip
#: Names that take any keyword to say that they do not know it.
REFUSES_WORDS = {"ray.runtime_env.RuntimeEnv"}
#: Parameters of names that exist here which are not taken, and why.
NOT_TAKEN: dict[tuple[str, str], str] = {
    ("ray.runtime_env.RuntimeEnv", "py_executable"): "the interpreter is that of pip, uv, conda or the container",
    ("ray.runtime_env.RuntimeEnv", "nsight"): "a profiler is started by the command of the job",
    ("ray.runtime_env.RuntimeEnv", "rocprof_sys"): "a profiler is started by the command of the job",
}  # fmt: skip


def remarks(module: str) -> Any:
    """A module of docs/ with what is said of names."""
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(str(DOCS))


TUNE = remarks("ray_tune_names")
NOT_TAKEN.update(TUNE.NOT_TAKEN)


def reasons() -> dict[str, str]:
    return {**remarks("ray_names").NO, **TUNE.NO}


def is_lost(name: str, no: dict[str, str]) -> bool:
    """Whether a name is not here, without a reason."""
    if twin(name) is not ABSENT or any(part in no for part in above(name)):
        return False
    return name.rpartition(".")[0] not in TUNE.MEMBERS


def twin(name: str) -> Any:
    """This package's value of the name, or ABSENT. Fields of a class without a default are there: their annotation."""
    parts = ["hpc", *name.split(".")[1:]]
    for cut in (*range(len(parts) - 1, 0, -1), len(parts)):  # a function goes before the module of its name
        try:
            value: Any = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for attribute in parts[cut:]:
            value = getattr(value, attribute, getattr(value, "__annotations__", {}).get(attribute, ABSENT))
        if value is not ABSENT:
            return value
    return ABSENT


def first_path(name: str) -> str:
    """The path at which what stands under several in Ray is recorded with its members."""
    if name.split(".")[-2][0].isupper():
        return name  # of a class: members are recorded at one place
    for other in SHORTER.get(name.rpartition(".")[2], ()):
        if RECORDED[other] == RECORDED[name] and twin(other) is twin(name):
            return other
    return name


def above(name: str) -> list[str]:
    """The name, and what it stands in."""
    parts = name.split(".")
    return [".".join(parts[:cut]) for cut in range(len(parts), 1, -1)]


def test_each_public_name_is_here_or_has_its_reason_why_not() -> None:
    no = reasons()
    lost = [name for name in RECORDED if is_lost(name, no)]
    assert not lost, "these are neither here nor in NO of docs/ray_names.py or docs/ray_tune_names.py"


def test_a_name_that_is_said_to_be_missing_is_missing() -> None:
    assert [name for name in RECORDED if name in reasons() and twin(name) is not ABSENT] == []


@pytest.mark.parametrize("name", [name for name, given in RECORDED.items() if given])
def test_it_takes_the_parameters_that_it_takes_under_ray(name: str) -> None:
    value = twin(name)
    if value is ABSENT or name in MADE_HERE or name.startswith("ray.exceptions."):
        return
    taken = inspect.signature(value).parameters
    if any(p.kind is p.VAR_KEYWORD for p in taken.values()) and name not in REFUSES_WORDS:
        return
    name = first_path(name)
    known = TUNE.BY_POSITION if name.startswith("ray.tune.") else ()
    lost = [
        word
        for word in RECORDED[name] or ()
        if word not in taken and word not in known and (name, word) not in NOT_TAKEN
    ]
    assert not lost, f"{name} does not take them, and NOT_TAKEN has no reason"


def test_each_parameter_that_is_not_taken_is_one_of_rays() -> None:
    assert [row for row in NOT_TAKEN if row[1] not in (RECORDED.get(row[0]) or ())] == []


@pytest.mark.parametrize("name", DEFAULTS)
def test_its_parameters_have_the_defaults_that_they_have_under_ray(name: str) -> None:
    value = twin(name)
    if value is ABSENT:
        return
    name = first_path(name)
    taken = inspect.signature(value).parameters
    other = {
        word: (default, taken[word].default)
        for word, default in DEFAULTS[name].items()
        if word in taken and taken[word].default != default and (name, word) not in TUNE.OTHER_DEFAULTS
    }
    assert not other, f"{name} has other defaults (Ray's, ours), and OTHER_DEFAULTS has no reason"


def test_each_class_that_is_said_to_lack_members_lacks_some() -> None:
    lacking = {name.rpartition(".")[0] for name in RECORDED if twin(name) is ABSENT}
    assert [name for name in TUNE.MEMBERS if name not in lacking] == []
