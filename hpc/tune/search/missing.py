"""The error for a searcher whose library is not installed."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["library"]


def library(module: str, package: str, searcher: str) -> Any:
    """The module of an optional package. Raises ImportError that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is not None and error.name.split(".")[0] != module.split(".")[0]:
            raise  # the package is there, and broken
        raise ImportError(
            f"{searcher} needs the package {package}, which is not installed: pip install {package}", name=error.name
        ) from error
