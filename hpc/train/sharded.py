"""States that lie on all ranks together, saved and loaded by torch.distributed.checkpoint.

What is saved by some number of ranks can be loaded by another. torch writes and reads the files; here they get their
place, and the checkpoint that they make is reported as any other one is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.uploading import private_directory
from hpc.runs.validation import CheckpointUploadMode, ValidationTaskConfig
from hpc.train.bringing import Part
from hpc.train.loop import Loop, check_name, current_loop, validation_task

#: torch does not say which of its names are public.
dcp: Any = torch.distributed.checkpoint


def report_state(
    metrics: dict[str, Any],
    state: dict[str, Any],
    checkpoint_dir_name: str | None,
    checkpoint_upload_mode: CheckpointUploadMode,
    validation: bool | ValidationTaskConfig,
) -> None:
    """See hpc.train.torch.report_state."""
    loop = current_loop("torch.report_state")
    mode = checkpoint_upload_mode
    if mode not in (CheckpointUploadMode.SYNC, CheckpointUploadMode.ASYNC):
        raise ValueError(f"report_state stores a state with SYNC or ASYNC, not with {mode!r}")
    check_name(checkpoint_dir_name)
    _saver.finish()
    path = private_directory(loop.place)
    checkpoint = Checkpoint(path)
    task = validation_task(loop, checkpoint, validation)
    ready = None
    if mode is CheckpointUploadMode.ASYNC:
        ready = _saver.begin(_plain(state), path)
    else:
        _saver.save(_plain(state), path)
    loop.report(metrics, Part("files", checkpoint, True, None, ready), mode, checkpoint_dir_name, task)


def load_state(state: dict[str, Any], checkpoint: Checkpoint | None) -> bool:
    """See hpc.train.torch.load_state."""
    loop: Loop = current_loop("torch.load_state")
    found = checkpoint or loop.checkpoint
    if found is None:
        return False
    into = _plain(state)
    with found.as_directory() as path:
        if not os.path.exists(os.path.join(path, ".metadata")):
            raise ValueError(f"{found} was not saved by report_state: it has no file .metadata")
        reader = dcp.FileSystemReader(path)
        dcp.load(into, storage_reader=reader, process_group=_saver.group(), no_dist=not dist.is_initialized())
    _put_back(state, into)
    return True


class _Saver:
    """Saves states, and keeps what a process needs for it: a group of its own, and memory for copies of the state."""

    def __init__(self) -> None:
        self._group: Any = None
        self._parent: Any = None
        self._stager: Any = None
        self._last: Future[Any] | None = None

    def group(self) -> Any:
        """A process group on the CPU for the ranks to agree: the training's own would mix with its operations."""
        if not dist.is_initialized():
            return None
        if self._group is None or self._parent is not dist.group.WORLD:
            self._parent = dist.group.WORLD
            self._group = dist.new_group(backend="gloo")
        return self._group

    def save(self, state: dict[str, Any], path: str) -> None:
        """Save before this returns."""
        writer = dcp.FileSystemWriter(path)
        dcp.save(state, storage_writer=writer, process_group=self.group(), no_dist=self.group() is None)

    def begin(self, state: dict[str, Any], path: str) -> Callable[[], Any]:
        """Copy the state, and save the copy beside the training. Returns what waits for the end of that."""
        writer = dcp.FileSystemWriter(path)
        more: dict[str, Any] = {"process_group": self.group(), "no_dist": self.group() is None}
        stager = self._staging()
        if stager is not None:
            more["async_stager"] = stager
        saving = dcp.async_save(state, storage_writer=writer, **more)
        self._last = saving if isinstance(saving, Future) else saving.upload_completion
        return self._last.result

    def finish(self) -> None:
        """Wait until the copy of the state is free. What went wrong with it is raised by the report that waits."""
        if self._last is not None:
            self._last.exception()
        self._last = None

    def _staging(self) -> Any:
        """Memory that is kept for the next copy: that of a new one has to be found page by page. None: torch's own."""
        if self._stager is None:
            try:
                from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
            except ImportError:
                return None
            pinned = torch.cuda.is_available()
            self._stager = DefaultStager(StagingOptions(pinned, False, False, pinned))
        return self._stager


_saver = _Saver()


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """The state with state dicts in place of modules and optimizers: names as without DDP and FSDP."""
    found: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, torch.nn.Module):
            found[name] = get_model_state_dict(value)
        elif isinstance(value, torch.optim.Optimizer):
            found[name] = get_optimizer_state_dict(_module(state), value)
        else:
            found[name] = value
    return found


def _put_back(state: dict[str, Any], loaded: dict[str, Any]) -> None:
    for name, value in state.items():
        if isinstance(value, torch.nn.Module):
            set_model_state_dict(value, loaded[name])
        elif isinstance(value, torch.optim.Optimizer):
            set_optimizer_state_dict(_module(state), value, loaded[name])
        else:
            state[name] = loaded[name]


def _module(state: dict[str, Any]) -> torch.nn.Module:
    """The module that an optimizer of the state is of."""
    modules = [value for value in state.values() if isinstance(value, torch.nn.Module)]
    if len(modules) != 1:
        raise ValueError(
            f"a state with an optimizer needs the one module that it is of, and has {len(modules)}: give state dicts "
            "of torch.distributed.checkpoint.state_dict instead"
        )
    return modules[0]
