"""Errors of values that do not fit into blocks."""

from __future__ import annotations


class DataTypeError(TypeError):
    """A value has a type that a block cannot hold, or that the receiver cannot use."""
