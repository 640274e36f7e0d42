"""Heads of torch: from an encoder's features to logits, values or images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpc.rllib.core.models.torch.base import TorchModel
from hpc.rllib.core.models.torch.primitives import TorchCNNTranspose, TorchMLP, initialize


def mlp_of(config: Any, output_dim: int | None = None) -> TorchMLP:
    """The dense layers that settings of an MLP describe."""
    return TorchMLP(
        input_dim=config.input_dims[0],
        hidden_layer_dims=config.hidden_layer_dims,
        hidden_layer_activation=config.hidden_layer_activation,
        hidden_layer_use_bias=config.hidden_layer_use_bias,
        hidden_layer_use_layernorm=config.hidden_layer_use_layernorm,
        hidden_layer_weights_initializer=config.hidden_layer_weights_initializer,
        hidden_layer_weights_initializer_config=config.hidden_layer_weights_initializer_config,
        hidden_layer_bias_initializer=config.hidden_layer_bias_initializer,
        hidden_layer_bias_initializer_config=config.hidden_layer_bias_initializer_config,
        output_dim=config.output_layer_dim if output_dim is None else output_dim,
        output_use_bias=config.output_layer_use_bias,
        output_layer_use_layernorm=config.output_layer_use_layernorm,
        output_activation=config.output_layer_activation,
        output_weights_initializer=config.output_layer_weights_initializer,
        output_weights_initializer_config=config.output_layer_weights_initializer_config,
        output_bias_initializer=config.output_layer_bias_initializer,
        output_bias_initializer_config=config.output_layer_bias_initializer_config,
        noisy_std=config.noisy_std,
    )


class TorchMLPHead(TorchModel):
    """Dense layers; the second half of the outputs bounded, if they are log standard deviations."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.net = mlp_of(config)
        self.clip_log_std = config.clip_log_std
        self.register_buffer("log_std_clip_param_const", torch.tensor([float(config.log_std_clip_param)]))

    def _forward(self, inputs: Tensor, **kwargs: Any) -> Tensor:
        out = self.net(inputs)
        if not self.clip_log_std:
            return out
        bound = self.config.log_std_clip_param
        means, log_stds = out.chunk(2, dim=-1)
        return torch.cat((means, log_stds.clamp(-bound, bound)), dim=-1)


class TorchFreeLogStdMLPHead(TorchModel):
    """Dense layers to means; log standard deviations that hang on no input."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        half = config.output_dims[0] // 2
        self.net = mlp_of(config, output_dim=half)
        self.log_std = nn.Parameter(torch.zeros(half))
        self.clip_log_std = config.clip_log_std
        self.register_buffer("log_std_clip_param_const", torch.tensor([float(config.log_std_clip_param)]))

    def _forward(self, inputs: Tensor, **kwargs: Any) -> Tensor:
        means = self.net(inputs)
        bound = self.config.log_std_clip_param
        log_std = self.log_std.clamp(-bound, bound) if self.clip_log_std else self.log_std
        return torch.cat((means, log_std.expand_as(means)), dim=-1)


class TorchCNNTransposeHead(TorchModel):
    """A dense layer and transposed convolutions, to images around 0.5."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.initial_dense = nn.Linear(config.input_dims[0], int(np.prod(config.initial_image_dims)))
        how = config.initial_dense_weights_initializer
        initialize(self.initial_dense, how, config.initial_dense_weights_initializer_config)
        how = config.initial_dense_bias_initializer
        initialize(self.initial_dense, how, config.initial_dense_bias_initializer_config, "bias")
        self.cnn_transpose_net = TorchCNNTranspose(
            input_dims=config.initial_image_dims,
            cnn_transpose_filter_specifiers=config.cnn_transpose_filter_specifiers,
            cnn_transpose_activation=config.cnn_transpose_activation,
            cnn_transpose_use_layernorm=config.cnn_transpose_use_layernorm,
            cnn_transpose_use_bias=config.cnn_transpose_use_bias,
            cnn_transpose_kernel_initializer=config.cnn_transpose_kernel_initializer,
            cnn_transpose_kernel_initializer_config=config.cnn_transpose_kernel_initializer_config,
            cnn_transpose_bias_initializer=config.cnn_transpose_bias_initializer,
            cnn_transpose_bias_initializer_config=config.cnn_transpose_bias_initializer_config,
        )

    def _forward(self, inputs: Tensor, **kwargs: Any) -> Tensor:
        image = self.initial_dense(inputs).reshape(-1, *self.config.initial_image_dims)
        return self.cnn_transpose_net(image) + 0.5
