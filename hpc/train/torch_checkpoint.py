"""TorchCheckpoint: a checkpoint that holds a model, or its weights, in one file of torch."""

from __future__ import annotations

import os
import pickle
import tempfile
from typing import TYPE_CHECKING, Any

from hpc.runs.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch


class TorchCheckpoint(Checkpoint):
    """A checkpoint with the file model.pt. Deprecated by Ray: a plain Checkpoint does as well."""

    MODEL_FILENAME = "model.pt"

    @classmethod
    def from_state_dict(cls, state_dict: dict[str, Any], *, preprocessor: Any = None) -> TorchCheckpoint:
        """A checkpoint of these weights; DistributedDataParallel's ``module.`` is taken off their names."""
        return cls._of({name.removeprefix("module."): value for name, value in state_dict.items()}, preprocessor)

    @classmethod
    def from_model(cls, model: torch.nn.Module, *, preprocessor: Any = None) -> TorchCheckpoint:
        """A checkpoint of the whole model, pickled: who loads it runs what it says."""
        return cls._of(model, preprocessor)

    @classmethod
    def _of(cls, value: Any, preprocessor: Any) -> TorchCheckpoint:
        import torch

        if preprocessor is not None:
            raise ValueError("TorchCheckpoint keeps no preprocessor: report it as a file of its own")
        folder = tempfile.mkdtemp(prefix="checkpoint_")
        torch.save(value, os.path.join(folder, cls.MODEL_FILENAME))
        return cls(folder)

    def get_model(self, model: torch.nn.Module | None = None) -> torch.nn.Module:
        """The model, on the CPU. Weights are loaded into ``model``, and are then all that is loaded: no code runs.

        Without a model the file must hold a whole one, and is trusted. Raises ValueError if it holds weights only.
        """
        import torch

        with self.as_directory() as folder:
            path = os.path.join(folder, self.MODEL_FILENAME)
            if not os.path.exists(path):
                raise RuntimeError(f"{self.path} has no {self.MODEL_FILENAME}: it was not made by TorchCheckpoint")
            try:
                found = torch.load(path, map_location="cpu", weights_only=model is not None)
            except pickle.UnpicklingError as error:
                whole = "the checkpoint holds more than weights; if you trust it, call get_model() without a model"
                raise ValueError(f"{whole}: {error}") from error
        if isinstance(found, torch.nn.Module):
            return found
        if model is None:
            raise ValueError("the checkpoint holds weights only: give get_model() the model that they belong to")
        model.load_state_dict(found)
        return model
