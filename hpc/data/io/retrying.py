"""Errors of file systems that pass: what failed with one is done again, after a wait that doubles each time.

`DataContext.retried_io_errors` has the patterns: texts that are somewhere in an error, or regular expressions. Errors
that lie beneath an error (its causes) are looked at as well.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
#: As often as Ray tries, and as long as it waits at most.
ATTEMPTS = 10
MOST_S = 32.0


class Attempts:
    """The attempts of one thing. ``failed`` waits before the next one, or raises the error that will not pass."""

    def __init__(self, context: Any) -> None:
        self._patterns: list[str] = list(getattr(context, "retried_io_errors", None) or ())
        self._made = 0

    def went_on(self) -> None:
        """Something came: the next failure is a first one again."""
        self._made = 0

    def failed(self, error: Exception) -> None:
        """An attempt has failed."""
        self._made += 1
        if self._made >= ATTEMPTS or not passes(error, self._patterns):
            raise error
        time.sleep(min(2.0 ** (self._made - 1), MOST_S) * random.uniform(0.8, 1.2))


def called(call: Callable[[], T], context: Any) -> T:
    """What a call gives, which may be made again."""
    try:
        return call()
    except Exception as error:
        return again(call, error, context)


def again(call: Callable[[], T], error: Exception, context: Any) -> T:
    """What a call gives that has failed once, with this error."""
    attempts = Attempts(context)
    while True:
        attempts.failed(error)
        try:
            return call()
        except Exception as another:
            error = another


def iterated(begin: Callable[[], Iterator[T]], context: Any) -> Iterator[T]:
    """The items of an iterator that gives the same ones each time. After an error it begins anew, and what has been
    given is left out."""
    attempts = Attempts(context)
    given = 0
    while True:
        left_out = 0
        try:
            for item in begin():
                if left_out < given:
                    left_out += 1
                    continue
                given += 1
                left_out += 1
                attempts.went_on()
                yield item
                del item
            return
        except Exception as error:
            attempts.failed(error)


def passes(error: BaseException, patterns: list[str]) -> bool:
    """Whether a pattern is in the error, or in one beneath it."""
    beneath: BaseException | None = error
    seen: set[int] = set()
    while beneath is not None and id(beneath) not in seen:
        seen.add(id(beneath))
        text = f"{type(beneath).__name__}: {beneath}"
        if any(_matches(pattern, text) for pattern in patterns):
            return True
        beneath = beneath.__cause__ or beneath.__context__
    return False


def _matches(pattern: str, text: str) -> bool:
    try:
        return pattern in text or re.search(pattern, text) is not None
    except re.error:  # a text with brackets
        return False
