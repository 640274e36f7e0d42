"""What a class says of the actor that it makes: whether its calls run on an event loop."""

from __future__ import annotations

import inspect


def has_coroutines(cls: type) -> bool:
    """Whether a class has coroutine methods: its calls run on an event loop then."""
    return any(
        inspect.iscoroutinefunction(m) or inspect.isasyncgenfunction(m)
        for _, m in inspect.getmembers(cls, inspect.isfunction)
    )
