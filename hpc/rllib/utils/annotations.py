"""Decorators that mark methods for readers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Marked = TypeVar("Marked", bound=Callable[..., Any])


def override(parent_cls: type) -> Callable[[Marked], Marked]:
    """The method replaces one of this class. Raises NameError where that has no such method."""

    def mark(method: Marked) -> Marked:
        name = str(getattr(method, "__name__", None) or getattr(getattr(method, "fget", None), "__name__", ""))
        if not hasattr(parent_cls, name):
            raise NameError(f"{name} does not override any method of {parent_cls}")
        return method

    return mark


def OverrideToImplementCustomLogic(method: Marked) -> Marked:
    """Derived classes may define this method."""
    return method


def OverrideToImplementCustomLogic_CallToSuperRecommended(method: Marked) -> Marked:
    """Derived classes may define this method, and should call that of their base."""
    return method
