"""What the environment says to `init`, beside the numbers and options of a session."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from typing import Any

from hpc.core.node.settings import SETTINGS
from hpc.core.variables import RUNTIME_ENV_HOOK, named, text, without_effect

#: Numbers of a session that Ray's names say too.
NUMBERS_OF_RAY = frozenset(known.ray for known in SETTINGS.values() if known.ray)


def tell_without_effect() -> None:
    """Warn of variables of Ray's that are set and mean nothing here."""
    found = without_effect(known=NUMBERS_OF_RAY)
    if found:
        listed = "; ".join(f"{name}: {why}" for name, why in found.items())
        warnings.warn(f"these variables of Ray's have no effect here: {listed}", stacklevel=3)


def hooked(runtime_env: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The runtime environment as the user's hook wants it, if there is one. What the import of the hook raises says
    which variable it was named by; ValueError for a name without a module."""
    found = text(RUNTIME_ENV_HOOK)
    if not found:
        return runtime_env
    module, _, name = found.rpartition(".")
    try:
        hook = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        kinds = (ModuleNotFoundError, ImportError, AttributeError, ValueError)
        kind: type[Exception] = next(kind for kind in kinds if isinstance(error, kind))
        raise kind(f"{named(RUNTIME_ENV_HOOK)} is {found!r}, not module.function: {error}") from error
    changed: Mapping[str, Any] | None = hook(dict(runtime_env) if runtime_env is not None else None)
    return changed
