"""What runs in a process of a pool: an actor that calls a function for each item of a chunk."""

from __future__ import annotations

import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import cloudpickle

#: How an item of a chunk becomes a call.
ONE = 0  # f(item)
STAR = 1  # f(*item)
FULL = 2  # item is (args, kwargs)
#: Functions that a process remembers, so that what they keep in globals lasts for all chunks of one `map`.
REMEMBERED = 16

#: (True, value), or (False, (exception, text of its traceback)).
Outcome = tuple[bool, Any]


class RemoteTraceback(Exception):
    """The cause of an exception that was raised in another process: shows the traceback from there."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


class PoolWorker:
    """One process. The initializer has run before the first chunk."""

    def __init__(self, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
        self.functions: OrderedDict[str, Any] = OrderedDict()
        self.module = getattr(initializer, "__module__", None)
        self.given: dict[str, Any] = {}
        if initializer is None:
            return
        space: dict[str, Any] = getattr(initializer, "__globals__", {})
        before = dict(space)
        initializer(*initargs)
        self.given = {name: v for name, v in space.items() if name not in before or before[name] is not v}

    def run(self, key: str, function: Any, how: int, items: list[Any]) -> list[Outcome]:
        """The outcomes of a chunk. Functions of one key are the same."""
        if key:
            function = self._remember(key, function)
        else:
            self._hand_on(function)
        return [_call(function, how, item) for item in items]

    def _remember(self, key: str, function: Any) -> Any:
        known = self.functions.get(key)
        if known is None:
            known = self.functions[key] = function
            self._hand_on(function)
            if len(self.functions) > REMEMBERED:
                self.functions.popitem(last=False)
        return known

    def _hand_on(self, function: Any) -> None:
        """A script's own functions arrive by value, each with globals of its own. Put there what the initializer has
        set, as if they were in one module."""
        while hasattr(function, "func") or hasattr(function, "__func__"):
            function = getattr(function, "func", None) or function.__func__
        if self.given and getattr(function, "__module__", None) == self.module:
            getattr(function, "__globals__", {}).update(self.given)


def _call(function: Any, how: int, item: Any) -> Outcome:
    try:
        if how == ONE:
            return True, function(item)
        if how == STAR:
            return True, function(*item)
        return True, function(*item[0], **item[1])
    except Exception as error:
        return False, _portable(error)


def _portable(error: Exception) -> tuple[Exception, str]:
    """The exception, or one that shows its text if it cannot be pickled."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    error.__traceback__ = None
    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error} (it could not be pickled)")
    return error, text


def error_of(outcome: Outcome) -> Exception | None:
    """What the call raised, with the remote traceback as its cause; None if it returned."""
    if outcome[0]:
        return None
    error, text = outcome[1]
    error.__cause__ = RemoteTraceback(f'\n"""\n{text}"""')
    return error  # type: ignore[no-any-return]
