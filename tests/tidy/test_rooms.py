"""The top of hpc/ has the names that users import, and nothing else: how they are made stands in the rooms below."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
#: Modules at the top of hpc/: each is a public name, of Ray's or ours, in docs/api.md.
NAMES = {
    "actor", "cloudpickle", "cluster_utils", "cross_language", "exceptions", "internal", "job_config", "job_submission",
    "remote_function", "runtime_context", "runtime_env", "spi",
}  # fmt: skip
#: What a package has beside its names.
ITS_OWN = {"__init__", "__main__", "_version"}
#: Folders: libraries, which users import too, and rooms, which they do not.
LIBRARIES = {"collective", "data", "mpi", "rllib", "serve", "train", "tune", "util"}
#: What libraries share, which users import through them only.
SHARED = {"runs"}
ROOMS = {"api", "cli", "dashboard", "doctor", "host", "launch", "metrics", "report", "settings", "state"}
#: Modules of hpc/util that are a part of how Ray's names are made. All others are libraries like hpc/train: a contract
#: in pyproject.toml holds them to the public names and `hpc.spi`.
BELOW = {
    "check_serialize", "client", "node", "placement_group", "scheduling_strategies", "serialization", "state",
}  # fmt: skip
#: Modules that offer what another one makes: a class says the module from which it is imported.
FACES = ("hpc.actor", "hpc.remote_function", "hpc.util.placement_group", "hpc.util.scheduling_strategies")


def documented() -> set[str]:
    """Modules that docs/api.md lists, from the table that it is made of."""
    tree = ast.parse((ROOT / "docs" / "generate_api.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODULES":
            return set(ast.literal_eval(node.value))
    raise AssertionError("docs/generate_api.py has no table MODULES")


def test_only_names_that_users_import_are_at_the_top():
    assert {path.stem for path in (ROOT / "hpc").glob("*.py")} - ITS_OWN == NAMES


def test_each_folder_is_a_library_or_a_room():
    found = {path.name for path in (ROOT / "hpc").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert found == LIBRARIES | SHARED | ROOMS


def test_names_at_the_top_are_public_and_documented():
    import hpc

    assert documented() == NAMES | LIBRARIES, "docs/generate_api.py lists the modules at the top"
    assert set(hpc.__all__) >= NAMES | LIBRARIES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_file_at_the_top_says_that_it_has_public_names(name):
    first = (ast.get_docstring(ast.parse((ROOT / "hpc" / f"{name}.py").read_text())) or "").split("\n\n")[0]
    assert "public name" in first, f"hpc/{name}.py: the first sentence says which public names it has"


def library_contract() -> dict[str, list[str]]:
    """The import contract of the libraries."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (found,) = [one for one in tables if one["name"].startswith("libraries use")]
    return found


def test_each_library_is_held_to_the_public_names():
    modules = {path.stem for path in (ROOT / "hpc" / "util").iterdir() if not path.stem.startswith("__")}
    libraries = {f"hpc.{name}" for name in ("collective", "data", "mpi", "rllib", "runs", "serve", "train", "tune")}
    libraries |= {f"hpc.util.{name}" for name in modules - BELOW}
    assert set(library_contract()["source_modules"]) == libraries
    rooms = {f"hpc.{name}" for name in (*ROOMS, "core", "launchers", "templates")}
    assert set(library_contract()["forbidden_modules"]) == rooms


@pytest.mark.parametrize("name", FACES)
def test_a_class_that_is_made_elsewhere_says_where_users_import_it(name):
    module = importlib.import_module(name)
    classes = [value for value in map(vars(module).get, module.__all__) if inspect.isclass(value)]
    assert classes and {cls.__module__ for cls in classes} == {name}


def test_faces_define_nothing():
    for name in FACES:
        tree = ast.parse(Path(inspect.getfile(importlib.import_module(name))).read_text())
        assert all(isinstance(node, (ast.Expr, ast.ImportFrom, ast.Assign)) for node in tree.body), name
    assert "hpc.api.actors" in sys.modules


def test_each_package_is_in_the_wheel():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    tops = {"hpc": "hpc", "core": "hpc.core", "launchers": "hpc.launchers", "templates": "hpc.templates"}
    found = {
        ".".join((tops[top], *path.parent.relative_to(ROOT / top).parts))
        for top in tops
        for path in (ROOT / top).rglob("*.py")
    }
    assert found - set(table["packages"]) == set()
