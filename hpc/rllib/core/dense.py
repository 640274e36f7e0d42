"""Dense networks in numpy, with the weights of torch ones: for acting on small batches.

Weights are kept transposed and contiguous, and each layer's outputs in an array that is used again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from hpc.rllib.core.models.torch.encoder import TorchMLPEncoder
from hpc.rllib.core.models.torch.heads import TorchFreeLogStdMLPHead, TorchMLPHead
from hpc.rllib.core.models.torch.primitives import LAYERNORM_EPS


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0, out=x)


def _tanh(x: np.ndarray) -> np.ndarray:
    return np.tanh(x, out=x)


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1.0 + np.exp(-x))


def _elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0.0)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


_ACTIVATIONS: dict[type, Callable[[np.ndarray], np.ndarray]] = {
    nn.ReLU: _relu,
    nn.Tanh: _tanh,
    nn.SiLU: _silu,
    nn.ELU: _elu,
    nn.Sigmoid: _sigmoid,
}


class _Linear:
    """x @ W + b, and then an activation or none."""

    def __init__(self, prefix: str, layer: nn.Linear) -> None:
        self.prefix = prefix
        self.bias_there = layer.bias is not None
        self.multiplications = layer.in_features * layer.out_features
        self.weight = np.zeros((layer.in_features, layer.out_features), np.float32)
        self.bias = np.zeros(layer.out_features, np.float32)
        self.activation: Callable[[np.ndarray], np.ndarray] | None = None
        self._out = np.empty((0, layer.out_features), np.float32)

    def load(self, weights: dict[str, np.ndarray]) -> None:
        self.weight = np.ascontiguousarray(np.asarray(weights[f"{self.prefix}.weight"], np.float32).T)
        if self.bias_there:
            self.bias = np.array(weights[f"{self.prefix}.bias"], np.float32)

    def __call__(self, x: np.ndarray, fresh: bool) -> np.ndarray:
        if fresh:
            out = x @ self.weight
        else:
            if len(self._out) != len(x):
                self._out = np.empty((len(x), self.weight.shape[1]), np.float32)
            out = np.matmul(x, self.weight, out=self._out)
        out += self.bias
        return out if self.activation is None else self.activation(out)


class _LayerNorm:
    """Normalisation over the features of each row."""

    multiplications = 0

    def __init__(self, prefix: str, layer: nn.LayerNorm) -> None:
        self.prefix = prefix
        self.eps = layer.eps or LAYERNORM_EPS
        self.activation: Callable[[np.ndarray], np.ndarray] | None = None

    def load(self, weights: dict[str, np.ndarray]) -> None:
        self.weight = np.array(weights[f"{self.prefix}.weight"], np.float32)
        self.bias = np.array(weights[f"{self.prefix}.bias"], np.float32)

    def __call__(self, x: np.ndarray, fresh: bool) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        out = centred / np.sqrt(variance + np.float32(self.eps)) * self.weight + self.bias
        return out if self.activation is None else self.activation(out)


class Dense:
    """An encoder and a head of dense layers. ``encode`` gives the features, valid until the next call."""

    def __init__(self, encoder: list[Any], head: list[Any], finish: _Finish | None) -> None:
        self._encoder = encoder
        self._head = head
        self._finish = finish
        self.encoder_names = [layer.prefix for layer in encoder]
        self.multiplications = sum(layer.multiplications for layer in [*encoder, *head])

    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Take weights by the names of the torch module."""
        for layer in [*self._encoder, *self._head]:
            layer.load(weights)
        if self._finish is not None:
            self._finish.load(weights)

    def encode(self, obs: Any) -> np.ndarray:
        """Features of observations [N, d]."""
        x = np.asarray(obs, np.float32)
        for layer in self._encoder:
            x = layer(x, False)
        return x

    def head(self, features: np.ndarray) -> np.ndarray:
        """Outputs of features, in an array of their own."""
        x = features
        for i, layer in enumerate(self._head):
            x = layer(x, i == len(self._head) - 1)
        return x if self._finish is None else self._finish(x)


class _Finish:
    """Log standard deviations beside means: bounded, or parameters of their own."""

    def __init__(self, prefix: str, head: Any) -> None:
        self.bound = float(head.config.log_std_clip_param) if head.clip_log_std else np.inf
        self.name = f"{prefix}.log_std" if isinstance(head, TorchFreeLogStdMLPHead) else None
        self.log_std: np.ndarray | None = None

    def load(self, weights: dict[str, np.ndarray]) -> None:
        if self.name is not None:
            self.log_std = np.clip(np.array(weights[self.name], np.float32), -self.bound, self.bound)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if self.log_std is not None:
            return np.concatenate([x, np.broadcast_to(self.log_std, x.shape)], axis=-1)
        half = x.shape[-1] // 2
        np.clip(x[:, half:], -self.bound, self.bound, out=x[:, half:])
        return x


def dense_of(module: nn.Module, parts: list[Any]) -> Dense | None:
    """A numpy network of parts of a module: [encoder, head] or [head]; None where a part is not dense layers."""
    names = {id(part): name for name, part in module.named_modules()}
    lists: list[list[Any]] = []
    finish = None
    for part in parts:
        if type(part) not in (TorchMLPEncoder, TorchMLPHead, TorchFreeLogStdMLPHead):
            return None
        prefix = names[id(part)]
        layers = _layers(f"{prefix}.net.mlp", part.net.mlp)
        if layers is None:
            return None
        if not isinstance(part, TorchMLPEncoder) and (part.clip_log_std or isinstance(part, TorchFreeLogStdMLPHead)):
            finish = _Finish(prefix, part)
        lists.append(layers)
    return Dense(lists[0] if len(lists) > 1 else [], lists[-1], finish)


def _layers(prefix: str, stack: nn.Sequential) -> list[Any] | None:
    layers: list[Any] = []
    for i, layer in enumerate(stack):
        if type(layer) is nn.Linear:
            layers.append(_Linear(f"{prefix}.{i}", layer))
        elif type(layer) is nn.LayerNorm:
            layers.append(_LayerNorm(f"{prefix}.{i}", layer))
        elif type(layer) in _ACTIVATIONS and layers and layers[-1].activation is None:
            layers[-1].activation = _ACTIVATIONS[type(layer)]
        else:
            return None
    return layers
