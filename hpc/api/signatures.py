"""Signatures of functions, methods and constructors, in a form that is cheap to check and travels with handles."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

_EMPTY = inspect.Parameter.empty
_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Signature(NamedTuple):
    """Which arguments a call takes. A call without keywords fits if it has from ``low`` to ``high`` arguments: that is
    all that is looked at where a call is cheap. The other fields are what `check` needs."""

    low: int = 0
    high: int = sys.maxsize
    #: Names of the arguments that have a place, how many of them have no name for callers, how many have no default.
    names: tuple[str, ...] = ()
    unnamed: int = 0
    required: int = 0
    #: Names of those without a place, and of those among them that have no default.
    keywords: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    more: bool = True
    more_keywords: bool = True

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises TypeError if these arguments do not fit."""
        if not self._fits(len(args), kwargs):
            try:
                self._inspected().bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(str(error)) from None

    def _fits(self, count: int, kwargs: dict[str, Any]) -> bool:
        names = self.names
        if count > len(names) and not self.more:
            return False
        free = names[max(count, self.unnamed) :]
        for name in kwargs:
            if name not in free and name not in self.keywords and (not self.more_keywords or name in names):
                return False
        return all(name in kwargs for name in self.needed) and all(
            at >= self.unnamed and names[at] in kwargs for at in range(count, self.required)
        )

    def _inspected(self) -> inspect.Signature:
        kinds = inspect.Parameter
        found = [
            kinds(
                name,
                kinds.POSITIONAL_ONLY if at < self.unnamed else kinds.POSITIONAL_OR_KEYWORD,
                default=_EMPTY if at < self.required else None,
            )
            for at, name in enumerate(self.names)
        ]
        if self.more:
            found.append(kinds("_hpc_args", kinds.VAR_POSITIONAL))
        for name in self.keywords:
            found.append(kinds(name, kinds.KEYWORD_ONLY, default=_EMPTY if name in self.needed else None))
        if self.more_keywords:
            found.append(kinds("_hpc_kwargs", kinds.VAR_KEYWORD))
        return inspect.Signature(found, __validate_parameters__=False)


#: Takes whatever comes: of callables that do not say what they take.
ANY = Signature()
NO_ARGUMENTS = Signature(0, 0, more=False, more_keywords=False)


def signature_of(function: Callable[..., Any], bound: bool = True) -> Signature:
    """What a callable takes; without its first argument if it is not ``bound`` yet."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return ANY
    if not bound and found and found[0].kind in _BY_PLACE:
        del found[0]
    placed = [p for p in found if p.kind in _BY_PLACE]
    alone = [p for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY]
    needed = tuple(p.name for p in alone if p.default is _EMPTY)
    more = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in found)
    required = sum(p.default is _EMPTY for p in placed)
    return Signature(
        low=sys.maxsize if needed else required,
        high=sys.maxsize if more else len(placed),
        names=tuple(p.name for p in placed),
        unnamed=sum(p.kind is inspect.Parameter.POSITIONAL_ONLY for p in placed),
        required=required,
        keywords=tuple(p.name for p in alone),
        needed=needed,
        more=more,
        more_keywords=any(p.kind is inspect.Parameter.VAR_KEYWORD for p in found),
    )


def constructor_of(cls: type) -> Signature:
    """What making an instance of a class takes. A constructor that is written in C takes what it takes."""
    plain = True
    for name in ("__init__", "__new__"):
        made = getattr(cls, name)
        if inspect.isfunction(made):
            return signature_of(made, bound=False)
        plain = plain and made is getattr(object, name)
    return NO_ARGUMENTS if plain else ANY


def method_of(cls: type, name: str) -> Signature:
    """What a method takes when it is called on an instance."""
    member = inspect.getattr_static(cls, name)
    bound = isinstance(member, (staticmethod, classmethod)) or not hasattr(type(member), "__get__")
    return signature_of(getattr(cls, name), bound)
