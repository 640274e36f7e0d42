"""How a setter of a configuration takes its keywords, and what it says of keywords that it does not know."""

from __future__ import annotations

import difflib
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from hpc.rllib.algorithms.config.old import OLD_KEYWORDS, RENAMED_KEYWORDS
from hpc.rllib.utils import deep_update

_RESTS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
Setter = TypeVar("Setter", bound=Callable[..., Any])


class _NotProvided:
    """The value of a keyword that was not given; None is a value."""

    def __repr__(self) -> str:
        return "NotProvided"

    def __deepcopy__(self, memo: Any) -> _NotProvided:
        return self

    def __reduce__(self) -> str:
        return "NotProvided"


NotProvided: Any = _NotProvided()


def is_search(value: Any) -> bool:
    """Whether the value is a Tuner's to choose: it is checked when it has been chosen."""
    from hpc.tune.search.sample import Domain

    return isinstance(value, Domain) or (isinstance(value, dict) and "grid_search" in value)


def keywords_of(kind: type, method: str) -> set[str]:
    """The keywords of this setter, those of its base classes counted."""
    found: set[str] = set()
    for base in kind.__mro__:
        function = base.__dict__.get(method)
        if function is not None:
            parameters = inspect.signature(function).parameters.values()
            found |= {one.name for one in parameters if one.kind not in _RESTS}
    return found - {"self"}


def section(setter: Setter) -> Setter:
    """Have a setter refuse keywords that it does not know, with the name that was meant; it takes old names, too."""
    name = setter.__name__

    @functools.wraps(setter)
    def checked(self: Any, *first: Any, **given: Any) -> Any:
        known = keywords_of(type(self), name)
        for key in [key for key in given if key not in known]:
            renamed = RENAMED_KEYWORDS.get(key)
            if renamed is None:
                raise _unknown(name, key, known)
            where, new = renamed
            warnings.warn(f"config.{name}({key}=..) is config.{where}({new}=..) now", DeprecationWarning, stacklevel=2)
            if where == name:
                given[new] = given.pop(key)
            else:
                getattr(self, where)(**{new: given.pop(key)})
        return setter(self, *first, **given)

    return checked  # type: ignore[return-value]


def _unknown(method: str, key: str, known: set[str]) -> Exception:
    if key in OLD_KEYWORDS:
        return ValueError(
            f"AlgorithmConfig.{method}({key}=..) is a setting of RLlib's old API stack: {OLD_KEYWORDS[key]}"
        )
    near = difflib.get_close_matches(key, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else f". It knows: {', '.join(sorted(known))}"
    return TypeError(f"AlgorithmConfig.{method}() got an unexpected keyword argument {key!r}{hint}")


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Put the new values over the old ones, in dicts of dicts as well; the old dict is changed."""
    return deep_update(old, new, new_keys_allowed=True)
