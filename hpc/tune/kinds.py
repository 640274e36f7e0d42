"""The owner of a kept state: an experiment may go on with another scheduler or search, which cannot load it. Pure."""

from __future__ import annotations

from typing import Any

#: The key of the kinds of the states that are kept.
KINDS = "kinds"
#: The attributes by which a scheduler or a search has another one in it.
_INNER = ("algorithm", "searcher", "_base_scheduler")


def kind_of(part: Any) -> str:
    """The names of the class of a scheduler or a search, and of those within."""
    names = []
    while part is not None:
        names.append(f"{type(part).__module__}.{type(part).__qualname__}")
        part = next((getattr(part, name) for name in _INNER if hasattr(part, name)), None)
    return " of ".join(names)
