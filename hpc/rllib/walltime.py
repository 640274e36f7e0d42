"""Training that a job's end does not end: all is saved before it, and the next job goes on."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.tune.flat import flatten_dict
from hpc.tune.metrics import is_over
from hpc.tune.walltime import Walltime

_PREFIX, _UNFINISHED = "checkpoint_", ".unfinished"


@dataclass
class Training:
    """How `keep_training` ended. result: of the last iteration. complete: whether `stop` says that it is enough.

    path: the checkpoint with all that was learnt. reason: why it is not complete: "the session ends", a signal.
    """

    result: dict[str, Any]
    complete: bool
    path: str
    reason: str = ""


def keep_training(
    config: Any,
    path: str | Path,
    *,
    stop: Mapping[str, float] | Callable[[dict[str, Any]], bool],
    save_every_s: float = 600.0,
    keep: int = 2,
    on_result: Callable[[Any, dict[str, Any]], None] | None = None,
) -> Training:
    """Train until `stop` is reached, or the job is about to end; begin from the last checkpoint below the path.

    config: an AlgorithmConfig. stop: bounds of metrics, as ``{"env_runners/episode_return_mean": 450}``, or a function
    of the result; one bound is enough. save_every_s: seconds between checkpoints; keep: how many of them stay.
    on_result: called with the algorithm and each result.

    The job's end is known in a session (`hpc.init`), where the scheduler says it; SIGTERM, SIGUSR1 and Ctrl-C are
    noticed also without one. Run the same program in the next job, and it goes on with other resources, too.
    Raises ValueError where no checkpoint is to stay.
    """
    if keep < 1:
        raise ValueError(f"keep={keep}: one checkpoint has to stay, so that the next job can go on")
    root = Path(path)
    root.mkdir(parents=True, exist_ok=True)
    for half in root.glob(f"{_PREFIX}*{_UNFINISHED}"):  # of a job that was ended while it wrote
        shutil.rmtree(half)
    walltime = Walltime(time.monotonic, _context())
    with walltime.signals():
        algorithm = _begun(config, root)
        try:
            return _train(algorithm, root, walltime, stop, save_every_s, keep, on_result)
        finally:
            algorithm.stop()


def _train(
    algorithm: Any,
    root: Path,
    walltime: Walltime,
    stop: Any,
    save_every_s: float,
    keep: int,
    on_result: Any,
) -> Training:
    saved_s, result = time.monotonic(), dict(algorithm._last_result or {})
    while True:
        notice = walltime.look()
        if notice is not None:
            return Training(result, False, _save(algorithm, root, keep, walltime), notice.why)
        began_s = time.monotonic()
        result = algorithm.train()
        walltime.step_took(time.monotonic() - began_s)
        if on_result is not None:
            on_result(algorithm, result)
        if stop(result) if callable(stop) else is_over(flatten_dict(result), stop):
            return Training(result, True, _save(algorithm, root, keep, walltime))
        if time.monotonic() - saved_s >= save_every_s:
            _save(algorithm, root, keep, walltime)
            saved_s = time.monotonic()


def last_checkpoint(path: str | Path) -> str | None:
    """The newest checkpoint below a path that `keep_training` has written; None if there is none."""
    found = _checkpoints(Path(path))
    return str(found[-1]) if found else None


def _begun(config: Any, root: Path) -> Any:
    latest = last_checkpoint(root)
    if latest is None:
        return config.build_algo()
    from hpc.rllib.algorithms.algorithm import Algorithm

    return Algorithm.from_checkpoint(latest, config=config.copy(copy_frozen=False))


def _save(algorithm: Any, root: Path, keep: int, walltime: Walltime) -> str:
    """Write a checkpoint under another name first: one with its name is whole.

    That of this iteration may be there, written just before or gone on from: nothing was learnt since.
    """
    began_s = time.monotonic()
    name = root / f"{_PREFIX}{algorithm.training_iteration:06d}"
    if name.exists():
        return str(name)
    beside = root / f"{name.name}{_UNFINISHED}"
    algorithm.save_to_path(beside)
    os.rename(beside, name)
    for old in _checkpoints(root)[:-keep]:
        shutil.rmtree(old)
    walltime.save_took(time.monotonic() - began_s)
    return str(name)


def _checkpoints(root: Path) -> list[Path]:
    found = {one.name.removeprefix(_PREFIX): one for one in root.glob(f"{_PREFIX}*")}
    return [found[number] for number in sorted((one for one in found if one.isdecimal()), key=int)]


class _NoSession:
    """What is known of the end without a session: nothing."""

    def time_left_s(self) -> None:
        return None

    def draining(self) -> None:
        return None


def _context() -> Any:
    import hpc

    return hpc.get_runtime_context() if hpc.is_initialized() else _NoSession()
