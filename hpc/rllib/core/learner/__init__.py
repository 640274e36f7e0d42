"""Learners: modules with optimizers and losses, and groups of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.util.lazy import LazyNames

if TYPE_CHECKING:
    from hpc.rllib.core.learner.learner import Learner as Learner
    from hpc.rllib.core.learner.learner_group import LearnerGroup as LearnerGroup

#: Where each name is.
_HOME = {
    "Learner": "hpc.rllib.core.learner.learner",
    "LearnerGroup": "hpc.rllib.core.learner.learner_group",
}
__all__ = sorted(_HOME)

_lazy = LazyNames(__name__, _HOME)


def __getattr__(name: str) -> Any:
    return _lazy.get(name)


def __dir__() -> list[str]:
    return _lazy.all()
