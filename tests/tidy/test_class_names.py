"""A class of the core or the launchers has a name that no other class there has."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def homes(sources: dict[str, str]) -> dict[str, list[str]]:
    """The files that have a class of each name, for names that stand for several classes."""
    found = defaultdict(list)
    for path, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(path)
    return {name: paths for name, paths in found.items() if len(paths) > 1}


def test_one_name_is_one_class():
    files = [path for part in ("core", "launchers") for path in sorted((ROOT / part).rglob("*.py"))]
    shared = homes({str(path.relative_to(ROOT)): path.read_text() for path in files})
    assert not shared


def test_the_check_sees_two_classes_of_a_name():
    hold, other = "class Hold: ...", "class A: ..."
    sources = {"core/raylet/a.py": hold, "core/owner/b.py": hold, "core/net/c.py": other}
    assert homes(sources) == {"Hold": ["core/raylet/a.py", "core/owner/b.py"]}
