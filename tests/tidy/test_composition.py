"""Classes of core/ have parts instead of ancestors: one inherits from another of ours only if it is named here.

A class that is spread over its ancestors has no order that can be read, and each layer may call any other. So the
machines and the shells have parts (`core/owner/machine.py` is the pattern). Kinds of one small value may share a base.
"""

from __future__ import annotations

import ast

from imports import ROOT

#: Files whose classes are kinds of one value: errors, messages, ids, what the journal may say, how values are pickled,
#: vendors.
KINDS = {
    "core/exceptions.py", "core/idtypes.py", "core/serialization.py", "core/head/journal.py", "core/wire",
    "core/accelerators",
}  # fmt: skip
#: Class and base of the others.
ALLOWED = {
    ("ArenaWithOverflow", "Arena"),  # the same memory, and more behind it
    ("AsyncActorHost", "ActorHost"),  # the same face with a loop of its own
    ("PlainReceiver", "_End"),  # the two ends of one transfer
    ("PlainSender", "_End"),
    ("Columns", "Snapshot"),  # the head's columns, kept up to date
    ("NoNetworkError", "InterfaceError"),  # an error that the doctor tells apart
}


def inherited(sources: dict[str, str]) -> set[tuple[str, str, str]]:
    """(file, class, base) of each class whose base is a class of these files and no Protocol, which has no code."""
    trees = {path: [n for n in ast.walk(ast.parse(s)) if isinstance(n, ast.ClassDef)] for path, s in sources.items()}
    every = [one for classes in trees.values() for one in classes]
    faces = {one.name for one in every if any(ast.unparse(base).startswith("Protocol") for base in one.bases)}
    ours = {one.name for one in every} - faces
    found = set()
    for path, classes in trees.items():
        for one in classes:
            for base in one.bases:
                named = base.value if isinstance(base, ast.Subscript) else base
                name = ast.unparse(named).rpartition(".")[2]
                if name in ours:
                    found.add((path, one.name, name))
    return found


def core_sources() -> dict[str, str]:
    return {str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / "core").rglob("*.py"))}


def is_kind(path: str) -> bool:
    return any(path == one or path == f"{one}.py" or path.startswith(f"{one}/") for one in KINDS)


def test_a_class_of_core_inherits_from_no_other_of_ours_but_those_named_here():
    found = {(one, base) for path, one, base in inherited(core_sources()) if not is_kind(path)}
    assert found == ALLOWED, "give the class parts, or say here why it is a kind of the other; take out what is gone"


def test_a_layer_over_a_machine_is_seen():
    sources = {
        "core/owner/machine.py": "class OwnerMachine: ...",
        "core/head/more.py": "class More(machine.OwnerMachine): ...",
    }
    assert inherited(sources) == {("core/head/more.py", "More", "OwnerMachine")}
