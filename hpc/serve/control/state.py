"""The controller's state as bytes, for the keys of the head: another controller goes on from there.

Specs, which have the users' code, are kept apart from the rest, each once, under the digest of its bytes. What callers
have told lately is not kept: they tell again.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Iterable
from typing import Any

from hpc import cloudpickle
from hpc.serve.control.autoscale import Load
from hpc.serve.control.machine import Machine
from hpc.serve.specs import DeploymentSpec


class Writer:
    """Writes states. ``blobs``: the specs that the last state refers to, by their digests."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self._known: dict[int, tuple[DeploymentSpec, str]] = {}

    def state_of(self, machine: Machine, more: Any = None) -> bytes:
        """The state of a machine, and whatever the shell keeps beside it."""
        used: dict[str, bytes] = {}
        known: dict[int, tuple[DeploymentSpec, str]] = {}
        file = io.BytesIO()
        pickler = _Pickler(file, lambda spec: self._digest(spec, used, known))
        loads = [(one, one.load) for one in machine.deployments.values()]
        try:
            for one, _ in loads:
                one.load = Load()
            pickler.dump((_fields(machine), more))
        finally:
            for one, load in loads:
                one.load = load
        self.blobs, self._known = used, known
        return file.getvalue()

    def blobs_of(self, specs: Iterable[DeploymentSpec]) -> dict[str, bytes]:
        """Specs as the next state will refer to them, by their digests."""
        used: dict[str, bytes] = {}
        known: dict[int, tuple[DeploymentSpec, str]] = {}
        for spec in specs:
            self._digest(spec, used, known)
        self._known, self.blobs = {**self._known, **known}, {**self.blobs, **used}
        return used

    def _digest(
        self, spec: DeploymentSpec, used: dict[str, bytes], known: dict[int, tuple[DeploymentSpec, str]]
    ) -> str:
        found = known.get(id(spec)) or self._known.get(id(spec))
        if found is None:
            data = cloudpickle.dumps(spec)
            digest = hashlib.sha256(data).hexdigest()[:32]
        else:
            digest = found[1]
            data = used.get(digest) or self.blobs[digest]
        known[id(spec)], used[digest] = (spec, digest), data
        return digest


#: What a machine keeps. The rest is made anew, or is of one event.
_KEPT = ("deployments", "splits", "target_capacity", "is_ending", "routes_version")


def _fields(machine: Machine) -> dict[str, Any]:
    kept = {name: getattr(machine, name) for name in _KEPT}
    return {
        **kept,
        "apps": machine.apps.table,
        "proxies": machine.proxies.table,
        "location": machine.proxies.location,
        "head": machine.proxies.head,
    }


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, digest_of: Callable[[DeploymentSpec], str]) -> None:
        super().__init__(file)
        self._digest_of = digest_of

    def persistent_id(self, obj: Any) -> Any:
        return self._digest_of(obj) if isinstance(obj, DeploymentSpec) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, blob_of: Callable[[str], bytes]) -> None:
        super().__init__(file)
        self._blob_of = blob_of
        self._specs: dict[str, DeploymentSpec] = {}

    def persistent_load(self, pid: Any) -> Any:
        if pid not in self._specs:
            self._specs[pid] = pickle.loads(self._blob_of(pid))
        return self._specs[pid]


def restore(machine: Machine, state: bytes, blob_of: Callable[[str], bytes]) -> Any:
    """Fill a new machine with what another one was. Returns what the shell has kept beside it."""
    fields, more = _Unpickler(io.BytesIO(state), blob_of).load()
    for name in _KEPT:
        setattr(machine, name, fields[name])
    machine.apps.table = fields["apps"]
    machine.proxies.table = fields["proxies"]
    machine.proxies.location, machine.proxies.head = fields["location"], fields["head"]
    for one in machine.deployments.values():
        one.told = ()
    return more
