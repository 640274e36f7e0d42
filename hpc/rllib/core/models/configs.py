"""Settings of the parts of default modules; ``build`` makes the torch network of each."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpc.rllib.core.models.names import get_activation_fn, get_initializer_fn
from hpc.rllib.core.models.sizes import pair, same_padding, valid_padding

Dims = Sequence[int] | None
Initializer = str | Callable[..., Any] | None


@dataclass
class ModelConfig(abc.ABC):
    """What all settings have. input_dims: shape of the input, without the batch axis."""

    input_dims: Dims = None
    always_check_shapes: bool = False

    @abc.abstractmethod
    def build(self, framework: str = "torch") -> Any:
        """The network that these settings describe."""

    @property
    def output_dims(self) -> tuple[int, ...] | None:
        """Shape of the output, without the batch axis."""
        return None


@dataclass
class _MLPConfig(ModelConfig):
    """Dense layers, and an output layer if ``output_layer_dim`` is set.

    ``clip_log_std`` bounds the second half of the outputs by ``log_std_clip_param``. ``noisy_std``: layers with
    noise on their weights (Fortunato et al. 2018), and its initial size.
    """

    hidden_layer_dims: Sequence[int] = (256, 256)
    hidden_layer_use_bias: bool = True
    hidden_layer_activation: Any = "relu"
    hidden_layer_use_layernorm: bool = False
    hidden_layer_weights_initializer: Initializer = None
    hidden_layer_weights_initializer_config: dict[str, Any] | None = None
    hidden_layer_bias_initializer: Initializer = None
    hidden_layer_bias_initializer_config: dict[str, Any] | None = None
    output_layer_dim: int | None = None
    output_layer_use_layernorm: bool = False
    output_layer_use_bias: bool = True
    output_layer_activation: Any = "linear"
    output_layer_weights_initializer: Initializer = None
    output_layer_weights_initializer_config: dict[str, Any] | None = None
    output_layer_bias_initializer: Initializer = None
    output_layer_bias_initializer_config: dict[str, Any] | None = None
    clip_log_std: bool = False
    log_std_clip_param: float = 20.0
    noisy_std: float | None = None

    @property
    def output_dims(self) -> tuple[int, ...]:
        if self.output_layer_dim is None and not self.hidden_layer_dims:
            raise ValueError("an MLP needs a layer: set hidden_layer_dims, as [32], or output_layer_dim")
        return (int(self.output_layer_dim or self.hidden_layer_dims[-1]),)

    def _validate(self, framework: str = "torch") -> None:
        if self.input_dims is not None and len(self.input_dims) != 1:
            raise ValueError(f"an MLP's input_dims have one number, as [32], not {tuple(self.input_dims)}")
        if self.log_std_clip_param is None:
            raise ValueError("log_std_clip_param must be a number; it is None")
        get_activation_fn(self.hidden_layer_activation, framework)
        get_activation_fn(self.output_layer_activation, framework)
        for name in ("hidden_layer_weights", "hidden_layer_bias", "output_layer_weights", "output_layer_bias"):
            get_initializer_fn(getattr(self, f"{name}_initializer"), framework)


@dataclass
class MLPHeadConfig(_MLPConfig):
    """Dense layers from an encoder's output to, say, action logits."""

    def build(self, framework: str = "torch") -> Any:
        self._validate(framework)
        from hpc.rllib.core.models.torch.heads import TorchMLPHead

        return TorchMLPHead(self)


@dataclass
class FreeLogStdMLPHeadConfig(_MLPConfig):
    """Dense layers to means; the log standard deviations are parameters that hang on no input."""

    def _validate(self, framework: str = "torch") -> None:
        if self.output_dims[0] % 2 == 1:
            raise ValueError(f"means and log standard deviations are an even number, not {self.output_dims[0]}")
        super()._validate(framework)

    def build(self, framework: str = "torch") -> Any:
        self._validate(framework)
        from hpc.rllib.core.models.torch.heads import TorchFreeLogStdMLPHead

        return TorchFreeLogStdMLPHead(self)


