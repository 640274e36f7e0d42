"""Why a session cannot start, or has been lost, with the nodes that are missing and what they said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class MissingNode(Protocol):
    """What is told of a node."""

    tail: list[str]

    @property
    def name(self) -> str: ...

    def trouble(self) -> str: ...


class SessionError(Exception):
    """The session cannot start or has been lost. `nodes` are those that are missing."""

    def __init__(self, what: str, nodes: Sequence[MissingNode] = ()) -> None:
        self.what = what
        self.nodes = list(nodes)
        super().__init__(self._text())

    def _text(self) -> str:
        lines = [self.what]
        alike: dict[str, list[MissingNode]] = {}
        for info in self.nodes:
            alike.setdefault(info.trouble(), []).append(info)
        for problem, nodes in alike.items():
            shown = ", ".join(info.name for info in nodes[:4])
            more = f" and {len(nodes) - 4} more alike" if len(nodes) > 4 else ""
            lines.append(f"  {shown}{more}: {problem}")
            lines += [f"    | {line}" for line in nodes[0].tail]
        return "\n".join(lines)


class StartError(SessionError):
    """Too few nodes came, or the head did not."""
