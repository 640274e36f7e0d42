"""What nobody uses is deleted: functions, classes and constants of the package, and messages of the wire.

A use in a test is none. Names that users type stand at the top of hpc/, in its libraries, or in the list.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from imports import nodes, parsed

ROOT = Path(__file__).resolve().parents[2]
USERS = ("hpc", "core", "launchers", "templates", "bench", "examples")
FILES = sorted(path for part in USERS for path in (ROOT / part).rglob("*.py"))
LOOKED_AT = ("core/", "launchers/", "hpc/api/", "hpc/cli/", "hpc/host/", "hpc/launch/", "hpc/settings/", "hpc/state/")
OURS = [path for path in FILES if str(path.relative_to(ROOT)).startswith(LOOKED_AT) and path.name != "faults.py"]

#: Of classes that users get to see: what they find there under Ray too.
FOR_USERS = {
    "core/exceptions.py": {"actor_init_failed", "preempted"},
    "core/idtypes.py": {"from_binary", "from_random", "is_nil", "size"},
    "core/owner/generator.py": {"aclose", "asend", "athrow", "is_finished", "next_ready", "throw"},
    "hpc/api/actors.py": {"_actor_id", "_remote"},
    "hpc/api/functions.py": {"_remote"},
    "hpc/api/logging_config.py": {"from_dict"},
    "core/owner/ref.py": {"call_site", "is_nil", "owner_address", "tensor_transport"},
}
#: An id by hand, what the head keeps of jobs, and ranges of tags, for which only tests ask. The file that makes faults
#: between nodes is theirs as a whole.
FOR_TESTS = {
    "core/ids.py": {"make_id"},
    "hpc/host/ask.py": {"kv_get", "kv_keys"},
    **{f"core/wire/{path.name}": {"TAGS"} for path in (ROOT / "core" / "wire").glob("*.py")},
}


@cache
def uses() -> Counter[str]:
    """How often each name is used in the package: as a name, behind a dot, or in quotes."""
    found: Counter[str] = Counter()
    for path in FILES:
        for node in nodes(path):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found[node.id] += 1
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found[node.attr] += 1
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found[node.value] += 1
    return found


def defined(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("__"):
            yield node.name
    for node in parsed(path).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        yield from (target.id for target in targets if isinstance(target, ast.Name) and target.id[:2] != "__")


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_name_has_a_use(path):
    file = str(path.relative_to(ROOT))
    allowed = FOR_USERS.get(file, set()) | FOR_TESTS.get(file, set())
    dead = [name for name in defined(path) if not uses()[name] and name not in allowed]
    assert not dead, f"{file}: nothing uses {dead}"


def test_each_message_is_sent_and_taken():
    wire = ROOT / "core" / "wire"
    messages = {
        node.name
        for path in wire.glob("*.py")
        for node in parsed(path).body
        if isinstance(node, ast.ClassDef) and any(keyword.arg == "tag" for keyword in node.keywords)
    }
    made, named = set(), Counter[str]()
    for path in FILES:
        if path.relative_to(ROOT).parts[0] in ("core", "hpc") and path.parent != wire:
            calls = [node.func for node in nodes(path) if isinstance(node, ast.Call)]
            made |= {func.id for func in calls if isinstance(func, ast.Name)}
            named.update(node.id for node in nodes(path) if isinstance(node, ast.Name))
            named.subtract(func.id for func in calls if isinstance(func, ast.Name))
    assert len(messages) > 90
    assert not messages - made, f"nobody sends {sorted(messages - made)}"
    assert not (unheard := sorted(name for name in messages if named[name] <= 0)), f"nobody takes {unheard}"