@dataclass
class CNNTransposeHeadConfig(ModelConfig):
    """A dense layer and transposed convolutions, from features to an image."""

    initial_image_dims: Sequence[int] = field(default_factory=lambda: [4, 4, 96])
    initial_dense_weights_initializer: Initializer = None
    initial_dense_weights_initializer_config: dict[str, Any] | None = None
    initial_dense_bias_initializer: Initializer = None
    initial_dense_bias_initializer_config: dict[str, Any] | None = None
    cnn_transpose_filter_specifiers: list[list[Any]] = field(
        default_factory=lambda: [[48, [4, 4], 2], [24, [4, 4], 2], [3, [4, 4], 2]]
    )
    cnn_transpose_use_bias: bool = True
    cnn_transpose_activation: Any = "relu"
    cnn_transpose_use_layernorm: bool = False
    cnn_transpose_kernel_initializer: Initializer = None
    cnn_transpose_kernel_initializer_config: dict[str, Any] | None = None
    cnn_transpose_bias_initializer: Initializer = None
    cnn_transpose_bias_initializer_config: dict[str, Any] | None = None

    @property
    def output_dims(self) -> tuple[int, ...]:
        height, width = self.initial_image_dims[:2]
        for _, _, stride in self.cnn_transpose_filter_specifiers:
            down, along = pair(stride)
            height, width = height * down, width * along
        return height, width, self.cnn_transpose_filter_specifiers[-1][0]

    def build(self, framework: str = "torch") -> Any:
        if self.input_dims is None or len(self.input_dims) != 1:
            raise ValueError(f"input_dims of an image head have one number, as [32], not {self.input_dims}")
        from hpc.rllib.core.models.torch.heads import TorchCNNTransposeHead

        return TorchCNNTransposeHead(self)


@dataclass
class CNNEncoderConfig(ModelConfig):
    """Convolutions over images [height, width, channels]. A filter is [channels, kernel, stride(, padding)].

    The padding is "same", if nothing is said, or "valid".
    """

    cnn_filter_specifiers: list[list[Any]] = field(
        default_factory=lambda: [[16, [4, 4], 2], [32, [4, 4], 2], [64, [8, 8], 2]]
    )
    cnn_use_bias: bool = True
    cnn_activation: Any = "relu"
    cnn_use_layernorm: bool = False
    cnn_kernel_initializer: Initializer = None
    cnn_kernel_initializer_config: dict[str, Any] | None = None
    cnn_bias_initializer: Initializer = None
    cnn_bias_initializer_config: dict[str, Any] | None = None
    flatten_at_end: bool = True

    @property
    def output_dims(self) -> tuple[int, ...] | None:
        if not self.input_dims:
            return None
        size: Sequence[int] = self.input_dims[:2]
        depth = self.input_dims[2]
        for channels, kernel, stride, *padding in self.cnn_filter_specifiers:
            depth = channels
            valid = padding and padding[0] != "same"
            size = valid_padding(size, kernel, stride) if valid else same_padding(size, kernel, stride)[1]
        return (int(np.prod([*size, depth])),) if self.flatten_at_end else (size[0], size[1], depth)

    def build(self, framework: str = "torch") -> Any:
        if self.input_dims is None or len(self.input_dims) != 3:
            raise ValueError(f"input_dims of a CNN are (height, width, channels), not {self.input_dims}")
        from hpc.rllib.core.models.torch.encoder import TorchCNNEncoder

        return TorchCNNEncoder(self)


@dataclass
class MLPEncoderConfig(_MLPConfig):
    """Dense layers over one-dimensional observations."""

    def build(self, framework: str = "torch") -> Any:
        self._validate(framework)
        from hpc.rllib.core.models.torch.encoder import TorchMLPEncoder

        return TorchMLPEncoder(self)


