"""Activations, initializers and convolution filters by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

#: Filters by the side of a square image: [channels, kernel, stride].
_FILTERS: dict[int, list[list[Any]]] = {
    96: [[16, [8, 8], 4], [32, [4, 4], 2], [256, [11, 11], 2]],
    84: [[16, [8, 8], 4], [32, [4, 4], 2], [256, [11, 11], 1]],
    64: [[16, [4, 4], 2], [32, [4, 4], 2], [64, [4, 4], 2], [128, [4, 4], 2]],
    42: [[16, [4, 4], 2], [32, [4, 4], 2], [256, [11, 11], 1]],
    10: [[16, [5, 5], 2], [32, [5, 5], 2]],
}
_ACTIVATIONS = {"relu": "ReLU", "tanh": "Tanh", "elu": "ELU", "swish": "SiLU", "silu": "SiLU", "softmax": "Softmax"}


def get_activation_fn(name: str | Callable[..., Any] | None = None, framework: str = "torch") -> Any:
    """The torch module class of an activation: "relu", "tanh", "elu", "swish" or any class of torch.nn.

    "linear" and None: no activation, None. A callable is returned as it is.
    """
    _only_torch(framework)
    if callable(name):
        return name
    if name is None or name.lower() == "linear":
        return None
    from torch import nn

    found = getattr(nn, name, None) or getattr(nn, _ACTIVATIONS.get(name.lower(), ""), None)
    if found is None:
        raise ValueError(f"unknown activation {name!r}: use one of {sorted(_ACTIVATIONS)} or a class of torch.nn")
    return found


def get_initializer_fn(name: str | Callable[..., Any] | None, framework: str = "torch") -> Any:
    """The function of torch.nn.init of this name, as "xavier_uniform_"; a callable and None stay as they are."""
    _only_torch(framework)
    if name is None or callable(name):
        return name
    from torch import nn

    if not name.endswith("_"):
        raise ValueError(
            f"initializer {name!r} does not work in place: take one that ends in an underscore, as {name + '_'!r}"
        )
    found = getattr(nn.init, name.lower(), None)
    if found is None:
        raise ValueError(f"unknown initializer {name!r}: torch.nn.init has no function of that name")
    return found


def get_filter_config(shape: Sequence[int]) -> list[list[Any]]:
    """Convolution filters for images of a shape (height, width, channels), or (channels, height, width)."""
    shape = list(shape)
    for side, filters in _FILTERS.items():
        if shape[:2] == [side, side] or shape[1:] == [side, side]:
            return [list(one) for one in filters]
    wrap = " Atari's frames are meant to be wrapped (wrap_atari_for_new_api_stack)." if shape == [210, 160, 3] else ""
    raise ValueError(
        f"there are no default convolution filters for observations of shape {tuple(shape)}, only for squares of sides "
        f"{sorted(_FILTERS)}.{wrap} Set conv_filters in the model_config, or give an RLModule or connector of your own"
    )


def _only_torch(framework: str) -> None:
    if framework != "torch":
        raise ValueError(f'the framework is "torch", not {framework!r}')
