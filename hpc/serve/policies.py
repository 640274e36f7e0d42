"""The autoscaling policy of a deployment: Serve's own, or the user's function, imported where it is a path."""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
from typing import Any

from hpc.serve.autoscaling_policy import default_autoscaling_policy
from hpc.serve.specs import DeploymentSpec


class Policies:
    """The policies of a controller. What users import is imported anew after a deploy, where a file of it has changed:
    a controller outlives many versions of them."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}
        #: The modules that were imported for them, and how their files were then.
        self._files: dict[str, tuple[str, int, int]] = {}

    def policy_of(self, spec: DeploymentSpec) -> Any:
        """The function of a deployment. Raises ImportError and AttributeError for a path that leads to none."""
        scaling = spec.config.autoscaling_config
        if scaling is None or scaling.policy.is_default:
            return default_autoscaling_policy
        return self.imported(scaling.policy.policy_function)

    def imported(self, what: Any) -> Any:
        """The same as `imported`, once."""
        if not isinstance(what, str):
            return what
        if what not in self._found:
            before = set(sys.modules)
            writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # it tells the seconds of a change alone
            try:
                self._found[what] = imported(what)
            finally:
                sys.dont_write_bytecode = writes
                named = what.rpartition(":" if ":" in what else ".")[0]
                for name in {named, *(set(sys.modules) - before)}:
                    if (there := _file_of(name)) is not None:
                        self._files.setdefault(name, there)
        return self._found[what]

    def renew(self) -> None:
        """Something was deployed: what has changed is imported anew, and what imports that."""
        if any(_stat(path) != (path, *there) for path, *there in self._files.values()):
            for name in self._files:
                sys.modules.pop(name, None)
            importlib.invalidate_caches()
            self._found, self._files = {}, {}


def _file_of(name: str) -> tuple[str, int, int] | None:
    """The file of a module of the user's, and how it is; None for those that are installed."""
    path = getattr(sys.modules.get(name), "__file__", None)
    if not path or name.split(".")[0] == "hpc" or name == "__main__" or "-packages" in path:
        return None
    if path.startswith(tuple({sysconfig.get_path(which) for which in ("stdlib", "platstdlib")})):
        return None
    return _stat(path)


def _stat(path: str) -> tuple[str, int, int] | None:
    try:
        there = os.stat(path)
    except OSError:
        return None
    return path, there.st_mtime_ns, there.st_size


def imported(what: Any) -> Any:
    """What an import path, "module:name" or "module.name", leads to; anything else is itself."""
    if not isinstance(what, str):
        return what
    module, _, name = what.rpartition(":") if ":" in what else what.rpartition(".")
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
