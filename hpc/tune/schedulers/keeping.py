"""Keep a scheduler's attributes as bytes: trials that it holds are kept by their ids.

Attributes that cannot be pickled are left out, with a warning that names them.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpc import cloudpickle
from hpc.tune.trial import Trial


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    """Pickles all but trials, for which an id stands."""

    def persistent_id(self, obj: Any) -> str | None:
        """The id of a trial."""
        return obj.trial_id if isinstance(obj, Trial) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, get_trial: Callable[[str], Trial | None] | None) -> None:
        super().__init__(file)
        self.get_trial = get_trial

    def persistent_load(self, trial_id: str) -> Any:
        """The trial of this id."""
        if self.get_trial is None:
            raise ValueError(f"the state of a scheduler holds trial {trial_id}: load(state, get_trial) can find it")
        return self.get_trial(trial_id)


def _packed(value: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


def pack(attributes: dict[str, Any]) -> bytes:
    """All attributes that can be pickled, together, so that what they share stays shared."""
    try:
        return _packed(attributes)
    except Exception:
        return _packed({name: value for name, value in attributes.items() if _can_pack(name, value)})


def _can_pack(name: str, value: Any) -> bool:
    try:
        _packed(value)
    except Exception as error:
        warnings.warn(
            f"the scheduler's attribute {name!r} cannot be pickled ({error}): after a continuation it is as __init__ "
            "leaves it. Give the scheduler state() and load(state) of its own to keep what matters",
            RuntimeWarning,
            stacklevel=4,
        )
        return False
    return True


def unpack(data: bytes, get_trial: Callable[[str], Trial | None] | None = None) -> dict[str, Any]:
    """The attributes that were packed. get_trial: the trial of an id, where some hold trials."""
    attributes: dict[str, Any] = _Unpickler(io.BytesIO(data), get_trial).load()
    return attributes


def write(path: str, attributes: dict[str, Any]) -> None:
    """Write attributes to a file, trials and all, as Ray does."""
    Path(path).expanduser().write_bytes(cloudpickle.dumps(attributes))


def read(path: str) -> dict[str, Any]:
    """The attributes in a file."""
    attributes: dict[str, Any] = pickle.loads(Path(path).expanduser().read_bytes())
    return attributes
