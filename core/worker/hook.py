"""The hook of a runtime environment: a function that runs once in each worker process, before its first task.

It runs when the first code of a user's is wanted. So it finds what tasks find: the driver's modules and directory, the
session, the lease. Rejected: running it while the environment is made, where there is no session to speak to.
"""

from __future__ import annotations

import importlib
import pickle
from typing import TYPE_CHECKING, Any

from hpc.core.exceptions import RuntimeEnvSetupError
from hpc.core.runenv.spec import HOOK, PACKAGE, unpack

if TYPE_CHECKING:
    from hpc.core.owner.shell.client import Client


class SetupHook:
    """The hook of this process, or that it has none."""

    def __init__(self, env: dict[str, str], client: Client) -> None:
        self.failed = False
        self._name = str(unpack(env)[1].get(HOOK) or "")
        self._client = client

    def __call__(self) -> None:
        """Run it, if it did not run before. Raises RuntimeEnvSetupError where it cannot be had or raises: the process
        is of no use then."""
        name, self._name = self._name, ""
        if not name:
            return
        try:
            self._found(name)()
        except Exception as error:
            self.failed = True
            shown = "" if name.startswith(PACKAGE) else f" {name!r}"
            why = f"{HOOK}{shown} of the runtime environment failed: {type(error).__name__}: {error}"
            raise RuntimeEnvSetupError(why) from error

    def _found(self, name: str) -> Any:
        if name.startswith(PACKAGE):
            from hpc.core.runenv.setup import package_bytes

            return pickle.loads(package_bytes(self._client, name.removeprefix(PACKAGE)))
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)
