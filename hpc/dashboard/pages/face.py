"""What a page is: its name, the answers that it needs, and how it is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hpc.dashboard.views import Params

Answers = Mapping[str, Any]
Ask = Callable[[Params], dict[str, Any]]
View = Callable[[Answers, Params], dict[str, Any]]


class Page(NamedTuple):
    """A page. ``key`` opens it. ``needs`` names questions; ``view`` makes of their answers what its module draws.
    ``more``: what it can be asked for beside that, by name. ``acts``: what the session does for it, by POST alone."""

    name: str
    title: str
    key: str
    needs: tuple[str, ...]
    view: View
    more: Mapping[str, Ask] = {}
    acts: Mapping[str, Ask] = {}
