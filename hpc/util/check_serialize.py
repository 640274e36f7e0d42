"""inspect_serializability: which parts of an object are in the way of sending it to another process."""

from __future__ import annotations

from typing import Any, TextIO

from hpc.core.serializability import Culprit, find
from hpc.core.serialization import can_pickle


class FailureTuple:
    """An object that cannot be serialized: ``obj``, the ``name`` under which it was found, and in what (``parent``)."""

    def __init__(self, obj: Any, name: str, parent: Any) -> None:
        self.obj = obj
        self.name = name
        self.parent = parent

    def __repr__(self) -> str:
        return f"FailureTuple({self.name} [obj={self.obj!r:.100}, parent={self.parent!r:.100}])"


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: TextIO | None = None
) -> tuple[bool, set[FailureTuple]]:
    """Whether an object can be sent to another process, and if not, the set of its parts that are in the way.

    name: what to call the object in the text; by default its own name.
    depth: how many levels to look into it; a part that is deeper is named by what holds it on that level.
    print_file: where the text goes, by default standard output.
    Functions are looked at as they are sent: what they close over, the globals that they use, their defaults.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth}")
    label = name or str(getattr(base_obj, "__qualname__", None) or f"{base_obj!r:.60}")
    if can_pickle(base_obj):
        print(f"{label} can be serialized.", file=print_file)
        return True, set()
    culprits = find(base_obj, label, can_pickle, depth=depth)
    print(_report(label, culprits), file=print_file)
    return False, {FailureTuple(c.value, _bare(c), c.parent) for c in culprits}


def _bare(culprit: Culprit) -> str:
    """The name alone: of "attribute 'lock'" it is "lock"."""
    before, quote, rest = culprit.name.partition("'")
    return rest.partition("'")[0] if quote and before and not before.startswith("[") else culprit.name


def _report(label: str, culprits: list[Culprit]) -> str:
    lines = [f"{label} cannot be serialized. In the way:"]
    for culprit in culprits:
        lines.append(f"  {culprit}: {culprit.value!r:.100}")
    lines.append("Leave these out (in __getstate__, or as local variables), or give their classes a serializer")
    lines.append("with hpc.util.register_serializer().")
    return "\n".join(lines)


__all__ = ["FailureTuple", "inspect_serializability"]
