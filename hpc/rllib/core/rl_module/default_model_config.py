"""The settings of default modules: sizes, activations, recurrence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Initializer = str | Callable[..., Any] | None


@dataclass
class DefaultModelConfig:
    """RLlib's settings of default modules, with its defaults.

    An initializer is a function of ``torch.nn.init`` or its name with the ending underscore; None: torch's own.
    """

    # Layers for one-dimensional observations.
    fcnet_hiddens: list[int] = field(default_factory=lambda: [256, 256])
    fcnet_activation: str = "tanh"
    fcnet_kernel_initializer: Initializer = None
    fcnet_kernel_initializer_kwargs: dict[str, Any] | None = None
    fcnet_bias_initializer: Initializer = None
    fcnet_bias_initializer_kwargs: dict[str, Any] | None = None
    fcnet_use_layernorm: bool = False
    # Layers for images: [[channels, kernel, stride], ...]; None: chosen by the image's size.
    conv_filters: list[list[Any]] | None = None
    conv_activation: str = "relu"
    conv_kernel_initializer: Initializer = None
    conv_kernel_initializer_kwargs: dict[str, Any] | None = None
    conv_bias_initializer: Initializer = None
    conv_bias_initializer_kwargs: dict[str, Any] | None = None
    # Layers between the encoder and each output.
    head_fcnet_hiddens: list[int] = field(default_factory=list)
    head_fcnet_activation: str = "relu"
    head_fcnet_kernel_initializer: Initializer = None
    head_fcnet_kernel_initializer_kwargs: dict[str, Any] | None = None
    head_fcnet_bias_initializer: Initializer = None
    head_fcnet_bias_initializer_kwargs: dict[str, Any] | None = None
    head_fcnet_use_layernorm: bool = False
    # Continuous actions: a log standard deviation that hangs on no observation, and its bound.
    free_log_std: bool = False
    log_std_clip_param: float = 20.0
    # One encoder for policy and value function.
    vf_share_layers: bool = True
    # An LSTM after the encoder. max_seq_len is the longest sequence that a learner unrolls.
    use_lstm: bool = False
    max_seq_len: int = 20
    lstm_cell_size: int = 256
    lstm_use_prev_action: bool = False
    lstm_use_prev_reward: bool = False
    lstm_kernel_initializer: Initializer = None
    lstm_kernel_initializer_kwargs: dict[str, Any] | None = None
    lstm_bias_initializer: Initializer = None
    lstm_bias_initializer_kwargs: dict[str, Any] | None = None
    # Layers that join several streams, as the observations and actions of a Q-function.
    fusionnet_hiddens: list[int] = field(default_factory=lambda: [256, 256])
    fusionnet_activation: str = "tanh"
    fusionnet_kernel_initializer: Initializer = None
    fusionnet_kernel_initializer_kwargs: dict[str, Any] | None = None
    fusionnet_bias_initializer: Initializer = None
    fusionnet_bias_initializer_kwargs: dict[str, Any] | None = None
