"""The autoscaling policy of a deployment: Serve's own, or the user's function, imported where it is a path."""

from __future__ import annotations

import importlib
from typing import Any

from hpc.serve.autoscaling_policy import default_autoscaling_policy
from hpc.serve.specs import DeploymentSpec


def policy_of(spec: DeploymentSpec) -> Any:
    """The function. Raises ImportError and AttributeError for a path that leads to none."""
    scaling = spec.config.autoscaling_config
    if scaling is None or scaling.policy.is_default:
        return default_autoscaling_policy
    return imported(scaling.policy.policy_function)


def imported(what: Any) -> Any:
    """What an import path, "module:name" or "module.name", leads to; anything else is itself."""
    if not isinstance(what, str):
        return what
    module, _, name = what.rpartition(":") if ":" in what else what.rpartition(".")
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
