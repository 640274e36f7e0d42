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

#: A name that is not here.
ABSENT = object()
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


def reasons() -> dict[str, str]:
    sys.path.insert(0, str(DOCS))
    try:
        no: dict[str, str] = importlib.import_module("ray_names").NO
    finally:
        sys.path.remove(str(DOCS))
    return no


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


def above(name: str) -> list[str]:
    """The name, and what it stands in."""
    parts = name.split(".")
    return [".".join(parts[:cut]) for cut in range(len(parts), 1, -1)]


def test_each_public_name_is_here_or_has_its_reason_why_not() -> None:
    no = reasons()
    lost = [name for name in RECORDED if twin(name) is ABSENT and not any(part in no for part in above(name))]
    assert not lost, "these are neither here nor in NO of docs/ray_names.py"


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
    lost = [word for word in RECORDED[name] or () if word not in taken and (name, word) not in NOT_TAKEN]
    assert not lost, f"{name} does not take them, and NOT_TAKEN has no reason"


def test_each_parameter_that_is_not_taken_is_one_of_rays() -> None:
    assert [row for row in NOT_TAKEN if row[1] not in (RECORDED.get(row[0]) or ())] == []
