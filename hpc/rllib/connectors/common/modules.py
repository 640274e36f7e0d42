"""Questions that connectors ask of a module, be it one or several."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.core import DEFAULT_MODULE_ID
from hpc.rllib.utils.trees import map_tree


def is_multi(rl_module: Any) -> bool:
    """Whether it holds several modules."""
    return rl_module is not None and hasattr(rl_module, "_rl_modules")


def module_of(rl_module: Any, module_id: str | None) -> Any:
    """The single module of an id; the default one where there is no id."""
    if not is_multi(rl_module):
        return rl_module
    return rl_module[DEFAULT_MODULE_ID if module_id is None else module_id]


def is_stateful(rl_module: Any, module_id: str | None = None) -> bool:
    """Whether a module has a state between steps."""
    module = module_of(rl_module, module_id)
    return module is not None and bool(module.is_stateful())


def max_seq_len(rl_module: Any, module_id: str | None = None) -> int:
    """How long the sequences are that a module with a state learns from.

    Raises:
        ValueError: its model config does not say.
    """
    found = module_of(rl_module, module_id).model_config
    length = found.get("max_seq_len") if isinstance(found, dict) else getattr(found, "max_seq_len", None)
    if length is None:
        raise ValueError(
            "You are using a stateful RLModule and are not providing a 'max_seq_len' key inside your "
            "`model_config`. You "
            "can set this dict and/or override keys in it via `config.rl_module(model_config={'max_seq_len': [some "
            "int]})`."
        )
    return int(length)


def to_numpy(tree: Any) -> Any:
    """Arrays of tensors; what is none stays."""
    return map_tree(lambda leaf: leaf.detach().cpu().numpy() if hasattr(leaf, "detach") else leaf, tree)


def initial_state(module: Any) -> Any:
    """A module's state before the first step, as arrays."""
    return map_tree(np.asarray, to_numpy(module.get_initial_state()))