@dataclass
class RecurrentEncoderConfig(ModelConfig):
    """An LSTM or GRU, after another encoder (``tokenizer_config``) if one is set."""

    recurrent_layer_type: str = "lstm"
    hidden_dim: int | None = None
    num_layers: int | None = None
    batch_major: bool = True
    hidden_weights_initializer: Initializer = None
    hidden_weights_initializer_config: dict[str, Any] | None = None
    use_bias: bool = True
    hidden_bias_initializer: Initializer = None
    hidden_bias_initializer_config: dict[str, Any] | None = None
    tokenizer_config: ModelConfig | None = None

    @property
    def output_dims(self) -> tuple[int, ...]:
        if self.hidden_dim is None:
            raise ValueError("a recurrent encoder needs hidden_dim")
        return (self.hidden_dim,)

    def build(self, framework: str = "torch") -> Any:
        if self.recurrent_layer_type not in ("gru", "lstm"):
            raise ValueError(f'recurrent_layer_type is "gru" or "lstm", not {self.recurrent_layer_type!r}')
        from hpc.rllib.core.models.torch.encoder import TorchGRUEncoder, TorchLSTMEncoder

        return TorchLSTMEncoder(self) if self.recurrent_layer_type == "lstm" else TorchGRUEncoder(self)


@dataclass
class ActorCriticEncoderConfig(ModelConfig):
    """One encoder for actor and critic, or one for each. inference_only: none for the critic."""

    base_encoder_config: ModelConfig | None = None
    shared: bool = True
    inference_only: bool = False

    @property
    def output_dims(self) -> tuple[int, ...] | None:
        return self.base_encoder_config.output_dims if self.base_encoder_config else None

    def build(self, framework: str = "torch") -> Any:
        from hpc.rllib.core.models.torch.encoder import TorchActorCriticEncoder, TorchStatefulActorCriticEncoder

        if isinstance(self.base_encoder_config, RecurrentEncoderConfig):
            return TorchStatefulActorCriticEncoder(self)
        return TorchActorCriticEncoder(self)


@dataclass
class MultiStreamEncoderConfig(ModelConfig):
    """An encoder per column, then dense layers; each of these also sees the encoders' outputs."""

    base_encoder_configs: dict[str, ModelConfig] = field(default_factory=dict)
    hidden_layer_dims: Sequence[int] = (256, 256, 256)
    hidden_layer_use_bias: bool = True
    hidden_layer_activation: Any = "relu"
    hidden_layer_weights_initializer: Initializer = None
    hidden_layer_weights_initializer_config: dict[str, Any] | None = None
    hidden_layer_bias_initializer: Initializer = None
    hidden_layer_bias_initializer_config: dict[str, Any] | None = None
    output_layer_dim: int | None = None
    output_layer_use_bias: bool = True
    output_layer_activation: Any = "linear"
    output_layer_weights_initializer: Initializer = None
    output_layer_weights_initializer_config: dict[str, Any] | None = None
    output_layer_bias_initializer: Initializer = None
    output_layer_bias_initializer_config: dict[str, Any] | None = None

    @property
    def streams_width(self) -> int:
        """How many features the streams' encoders have together."""
        return sum((config.output_dims or (0,))[0] for config in self.base_encoder_configs.values())

    @property
    def output_dims(self) -> tuple[int, ...]:
        if self.output_layer_dim is not None:
            return (self.output_layer_dim,)
        return (self.hidden_layer_dims[-1],) if self.hidden_layer_dims else (self.streams_width,)

    def build(self, framework: str = "torch") -> Any:
        if not self.base_encoder_configs:
            raise ValueError("base_encoder_configs need one encoder at least, by the name of its column")
        from hpc.rllib.core.models.torch.encoder import TorchMultiStreamEncoder

        return TorchMultiStreamEncoder(self)
