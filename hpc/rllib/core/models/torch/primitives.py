"""Stacks of dense, noisy and convolution layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hpc.rllib.core.models.names import get_activation_fn, get_initializer_fn
from hpc.rllib.core.models.sizes import pair, same_padding, transpose_padding, valid_padding

LAYERNORM_EPS = 0.001


class TorchMLP(nn.Module):
    """Dense layers with an activation after each, and an output layer if ``output_dim`` is set."""

    def __init__(
        self,
        *,
        input_dim: int,
        hidden_layer_dims: Sequence[int],
        hidden_layer_activation: Any = "relu",
        hidden_layer_use_bias: bool = True,
        hidden_layer_use_layernorm: bool = False,
        hidden_layer_weights_initializer: Any = None,
        hidden_layer_weights_initializer_config: dict[str, Any] | None = None,
        hidden_layer_bias_initializer: Any = None,
        hidden_layer_bias_initializer_config: dict[str, Any] | None = None,
        output_dim: int | None = None,
        output_use_bias: bool = True,
        output_layer_use_layernorm: bool = False,
        output_activation: Any = "linear",
        output_weights_initializer: Any = None,
        output_weights_initializer_config: dict[str, Any] | None = None,
        output_bias_initializer: Any = None,
        output_bias_initializer_config: dict[str, Any] | None = None,
        noisy_std: float | None = None,
    ) -> None:
        super().__init__()
        self.input_dim = input_dim
        layers: list[nn.Module] = []
        width = input_dim
        for dim in hidden_layer_dims:
            layers.append(dense(width, dim, hidden_layer_use_bias, noisy_std))
            initialize(layers[-1], hidden_layer_weights_initializer, hidden_layer_weights_initializer_config)
            initialize(layers[-1], hidden_layer_bias_initializer, hidden_layer_bias_initializer_config, "bias")
            _finish(layers, dim, hidden_layer_use_layernorm, hidden_layer_activation)
            width = dim
        if output_dim:
            layers.append(dense(width, output_dim, output_use_bias, noisy_std))
            initialize(layers[-1], output_weights_initializer, output_weights_initializer_config)
            initialize(layers[-1], output_bias_initializer, output_bias_initializer_config, "bias")
            _finish(layers, output_dim, output_layer_use_layernorm, output_activation)
        self.mlp = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class NoisyLinear(nn.Module):
    """A dense layer with factorised noise on its weights (Fortunato et al. 2018), drawn anew in each forward pass.

    Eval mode has no noise.
    """

    def __init__(self, width: int, dim: int, std: float, bias: bool = True) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(dim, width).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full((dim, width), std * bound))
        self.bias = nn.Parameter(torch.empty(dim).uniform_(-bound, bound)) if bias else None
        self.bias_sigma = nn.Parameter(torch.full((dim,), std * bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return nn.functional.linear(x, self.weight, self.bias)
        inputs, outputs = _scaled(self.weight.shape[1], x), _scaled(self.weight.shape[0], x)
        weight = self.weight + self.weight_sigma * torch.outer(outputs, inputs)
        bias = None
        if self.bias is not None and self.bias_sigma is not None:
            bias = self.bias + self.bias_sigma * outputs
        return nn.functional.linear(x, weight, bias)


class TorchCNN(nn.Module):
    """Convolutions over images [B, height, width, channels]; a filter is [channels, kernel, stride(, padding)]."""

    def __init__(
        self,
        *,
        input_dims: Sequence[int],
        cnn_filter_specifiers: Sequence[Sequence[Any]],
        cnn_use_bias: bool = True,
        cnn_use_layernorm: bool = False,
        cnn_activation: Any = "relu",
        cnn_kernel_initializer: Any = None,
        cnn_kernel_initializer_config: dict[str, Any] | None = None,
        cnn_bias_initializer: Any = None,
        cnn_bias_initializer_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        size, depth = tuple(input_dims[:2]), input_dims[2]
        for channels, kernel, stride, *padding in cnn_filter_specifiers:
            if padding and padding[0] != "same":
                size = valid_padding(size, kernel, stride)
            else:
                borders, size = same_padding(size, kernel, stride)
                layers.append(nn.ZeroPad2d(borders))
            layers.append(nn.Conv2d(depth, channels, kernel, stride, bias=cnn_use_bias))
            initialize(layers[-1], cnn_kernel_initializer, cnn_kernel_initializer_config)
            initialize(layers[-1], cnn_bias_initializer, cnn_bias_initializer_config, "bias")
            if cnn_use_layernorm:
                layers.append(LayerNorm1D(channels, eps=LAYERNORM_EPS))
            _activate(layers, cnn_activation)
            depth = channels
        self.cnn = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.cnn(inputs.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class TorchCNNTranspose(nn.Module):
    """Transposed convolutions: images [B, height, width, channels] grow by each stride."""

    def __init__(
        self,
        *,
        input_dims: Sequence[int],
        cnn_transpose_filter_specifiers: Sequence[Sequence[Any]],
        cnn_transpose_use_bias: bool = True,
        cnn_transpose_activation: Any = "relu",
        cnn_transpose_use_layernorm: bool = False,
        cnn_transpose_kernel_initializer: Any = None,
        cnn_transpose_kernel_initializer_config: dict[str, Any] | None = None,
        cnn_transpose_bias_initializer: Any = None,
        cnn_transpose_bias_initializer_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        depth = input_dims[2]
        for i, (channels, kernel, stride) in enumerate(cnn_transpose_filter_specifiers):
            last = i == len(cnn_transpose_filter_specifiers) - 1
            rows, columns = pair(kernel)
            layers += [Stride2D(*pair(stride)), nn.ZeroPad2d(transpose_padding((1, 1), kernel, stride)[0])]
            bias = cnn_transpose_use_bias or last
            layers.append(nn.ConvTranspose2d(depth, channels, kernel, 1, padding=(rows - 1, columns - 1), bias=bias))
            initialize(layers[-1], cnn_transpose_kernel_initializer, cnn_transpose_kernel_initializer_config)
            initialize(layers[-1], cnn_transpose_bias_initializer, cnn_transpose_bias_initializer_config, "bias")
            if cnn_transpose_use_layernorm and not last:
                layers.append(LayerNorm1D(channels, eps=LAYERNORM_EPS))
            if not last:
                _activate(layers, cnn_transpose_activation)
            depth = channels
        self.cnn_transpose = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.cnn_transpose(inputs.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Stride2D(nn.Module):
    """Zeros between the pixels of an image: stride - 1 of them."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows = rows
        self.columns = columns

    def forward(self, x: Tensor) -> Tensor:
        batch, depth, height, width = x.shape
        spread = x.new_zeros(batch, depth, (height - 1) * self.rows + 1, (width - 1) * self.columns + 1)
        spread[:, :, :: self.rows, :: self.columns] = x
        return spread


