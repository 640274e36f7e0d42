"""Packages that a part of hpc.data uses, and the rest does not."""

from __future__ import annotations

import importlib
from typing import Any


def needs(module: str, what: str, package: str, install: str | None = None) -> Any:
    """A module of a package that is not needed otherwise. Raises ImportError that says how to install it.

    install: what pip is to install, if it is not the name of the package."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{what} needs {package}: pip install {install or package}") from error
