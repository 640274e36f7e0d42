"""Packages whose names are imported when they are first used, so that importing the package costs little."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Collection, Mapping
from typing import Any


class LazyNames:
    """What the ``__getattr__`` and the ``__dir__`` of a package say.

    homes: for each name the module where it is. modules: those of the package that are attributes without an import."""

    def __init__(self, package: str, homes: Mapping[str, str], modules: Collection[str] = ()) -> None:
        self._package, self._homes, self._modules = package, homes, modules

    def get(self, name: str) -> Any:
        """The value, which is an attribute of the package from now on. Raises AttributeError for other names."""
        home = self._homes.get(name)
        if home is not None:
            value = getattr(importlib.import_module(home), name)
        elif name in self._modules:
            value = importlib.import_module(f"{self._package}.{name}")
        else:
            raise AttributeError(f"module {self._package!r} has no attribute {name!r}")
        vars(sys.modules[self._package])[name] = value
        return value

    def all(self) -> list[str]:
        """All names of the package."""
        return sorted({*vars(sys.modules[self._package]), *self._homes, *self._modules})