class LayerNorm1D(nn.Module):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, num_features: int, **kwargs: Any) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(num_features, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer_norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def dense(width: int, dim: int, bias: bool, noisy_std: float | None) -> nn.Module:
    """A dense layer, noisy if a size of the noise is given."""
    return nn.Linear(width, dim, bias=bias) if noisy_std is None else NoisyLinear(width, dim, noisy_std, bias)


def initialize(layer: nn.Module, how: Any, kwargs: dict[str, Any] | None, name: str = "weight") -> None:
    """Fill a layer's weight or bias by an initializer; None: leave it as it is."""
    function = get_initializer_fn(how)
    parameter = getattr(layer, name)
    if function is not None and parameter is not None:
        function(parameter, **(kwargs or {}))


def _finish(layers: list[nn.Module], dim: int, layernorm: bool, activation: Any) -> None:
    if layernorm:
        layers.append(nn.LayerNorm(dim, eps=LAYERNORM_EPS))
    _activate(layers, activation)


def _activate(layers: list[nn.Module], activation: Any) -> None:
    made = get_activation_fn(activation)
    if made is not None:
        layers.append(made())


def _scaled(n: int, like: Tensor) -> Tensor:
    noise = torch.randn(n, device=like.device)
    return noise.sign() * noise.abs().sqrt()
