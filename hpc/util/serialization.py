"""Serializers of one's own for classes that cannot be pickled, or should not be as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpc.core import serialization


def register_serializer(cls: type, *, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]) -> None:
    """Send ``serializer(instance)`` for instances of exactly this class; ``deserializer`` makes them of that again.

    Holds in this process: register it in every process (task, actor) that sends such values. The deserializer travels
    with each value, so it need not be registered where the value is read. Registering again replaces.
    Raises TypeError for what is not a class, and for classes that Python itself pickles (numbers, strings, lists, ...).
    """
    serialization.register(cls, serializer, deserializer)


def deregister_serializer(cls: type) -> None:
    """Pickle instances of this class as usual again, in this process. Does nothing if none was registered."""
    serialization.deregister(cls)


__all__ = ["deregister_serializer", "register_serializer"]
