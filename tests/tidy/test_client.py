"""Above the core a client is spoken to in verbs: nobody there takes a step of its machine by hand.

What a step needs (the lock, the machine, sending what it leaves, waking those who can go on) is said once, in the
client's methods. And the client consists of parts that it has: it inherits from no class of ours, and none of them
from it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from imports import LAZY, ROOT, TOP, graph, nodes, parsed

#: The folders whose files may look into a client: those of owners and workers, and the simulator of both.
INSIDE = ("core/owner", "core/worker", "core/sim")
FILES = sorted(p for part in ("core", "hpc", "launchers") for p in (ROOT / part).rglob("*.py"))
ABOVE = [p for p in FILES if not str(p.relative_to(ROOT)).startswith(INSIDE)]
#: What is the client's own: its machine, and what one needs to step it and to send what it leaves.
OWN = {
    "arena_use", "dropped", "hooks", "lock", "machine", "polling", "send_left", "send_now", "shapes", "sockets", "step",
    "wake_done",
}  # fmt: skip
CLIENTS = {"client", "_client"}
GIVE_CLIENTS = {"ensure_client", "need_client", "Client"}


def is_client(node: ast.expr) -> bool:
    """Whether an expression is a client, as far as its name says."""
    if isinstance(node, ast.Name):
        return node.id in CLIENTS
    if isinstance(node, ast.Attribute):
        return node.attr in CLIENTS
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in GIVE_CLIENTS


def steps_by_hand(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where something of a client's own is used."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_client(node.value) and (node.attr in OWN or node.attr[0] == "_"):
            yield node.lineno, node.attr


@pytest.mark.parametrize("path", ABOVE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_above_the_core_steps_a_client_by_hand(path):
    found = list(steps_by_hand(parsed(path)))
    assert not found, f"{path.relative_to(ROOT)}: {found}: give the client a verb for it"


@pytest.mark.parametrize(
    "text",
    [
        "client.machine.new_ids()",
        "with ref._client.lock: pass",
        "self._client._flush()",
        "ensure_client()._reqs += 1",
        "machine = need_client().machine",
    ],
)
def test_a_step_by_hand_is_found(text):
    assert list(steps_by_hand(ast.parse(text)))


def bases() -> Iterator[tuple[str, str, str]]:
    """Each class of core, its file and one of its bases."""
    for path in FILES:
        for node in nodes(path):
            if isinstance(node, ast.ClassDef):
                for base in node.bases:
                    name = base.value if isinstance(base, ast.Subscript) else base
                    yield str(path.relative_to(ROOT)), node.name, getattr(name, "attr", getattr(name, "id", ""))


def test_no_part_of_the_owner_knows_its_shell():
    """What decides, and what users hold, stands below the shell: it knows the protocols in ports.py alone."""
    shell = "hpc.core.owner.shell"
    below = {name: targets for name, targets in graph().items() if name.startswith("hpc.core.owner.")}
    assert any(name.startswith(shell) for name in below)
    found = [
        (name, target)
        for name, targets in below.items()
        for target, kinds in targets.items()
        if target.startswith(shell) and not name.startswith(shell) and kinds & {TOP, LAZY}
    ]
    assert not found


#: The client and the parts that it has.
PARTS = {
    "core/owner/shell/client.py": {"Client"},
    "core/owner/shell/conversation.py": {"Conversation"},
    "core/owner/shell/arena_use.py": {"ArenaUse"},
    "core/owner/shell/polling.py": {"PollLock"},
    "core/owner/shell/printed.py": {"Printed"},
    "core/owner/shell/sockets.py": {"Sockets"},
    "core/owner/shell/unhandled.py": {"Unhandled"},
    "core/owner/shell/values.py": {"Values"},
}


def test_the_client_and_its_parts_neither_inherit_nor_are_inherited_from():
    parts = {(path, name) for path, names in PARTS.items() for name in names}
    classes = {
        (path, n.name)
        for path in PARTS
        for n in ast.parse((ROOT / path).read_text()).body
        if isinstance(n, ast.ClassDef)
    }
    assert parts <= classes
    inherit = [(path, name, base) for path, name, base in bases() if (path, name) in parts]
    heirs = [(path, name, base) for path, name, base in bases() if base in {name for _, name in parts} - {"ArenaUse"}]
    assert not inherit and not heirs
